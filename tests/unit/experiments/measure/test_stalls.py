"""Pauses, and moves in which something fails, that the machine itself has made longer."""

import pytest

from experiments.measure.stalls import STALL_MS, stalls
from experiments.measure.trace import TraceEvent


def pause(**parts_ms: float) -> TraceEvent:
    return TraceEvent(1, "hypervisor", "parts-of-pause", "vm1", {"nve": "nve2", **parts_ms})


def test_a_pause_as_it_should_be_has_none() -> None:
    usual = pause(freeze_ms=0.4, drain_ms=0.1, shut_ms=0.1, flip_ms=0.2, thaw_ms=0.1, open_ms=0.1)
    assert not list(stalls([usual, TraceEvent(2, "runner", "run-ended")]))


def test_what_waits_for_the_network_may_take_long() -> None:
    assert not list(stalls([pause(away_ms=5_000, drain_ms=800, freeze_ms=900)]))


@pytest.mark.parametrize("part", ["shut_ms", "flip_ms", "thaw_ms", "open_ms"])
def test_what_the_kernel_does_may_not(part: str) -> None:
    assert not list(stalls([pause(**{part: STALL_MS - 1})]))
    (said,) = stalls([pause(**{part: 2_090.0})])
    assert said.startswith("in a pause of vm1, this machine took 2.09 s to ")


@pytest.mark.parametrize(("details", "stalled"), [({"move": 1}, True), ({}, False)])
def test_a_move_waits_for_the_failure_that_begins_in_it(
    details: dict[str, int], stalled: bool
) -> None:
    """One at a time of its own disturbs nobody before it is there."""

    def injected(took_ms: float) -> TraceEvent:
        more = {"kind": "control-cut", "began_ns": 5, **details}
        return TraceEvent(5 + int(took_ms * 1e6), "runner", "failure-injected", "nve1", more)

    assert not list(stalls([injected(90)]))
    said = list(stalls([injected(2_860)]))
    assert [each.partition(" in a move")[0] for each in said] == [
        "this machine took 2.86 s to begin a failure (control-cut)"
    ] * stalled
