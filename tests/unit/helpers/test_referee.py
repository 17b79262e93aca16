"""The referee of handovers sees what it is there to see."""

import pytest

from tests.helpers.fake_nve import Remove
from tests.helpers.handovers import SYSTEM, marker_rules
from tests.helpers.referee import arrived, arriving, assert_it_is_over


def test_an_edge_that_leaves_its_path_while_nobody_holds() -> None:
    made, watched = arrived()
    binding = made.authority.directory.find(SYSTEM)
    assert binding
    made.authority._entries.enter("nve3", binding)
    made.authority._settle()
    made.ask(made.authority.tick)

    with pytest.raises(AssertionError, match=r"nve3 leaves .*, and nve2 does not hold"):
        watched.settle()


def test_a_destination_that_does_not_wait_for_the_marker() -> None:
    made, watched = arriving()
    while not watched.switched:
        watched.deliver(*made.under_way()[0])
    expected = made.expecting["nve2", SYSTEM]

    with pytest.raises(AssertionError, match="nve2 did not wait for nve3"):
        made.release("nve2", expected, missing=("nve3",))
    watched.look_away()
    made.release("nve2", expected, missing=("nve3",))


def test_a_marker_that_goes_astray() -> None:
    made, watched = arriving()
    ingress_nve = made.nves["nve3"]
    while not (rules := [rule for rule in marker_rules(made) if rule in ingress_nve.holds()]):
        watched.deliver(*made.under_way()[0])
    ingress_nve.carry_out(Remove(rules[0]))

    with pytest.raises(AssertionError, match="the marker of nve3 comes to"):
        watched.settle()


def test_a_handover_that_is_not_over() -> None:
    made, watched = arriving()
    with pytest.raises(AssertionError):
        assert_it_is_over(made)
    watched.settle()
    assert_it_is_over(made)
