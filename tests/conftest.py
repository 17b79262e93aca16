"""What holds for all tests."""

import gc
import signal

import pytest

from tests.helpers.examples import register_profiles

register_profiles()
# Collecting imports libraries and makes objects, all of which stay: to look through them again and
# again took the collector a quarter of that time.
gc.set_threshold(100_000, 20, 50)

RECORD = "--record-outcomes"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        RECORD,
        action="store_true",
        help="write down how the tests that show requirements went, for docs/conformance.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Started in the background of a script, or by nohup, the tests are told to ignore it, and so
    # would be all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption(RECORD):
        from tests.helpers.outcomes import Recorder  # it asks the machine what it can do

        config.pluginmanager.register(Recorder(getattr(config, "workeroutput", None)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is loaded by now stays, and most that tests make goes without the collector: a tenth of
    all tests' time went into looking through it."""
    _require_groups(session)
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Pytest collects twice in the end, to hear of what fails in that: once is enough."""
    gc.collect()
    gc.freeze()


def _require_groups(session: pytest.Session) -> None:
    """Raise `UsageError` if pytest-xdist ignores groups, as version 3.8 does with pytest 9.2.

    A group's worker is known by the end of its tests' names (`--dist loadgroup`).  Without groups,
    each worker would build what the tests of a file share.
    """
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"pytest-xdist has not put {item.nodeid} into its group")
