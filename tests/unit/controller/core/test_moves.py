"""A move, from its request to its completion, and who learns of it."""

import pytest

from controller.core.move_fsm import Phase
from tests.helpers import frames, promises
from tests.helpers.authority import (
    NAMESAKE,
    VM1,
    VM2,
    fabric,
    phase_of,
    pull,
    push,
    redirected,
)
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import RED, vteps

IN_ANY_ORDER = {"move-converged", "move-drained", "in-flight-before-arrival"}
"""A report of counters, and which of old entries and in-flight tunnel is first to be gone."""


@pytest.mark.shows("R3.5", "R4.1.2", "R5.1")
@pytest.mark.parametrize("at", [fabric, push])
def test_a_move_is_recorded_from_request_to_completion(at) -> None:
    """One record for every step, in this order; the mapping is confirmed again by those that had
    to ask."""
    moving = at()
    pull(moving, "vm2", "vm1")
    moving.move("vm1", "nve3")

    of_the_move = [line.event for line in moving.trace if line.details.get("move") == "1"]
    events = dict.fromkeys(event for event in of_the_move if event not in IN_ANY_ORDER)
    assert list(events) == [
        "move-accepted", "move-prepared", "move-redirecting", "move-redirected",
        "mapping-updated", "move-activated", "mapping-confirmed", "in-flight-ended",
        "move-completed",
    ]  # fmt: skip
    always = {"move-converged", "in-flight-before-arrival"}
    assert always <= set(of_the_move) - set(events) <= IN_ANY_ORDER


@pytest.mark.shows("R5.2")
def test_the_vm_is_redirected_only_once_the_source_has_confirmed(pulling: Fabric) -> None:
    """The orchestrator may stop the VM only when its packets in flight are cared for."""
    move = pulling.request_move("vm1", "nve3")
    assert phase_of(move) is Phase.PREPARING
    pulling.settle()
    assert phase_of(move) is Phase.PREPARED
    pulling.redirect(move)
    assert phase_of(move) is Phase.REDIRECTING
    from_vm2 = frames.ipv4(VM2, VM1.mac)
    in_flight = frames.encapsulated(from_vm2, RED, vteps()["nve2"])
    assert pulling.judge(in_flight, "nve1").ports == (10,)
    pulling.settle()
    assert phase_of(move) is Phase.REDIRECTED
    assert pulling.judge(in_flight, "nve1").tunnels == ((RED, vteps()["nve3"]),)


@pytest.mark.shows("R3.4", "R4.1.3")
def test_with_push_correspondents_are_told_at_once() -> None:
    """Converged before any time-out."""
    pushing = push()
    move = redirected(pushing)
    pushing.activate(move)
    assert phase_of(move) is Phase.ACTIVATED
    pushing.settle()

    assert phase_of(move) is Phase.CONVERGED
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pushing.port("vm2"))
    assert pushing.judge(frame, "nve2").tunnels == ((RED, vteps()["nve3"]),)


@pytest.mark.shows("R4.1.3", "R4.1.4")
def test_with_pull_correspondents_keep_their_entry_until_it_times_out(pulling: Fabric) -> None:
    """Until then their frames take the way over the source NVE."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    pulling.activate(move)
    pulling.settle()
    assert phase_of(move) is Phase.ACTIVATED
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    assert pulling.judge(frame, "nve2").tunnels == ((RED, vteps()["nve1"]),)
    assert pulling.deliveries(frame, "nve2") == (("nve3", pulling.port("vm1")),)

    (expiring,) = (rule for nve, rule in pulling.has_timeout() if nve == "nve2")
    pulling.expire("nve2", expiring)
    pulling.settle()

    assert phase_of(move) is Phase.CONVERGED
    pull(pulling, "vm2", "vm1")
    assert pulling.judge(frame, "nve2").tunnels == ((RED, vteps()["nve3"]),)


def test_a_move_back_finds_its_old_place(pulling: Fabric) -> None:
    pulling.move("vm1", "nve3")
    pulling.move("vm1", "nve1")
    pulling.expire_all()

    assert promises.disagreeing(pulling) == []
    assert promises.unreached(pulling) == []
    assert promises.strayed(pulling, pulling.vms.values()) == []


@pytest.mark.shows("R4.1.8")
def test_the_namesake_in_the_other_network_notices_nothing(pulling: Fabric) -> None:
    before = promises.about(pulling, "nve2", NAMESAKE)
    pulling.move("vm1", "nve2")

    assert promises.about(pulling, "nve2", NAMESAKE) == before
    assert pulling.where["blue"] == "nve2"
    assert promises.strayed(pulling, pulling.vms.values()) == []
