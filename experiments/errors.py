"""Two kinds of bad news, told apart by exit code.

A message of either names the place and the remedy; no traceback is shown to users for them.
"""


class UsageError(Exception):
    """The command, a file, this machine or this user does not allow it (exit code 2)."""


class RunError(Exception):
    """A run was begun and could not be carried out (exit code 1)."""
