"""Packets in flight: where they go, how that ends, and how it is counted."""

import pytest

from controller.core.move_fsm import Phase
from nve.messages import (
    RuleEnded,
)
from nve.pipeline.rules import Purpose, Rule
from tests.helpers import frames, promises
from tests.helpers.authority import (
    VM1,
    VM2,
    phase_of,
    pull,
    redirected,
)
from tests.helpers.fabric import Fabric
from tests.helpers.fake_nve import Remove


@pytest.mark.shows("R4.1.4", "R5.4")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
def test_packets_in_flight_are_delivered_at_the_destination(pulling: Fabric, packet) -> None:
    pull(pulling, "vm2", "vm1")
    redirected(pulling)

    frame = frames.entering(packet(VM2, VM1.mac), pulling.port("vm2"))
    assert pulling.deliveries(frame, "nve2") == (("nve3", pulling.port("vm1")),)


@pytest.mark.shows("R4.1.4")
def test_packets_in_flight_are_dropped_at_the_source_where_the_must_is_left_out(
    pulling: Fabric,
) -> None:
    """The other reading: counted as departed, and not one is delivered."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling, how="drop")
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    for _ in ("redirected", "activated"):
        way = promises.reasons(pulling, frame, "nve2")
        assert pulling.deliveries(frame, "nve2") == ()
        assert way[-1].last is not None
        assert way[-1].last.purpose is Purpose.DEPARTED
        pulling.activate(move)
        pulling.settle()


@pytest.mark.shows("R4.1.4", "R5.5")
def test_forwarding_lives_as_long_as_an_old_entry_may_be_used(pulling: Fabric) -> None:
    """A correspondent that sends rarely is silent for longer than `idle_s`, and still reached."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    pulling.activate(move)
    pulling.settle()
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    arrived = (("nve3", pulling.port("vm1")),)
    for _ in range(3):
        pulling.expire("nve1", in_flight_rules(pulling)[-1])
        assert pulling.deliveries(frame, "nve2") == arrived  # also before it is told again
        pulling.settle()
        assert pulling.deliveries(frame, "nve2") == arrived
        assert in_flight_rules(pulling)[-1].has_timeout
    assert phase_of(move) is Phase.ACTIVATED
    assert pulling.events("vm1").count("in-flight-kept") == 3

    (entry,) = (
        rule
        for nve, rule in pulling.has_timeout()
        if (nve, rule.purpose, rule.about) == ("nve2", Purpose.FORWARD, VM1.tenant_system)
    )
    pulling.expire("nve2", entry)
    pulling.settle()
    assert phase_of(move) is Phase.CONVERGED
    pulling.expire("nve1", in_flight_rules(pulling)[-1])
    pulling.settle()
    assert phase_of(move) is Phase.COMPLETED


@pytest.mark.shows("R5.5")
def test_a_timer_ends_forwarding_before_the_last_old_entry(pulling: Fabric) -> None:
    """That is for the experimenter to choose."""
    pull(pulling, "vm2", "vm1")
    move = pulling.request_move("vm1", "nve3", timer_s=2)
    for go_on in (pulling.redirect, pulling.activate):
        pulling.settle()
        go_on(move)
    pulling.settle()
    pulling.expire("nve1", in_flight_rules(pulling)[-1])
    pulling.settle()
    assert phase_of(move) is Phase.DRAINED
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    last = promises.reasons(pulling, frame, "nve2")[-1].last
    assert last
    assert last.purpose is Purpose.NO_LONGER_FORWARDED

    pulling.expire_all()
    held = promises.about(pulling, "nve1", VM1)
    assert Purpose.NO_LONGER_FORWARDED not in {rule.purpose for rule in held}
    assert phase_of(move) is Phase.COMPLETED


@pytest.mark.shows("R5.5")
def test_what_was_in_flight_is_in_the_trace_twice(pulling: Fabric) -> None:
    """What the tunnel carried until the VM had arrived, and after."""
    pulling.move("vm1", "nve3")

    noted = {line.event: line.details for line in pulling.trace if line.event[:9] == "in-flight"}
    assert noted["in-flight-ended"] == {
        "move": "1", "nve": "nve1", "why": "idle", "purpose": "in-flight",
        "packets": 7, "bytes": 700, "lifetime_ms": 1.0,
    }  # fmt: skip
    assert noted["in-flight-before-arrival"] == {
        "move": "1", "nve": "nve1", "packets": 7, "bytes": 700,
    }  # fmt: skip


def in_flight_rules(at: Fabric) -> list[Rule]:
    """Of vm1 at its source, the one that decides last."""
    rules = [rule for rule in at.nves["nve1"].rules.values() if rule.purpose is Purpose.IN_FLIGHT]
    rules = [rule for rule in rules if rule.reports_end]
    return sorted(rules, key=lambda rule: rule.has_timeout)


def take_away(at: Fabric, rule: Rule) -> None:
    """Somebody removes it at the NVE by hand."""
    at.nves["nve1"].carry_out(Remove(rule))
    at.settle()


@pytest.mark.shows("R4.1.4")
@pytest.mark.parametrize("when", ["before the arrival", "after it"])
@pytest.mark.parametrize("which", [0, -1], ids=["the one below", "the one that decides"])
def test_a_rule_for_packets_in_flight_that_somebody_removes_is_told_again(
    pulling: Fabric, when: str, which: int
) -> None:
    """Twice; and the move ends as any other, with all that was counted."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    if when == "after it":
        pulling.activate(move)
        pulling.settle()
    before = in_flight_rules(pulling)
    for _ in range(2):
        take_away(pulling, in_flight_rules(pulling)[which])
        assert in_flight_rules(pulling) == before

    if when == "before the arrival":
        pulling.activate(move)
        pulling.settle()
    pulling.expire_all()
    assert phase_of(move) is Phase.COMPLETED
    counted = [line for line in pulling.trace if line.event.startswith("in-flight")]
    assert [line.event for line in counted].count("in-flight-taken-away") == 2
    assert sum(int(str(line.details["packets"])) for line in counted) == 4 * 7
    assert in_flight_rules(pulling) == []


@pytest.mark.shows("R3.5")
def test_a_rule_that_we_remove_is_not_told_again(
    pulling: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open vSwitch reports it late: here, when the same rule stands there for another move."""
    first = redirected(pulling)
    pulling.activate(first)
    pulling.settle()
    late: list[RuleEnded] = []
    held = pulling.nves["nve1"]

    def say_later(rule: Rule, why: str) -> None:
        if rule.purpose is Purpose.IN_FLIGHT:
            late.append(RuleEnded(rule.cookie, why, 7, 700, 1.0))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(held, "_say", say_later)
        back = redirected(pulling, to="nve1")
        pulling.activate(back)
        pulling.settle()
        pulling.activate(redirected(pulling))
        pulling.settle()
    assert [report.why for report in late] == ["told", "told"]
    before = in_flight_rules(pulling)
    held.up.extend(late)
    pulling.settle()

    assert in_flight_rules(pulling) == before
    events = [line.event for line in pulling.trace]
    assert "in-flight-taken-away" not in events
    assert phase_of(first) is Phase.COMPLETED
