"""What is called refused has to be, and to have changed nothing."""

import pytest

from controller.core.refusals import RequestRefused
from tests.helpers.room import move, refused, two_vms


def test_what_is_not_refused_is_seen() -> None:
    at = two_vms()
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(at, "no", lambda: move(at, "vm1", "nve2"))


def test_what_is_refused_and_has_changed_something_is_seen() -> None:
    at = two_vms()

    def half_done() -> None:
        move(at, "vm1", "nve2")
        raise RequestRefused("no")

    with pytest.raises(AssertionError, match="refused, but"):
        refused(at, "no", half_done)
