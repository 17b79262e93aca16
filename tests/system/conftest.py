"""No test leaves anything on the machine, and no module of tests: looked at after each."""

from collections.abc import Iterator

import pytest

from nve.linux.wait import wait_until
from tests.helpers import footprint
from tests.helpers.footprint import Presence

GONE_TIMEOUT_S = 5
"""What was told to end may take a moment to be gone."""

footprint.mark()


@pytest.fixture(scope="module", autouse=True)
def _a_module_leaves_nothing() -> Iterator[None]:
    """Fixtures of the module, such as a lab that lives across its tests, have ended by then."""
    yield from _leaves_nothing()


@pytest.fixture(autouse=True)
def _a_test_leaves_nothing(_a_module_leaves_nothing: None) -> Iterator[None]:
    """Fixtures of the module are there before and after."""
    yield from _leaves_nothing()


def _leaves_nothing() -> Iterator[None]:
    before = Presence.now()
    yield
    wait_until(lambda: Presence.now().added(since=before), GONE_TIMEOUT_S)
