"""How many examples hypothesis tries: all of them in a thorough run, a share where it is quick."""

from typing import Any

from hypothesis import settings

THOROUGH, QUICK = 30, 6
"""Examples of a test that asks for no number, by profile."""


def register_profiles() -> None:
    """`--hypothesis-profile quick` is what `make check` asks for; without it, a run is thorough.

    How long an example takes says how busy the machine is, not whether the code is right.
    """
    settings.register_profile("quick", deadline=None, max_examples=QUICK)
    settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)
    settings.load_profile("thorough")


def examples(number: int, **more: Any) -> settings:
    """So many in a thorough run, the same ones every time; `more` are settings of hypothesis."""
    assert settings.default is not None
    share = min(1, settings.default.max_examples / THOROUGH)
    few = max(1, round(number * share))
    return settings(max_examples=few, deadline=None, derandomize=True, **more)
