"""The NVA is killed during a handover, and another goes on: still no packet overtakes another.

Destinations and ingress NVEs go on without it: markers come, and what agents say is heard by
nobody.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.core.move_fsm import Phase
from controller.core.snapshot import decode, encode
from nve import messages
from nve.wire.end_marker import MarkerKind
from tests.helpers.examples import some_of
from tests.helpers.fabric import Fabric
from tests.helpers.handovers import (
    SYSTEM,
    departed,
    entry,
    expire,
    orders,
)
from tests.helpers.referee import (
    Begun,
    arrived,
    arriving,
    assert_it_is_over,
    ended,
    expiring,
    kept,
    restarted,
    until,
)

BOTH = pytest.mark.parametrize("begin", [arriving, expiring])
MOMENTS = range(31)
"""How many messages are delivered before the NVA is killed; with the last, all is over."""
AT_ANY_MOMENT = pytest.mark.parametrize("moment", some_of(MOMENTS, every=10))


def test_the_moments_are_all() -> None:
    for begin in (arriving, expiring):
        made, _ = until(begin, MOMENTS[-1])
        assert made.under_way() == []
        assert_it_is_over(made)


@BOTH
@AT_ANY_MOMENT
def test_the_nva_is_killed_at_any_moment_of_a_handover(
    begin: Callable[[], Begun], moment: int
) -> None:
    """And whoever is the first to come back, the destination or an ingress NVE."""
    for first in ("nve2", "nve3"):
        made, watched = until(begin, moment)
        made.kill()
        made.connect(first)
        watched.settle()
        made.connect_all()
        watched.settle()

        assert_it_is_over(made)
        ingress_nves = ["nve2", "nve3"] if begin is arriving else ["nve3"]
        assert ended(made)[-1] == {"nves": ingress_nves, "without_marker": []}
        assert len(ended(made)) == (1 if begin is arriving else 2)


@BOTH
@AT_ANY_MOMENT
def test_what_is_rebuilt_is_what_was_there(begin: Callable[[], Begun], moment: int) -> None:
    made, _ = until(begin, moment)
    before = made.authority
    made.kill()

    after = made.authority.durable.whole()
    assert all(each in after.paths for each in before.durable.whole().paths)
    assert set(after.places) == set(before.durable.whole().places)
    for nve in made.nves:
        assert made.authority.desired.rules(nve) == before.desired.rules(nve)


@BOTH
@AT_ANY_MOMENT
def test_killed_after_the_state_was_written_anew(begin: Callable[[], Begun], moment: int) -> None:
    made, watched = until(begin, moment)
    made.journal = [encode(made.authority.durable.whole())]
    restarted(made, watched)

    assert_it_is_over(made)
    assert ended(made)[-1]["without_marker"] == []


@pytest.mark.thorough
@BOTH
def test_killed_again_while_it_was_starting(begin: Callable[[], Begun]) -> None:
    for moment in MOMENTS[::3]:
        for delivered in range(0, 20, 5):
            made, watched = until(begin, moment)
            made.kill()
            made.connect_all()
            for _ in range(delivered):
                for way in made.under_way()[-1:]:
                    watched.deliver(*way)
            restarted(made, watched)
            assert_it_is_over(made)


@BOTH
def test_an_edge_that_does_not_come_back_is_named(begin: Callable[[], Begun]) -> None:
    """The destination's time-out ends the handover, as without a restart."""
    made, watched = until(begin, 0)
    made.deliver(*made.under_way()[-1])
    made.kill()
    for nve in ("nve1", "nve2", "nve4"):
        made.connect(nve)
    made.settle()
    watched.look_away()
    made.release("nve2", made.expecting["nve2", SYSTEM], missing=("nve3",))
    made.settle()
    assert ended(made)[-1]["without_marker"] == ["nve3"]

    made.orders.clear()
    made.connect("nve3")
    made.settle()
    assert made.orders == []
    assert_it_is_over(made)


@BOTH
def test_a_destination_without_lanes_says_so(begin: Callable[[], Begun]) -> None:
    """Its hypervisor has begun anew as well, say."""
    made, watched = until(begin, 3)
    made.kill()
    made.expecting.clear()
    watched.look_away()
    made.connect("nve2")
    down = made.nves["nve2"].down
    given = [each for each in down if isinstance(each, messages.Order)]
    (expect,) = (order for order in given if order.signal.kind is MarkerKind.EXPECT_MARKERS)
    down.remove(expect)
    made.say("nve2", replace(expect.signal, kind=MarkerKind.RELEASED, ingress_nves=()))
    made.connect_all()
    made.settle()

    assert_it_is_over(made)


def test_the_next_move_waits_for_the_handover_as_before() -> None:
    made, watched = until(arriving, 4)
    again = made.request_move("vm1", "nve4")
    made.kill()
    for nve in ("nve1", "nve2", "nve4"):
        made.connect(nve)
    watched.settle()
    (_, again) = made.authority.moves
    assert str(again.phase) == Phase.PREPARING
    made.connect("nve3")
    watched.settle()
    assert str(again.phase) == Phase.PREPARED

    used = {signal.handover for _, signal in made.orders}
    made.orders.clear()
    made.redirect(again)
    watched.settle()
    made.activate(again)
    watched.settle()
    assert made.orders
    assert used.isdisjoint(signal.handover for _, signal in made.orders)


@pytest.mark.parametrize("to", ["nve4", "nve1"])
def test_edges_that_wait_for_the_end_of_a_move_still_do(to: str) -> None:
    """nve3 still believes nve1, which is right again if the VM comes back there."""
    made, watched = arrived()
    move = departed(made, to)
    old = expire(made, "nve3")
    watched.settle()
    restarted(made, watched)
    same = entry(made, "nve3")
    assert same
    assert same.actions == old.actions

    made.orders.clear()
    made.activate(made.authority.moves[-1])
    watched.settle()
    assert (("nve3", MarkerKind.SEND_MARKER, ()) in orders(made)) is (to == "nve4")
    assert made.authority.move(move.key).phase is not Phase.REDIRECTED
    assert_it_is_over(made)


def test_only_the_latest_of_a_vms_handovers_is_kept() -> None:
    made, watched = until(arriving, 0)
    watched.settle()
    move = departed(made, "nve4")
    made.disconnect("nve3")
    made.activate(move)
    watched.settle()

    (change,) = kept(made).paths
    assert change.handover
    assert (change.handover.destination, "nve3" in change.handover.ingress_nves) == ("nve4", True)
    restarted(made, watched)
    assert_it_is_over(made)


# -- a journal that does not have the handover -----------------------------------------------------


def forgetful(made: Fabric) -> None:
    """What the NVA wrote before it knew how to write handovers down."""
    changes = map(decode, made.journal)
    made.journal = [
        encode(
            replace(
                change,
                paths=(),
                places=tuple(replace(place, marker=None) for place in change.places),
            )
        )
        for change in changes
    ]


@BOTH
@AT_ANY_MOMENT
def test_a_destination_that_nobody_remembers_is_told_not_to_wait(
    begin: Callable[[], Begun], moment: int
) -> None:
    made, watched = until(begin, moment)
    watched.look_away()
    forgetful(made)
    made.orders.clear()
    made.kill()
    made.connect_all()
    made.settle()

    assert ("nve2", MarkerKind.EXPECT_MARKERS, ()) in orders(made)
    assert_it_is_over(made)
