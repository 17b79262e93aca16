"""What holds for tests on real parts.

No test leaves anything on the machine, and no module of tests: looked at after each.  Two labs may
stand side by side: what tests of a file share, a lab above all, one worker builds once.
"""

from collections.abc import Iterator

import pytest

from nve.linux.wait import wait_until
from tests.helpers import footprint
from tests.helpers.footprint import Presence
from tests.helpers.hosts import Hosts, hosts

GONE_TIMEOUT_S = 5
"""What was told to end may take a moment to be gone."""

footprint.mark()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share something of their file stay together; all others go wherever there is
    room (`--dist loadgroup`)."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def _shares(test: pytest.Function) -> bool:
    definitions = test._fixtureinfo.name2fixturedefs.items()
    return any(
        found[-1].scope == "module" and name != _a_module_leaves_nothing.__name__
        for name, found in definitions
    )


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Three hosts on a switch, for tests of tasks without a data centre."""
    with hosts(["a", "b", "c"]) as made:
        yield made


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
