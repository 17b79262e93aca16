"""The kinds of errors that users see, told apart by exit code.

Every message names the place and the remedy; users see no traceback for them.
"""


class UsageError(Exception):
    """The command, a file, this machine or this user does not allow it (exit code 2)."""


class RunError(Exception):
    """A run was begun and could not be carried out (exit code 1)."""


class ScenarioError(UsageError):
    """The scenario cannot be run as it is; the message names file, field and remedy."""
