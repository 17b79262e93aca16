"""How many examples hypothesis tries: all in a thorough run, a share of them in a quick one."""

from typing import Any

from hypothesis import settings

THOROUGH, QUICK = 30, 6
"""The number of examples of a test that names none, by profile."""


def register_profiles() -> None:
    """Register the profiles; `make check` uses `--hypothesis-profile quick`, the default is
    thorough.

    There is no deadline: how long an example takes depends on the machine's load, not on the code.
    """
    settings.register_profile("quick", deadline=None, max_examples=QUICK)
    settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)
    settings.load_profile("thorough")


def examples(number: int, **more: Any) -> settings:
    """Return settings for `number` examples in a thorough run, the same ones every time.

    `more` are further settings of hypothesis.
    """
    assert settings.default is not None
    share = min(1, settings.default.max_examples / THOROUGH)
    few = max(1, round(number * share))
    return settings(max_examples=few, deadline=None, derandomize=True, **more)
