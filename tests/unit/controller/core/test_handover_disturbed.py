"""NVEs are out of reach during a handover, the NVA is killed, in any order: nothing overtakes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from nve.pipeline.rules import Purpose
from nve.wire.end_marker import MarkerKind
from tests.helpers.examples import examples
from tests.helpers.fabric import Fabric
from tests.helpers.handovers import (
    entry,
    expire,
    fabric,
    orders,
    with_entries,
)
from tests.helpers.referee import (
    Referee,
    arrived,
    assert_it_is_over,
    expiring,
    until,
)

# -- old entries of NVEs that were out of reach ----------------------------------------------------


@pytest.mark.parametrize("gone", [Fabric.kill, lambda made: made.disconnect("nve3")])
def test_an_old_entry_that_may_have_expired_unheard_changes_by_a_handover(
    gone: Callable[[Fabric], None],
) -> None:
    made, watched = arrived()
    gone(made)
    expire(made, "nve3")
    made.connect_all()
    watched.settle()

    assert ("nve3", MarkerKind.SEND_MARKER, ()) in orders(made)
    assert_it_is_over(made)


@pytest.mark.parametrize("moment", range(3))
def test_an_edge_that_was_away_uses_its_old_entry_until_the_destination_holds(moment: int) -> None:
    """The NVA was there all the time."""
    made, watched = until(expiring, moment)
    made.disconnect("nve2")
    made.disconnect("nve3")
    made.connect("nve3")
    watched.settle()
    made.connect("nve2")
    watched.settle()

    assert_it_is_over(made)


def test_an_old_entry_that_leads_nowhere_is_replaced_at_once() -> None:
    """No marker could come by that way, and nothing that could be overtaken."""
    made, watched = arrived(timer_s=1)
    watched.look_away()
    made.disconnect("nve3")
    (ending,) = (rule for _, rule in made.has_timeout() if rule.purpose is Purpose.IN_FLIGHT)
    made.expire("nve1", ending)
    made.settle()
    made.connect("nve3")
    made.settle()

    assert made.orders == []
    assert_it_is_over(made)


# -- anything may happen ---------------------------------------------------------------------------

PLAN = ["nve2", "nve4", "nve1", "nve2"]
KILL, EXPIRE, GO_ON = 0, 1, 2
AWAY = {3: "nve2", 4: "nve3", 5: "nve4"}


class Driver:
    """An orchestrator with a plan, which it goes on with when the NVA lets it."""

    def __init__(self, made: Fabric) -> None:
        self.made, self.left = made, list(PLAN)

    def go_on(self) -> None:
        moves, made = self.made.authority.moves, self.made
        try:
            if moves and moves[-1].phase is Phase.PREPARED:
                made.redirect(moves[-1])
            elif moves and moves[-1].phase is Phase.REDIRECTED:
                made.activate(moves[-1])
            elif self.left:
                made.request_move("vm1", self.left[0])
                self.left.pop(0)
        except RequestRefused:
            pass


def expire_if_told(made: Fabric) -> None:
    """An entry lives for seconds, so that its NVE has confirmed it by the time it expires."""
    found, node = entry(made, "nve3"), made.nves["nve3"]
    if found and found.hard_s and not (node.down or node.up):
        made.expire("nve3", found)


@examples(60)
@given(acts=st.lists(st.integers(0, 15), max_size=150))
def test_order_is_kept_whatever_happens_to_the_nva_and_its_connections(acts: list[int]) -> None:
    made = with_entries(fabric("pull", keep=True))
    watched, driver = Referee(made, "nve3"), Driver(made)
    for act in acts:
        if act == KILL:
            made.kill()
        elif act == EXPIRE:
            expire_if_told(made)
        elif act == GO_ON:
            driver.go_on()
        elif act in AWAY and made.nves[AWAY[act]].connected:
            made.disconnect(AWAY[act])
        elif act in AWAY:
            made.connect(AWAY[act])
        elif not made.under_way():
            made.connect_all()
            driver.go_on()
        else:
            ways = made.under_way()
            watched.deliver(*ways[act % len(ways)])
    made.connect_all()
    watched.settle()
    while driver.left or made.authority.moves[-1].phase in (Phase.PREPARED, Phase.REDIRECTED):
        driver.go_on()
        watched.settle()
    expire_if_told(made)
    watched.settle()
    assert_it_is_over(made)
