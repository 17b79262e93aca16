"""How many examples hypothesis tries, and which of a test's cases: all in a thorough run, some in a
quick one.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

THOROUGH, QUICK = 32, 4
"""The number of examples of a test that names none, by profile."""

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""All but surrogates: those that UTF-8 can encode.  Hypothesis's default, `codec="utf-8"`, is the
same set, but finds it by encoding each of a million, which takes seconds in a fresh clone."""


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


def some_of(cases: Iterable[Any], *, every: int) -> list[Any]:
    """Return the cases as parameters of a test: the first and every `every`-th after it also in a
    quick run, the others in a thorough one only.

    A case that is a tuple stands for several parameters.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=pytest.mark.thorough if number % every else (),
        )
        for number, case in enumerate(cases)
    ]
