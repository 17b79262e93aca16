"""A VM with two instances that both serve, and the fencing of one of them (R7.4)."""

from collections.abc import Callable
from functools import partial

import pytest

from controller.core.refusals import RequestRefused, Unknown
from controller.core.snapshot import decode, encode
from nve.model import Mac
from nve.pipeline.evaluator import Frame
from nve.pipeline.rules import Purpose
from nve.pipeline.state import AssociationRole
from tests.helpers import frames
from tests.helpers.authority import VM1, VM2, VM3, fabric, pull, push, rules_of, state_of
from tests.helpers.fabric import Fabric

PORT = 40
FIRST, SECOND = ("nve1", 10), ("nve3", PORT)
MAKES = [fabric, push]


def paired(make: Callable[[], Fabric] = fabric) -> Fabric:
    """vm1 is at nve1 and at nve3; vm2, at nve2, has sent to it before."""
    at = make()
    pull(at, "vm2", "vm1")
    at.ask(at.authority.add_instance, "vm1", "nve3", PORT)
    at.settle()
    return at


def fenced(nve: str, make: Callable[[], Fabric] = fabric) -> Fabric:
    at = paired(make)
    at.ask(at.authority.fence_instance, "vm1", nve)
    at.settle()
    return at


def flow(at: Fabric, number: int, sender: str = "vm2") -> Frame:
    """The first frame of one flow of many to vm1."""
    packet = {**frames.ipv4(at.vms[sender], VM1.mac), "ip_proto": 17}
    return frames.entering({**packet, "udp_src": 1000 + number, "udp_dst": 7}, at.port(sender))


def reached(at: Fabric, sender: str = "vm2", nve: str = "nve2") -> set[tuple[str, int]]:
    """Where 40 flows to vm1 end; each has to end at one place."""
    found = set()
    for number in range(40):
        (place,) = at.deliveries(flow(at, number, sender), nve)
        found.add(place)
    return found


def port_of(at: Fabric, place: tuple[str, int]) -> tuple[str, int]:
    return (place[0], at.port("vm1")) if place == FIRST else place


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize("make", MAKES)
def test_flows_are_spread_over_both_instances(make: Callable[[], Fabric]) -> None:
    """One at the same NVE is taken, where there is one."""
    at = paired(make)

    assert reached(at) == {port_of(at, FIRST), SECOND}
    assert reached(at, "vm3", "nve1") == {port_of(at, FIRST)}
    assert at.authority.directory.find(VM1.tenant_system).nves == ("nve1", "nve3")  # type: ignore[union-attr]


def test_an_nve_that_asks_is_told_of_both() -> None:
    at = fabric()
    at.ask(at.authority.add_instance, "vm1", "nve3", PORT)
    at.settle()
    pull(at, "vm2", "vm1")

    assert reached(at) == {port_of(at, FIRST), SECOND}


@pytest.mark.parametrize("make", MAKES)
def test_the_second_instance_reaches_others_and_is_admitted(make: Callable[[], Fabric]) -> None:
    at = paired(make)
    frame = {**frames.ipv4(VM1, VM2.mac), "in_port": PORT}
    at.send_from("nve3", PORT, frames.ipv4(VM1, VM2.mac))  # who has no entry asks
    at.settle()

    assert at.deliveries(frame, "nve3") == (("nve2", at.port("vm2")),)
    forged = {**frames.ipv4(VM2, VM3.mac), "in_port": PORT}
    assert at.judge(forged, "nve3").last.purpose is Purpose.SPOOFED  # type: ignore[union-attr]


def test_a_frame_to_a_group_reaches_the_first_instance_once() -> None:
    at = paired()
    group = frames.entering(frames.ipv4(VM2, Mac("01:00:5e:00:00:fb")), at.port("vm2"))

    assert sorted(at.deliveries(group, "nve2")) == sorted(
        [("nve1", at.port("vm1")), ("nve1", at.port("vm3"))]
    )


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(("gone", "left"), [("nve1", SECOND), ("nve3", FIRST)])
def test_everything_goes_to_the_instance_that_is_left(
    make: Callable[[], Fabric], gone: str, left: tuple[str, int]
) -> None:
    """Also from VMs at the NVE of the other; and nothing that comes from its port is taken."""
    at = fenced(gone, make)
    port = at.port("vm1") if gone == "nve1" else PORT

    assert reached(at) == {port_of(at, left)}
    assert reached(at, "vm3", "nve1") == {port_of(at, left)}
    own = {**frames.ipv4(VM1, VM2.mac), "in_port": port}
    assert at.judge(own, gone).last.purpose is Purpose.FENCED  # type: ignore[union-attr]
    group = frames.entering(frames.ipv4(VM2, Mac("01:00:5e:00:00:fb")), at.port("vm2"))
    assert sorted(at.deliveries(group, "nve2")) == sorted(
        [port_of(at, left), ("nve1", at.port("vm3"))]
    )


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize("gone", ["nve1", "nve3"])
def test_only_one_instance_is_ever_fenced(gone: str) -> None:
    """So the two never go on alone both; who asks again is answered alike."""
    at = fenced(gone)
    left = {"nve1": "nve3", "nve3": "nve1"}[gone]
    before = state_of(at)

    with pytest.raises(RequestRefused, match=f"one instance, at {left}"):
        at.ask(at.authority.fence_instance, "vm1", left)
    assert at.ask(at.authority.fence_instance, "vm1", gone) == left
    assert state_of(at) == before
    assert at.events("vm1").count("instance-fenced") == 1


def test_an_nve_that_was_dead_is_fenced_when_it_is_back() -> None:
    at = paired()
    at.disconnect("nve1")
    at.nves["nve1"].rules.clear()
    at.ask(at.authority.fence_instance, "vm1", "nve1")
    at.settle()
    assert reached(at) == {SECOND}
    assert at.authority.desired.pending(["nve1"]), "it has not confirmed"

    at.connect("nve1")
    at.settle()
    assert "vm-fenced" in at.events("vm1")
    assert not at.authority.desired.pending(["nve1"])
    own = {**frames.ipv4(VM1, VM2.mac), "in_port": at.port("vm1")}
    assert at.judge(own, "nve1").last.purpose is Purpose.FENCED  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [paired, partial(fenced, "nve1"), partial(fenced, "nve3")])
def test_another_nva_goes_on_with_it(make: Callable[[], Fabric]) -> None:
    at = make()
    before = rules_of(at), list(at.authority.directory)
    whole = at.authority.durable.whole()
    assert decode(encode(whole)) == whole

    at.kill()
    at.settle()
    assert (rules_of(at), list(at.authority.directory)) == before


def test_a_port_of_an_instance_that_was_fenced_can_be_taken_away() -> None:
    at = fenced("nve1")
    at.ask(at.authority.de_associate, "vm1", "nve1")
    at.settle()

    associations = at.authority.desired.state("nve1").associations
    assert VM1.tenant_system not in associations
    assert reached(at, "vm3", "nve1") == {SECOND}


def test_a_vm_with_two_instances_can_be_off_boarded() -> None:
    at = paired()
    at.ask(at.authority.off_board, "vm1")
    at.settle()

    for nve in ("nve1", "nve2", "nve3"):
        assert VM1.tenant_system not in at.authority.desired.systems(nve)


REFUSED: dict[str, tuple[Callable[[Fabric], object], str]] = {
    "its own NVE": (lambda at: at.authority.add_instance("vm2", "nve2", 41, 0), "nve2 itself"),
    "a third": (
        lambda at: at.authority.add_instance("vm1", "nve2", 41, 0),
        "instances at nve1 and nve3 already",
    ),
    "the port of another": (
        lambda at: at.authority.add_instance("vm2", "nve3", PORT, 0),
        "belongs to vm1",
    ),
    "a move": (
        lambda at: at.request_move("vm1", "nve2"),
        "a VM with a hot standby is not moved",
    ),
    "nothing to fence": (
        lambda at: at.authority.fence_instance("vm2", "nve2", 0),
        "one instance, at nve2",
    ),
    "fenced where it is not": (
        lambda at: at.authority.fence_instance("vm1", "nve2", 0),
        "not at nve2",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(what: str) -> None:
    at = paired()
    before = state_of(at)
    act, why = REFUSED[what]

    with pytest.raises(RequestRefused, match=why):
        act(at)
    assert state_of(at) == before


def test_while_it_is_moved_a_vm_gets_no_second_instance() -> None:
    at = fabric()
    at.request_move("vm1", "nve2")
    at.settle()

    with pytest.raises(RequestRefused, match="is being moved"):
        at.ask(at.authority.add_instance, "vm1", "nve3", PORT)


def test_an_nve_or_a_vm_that_nobody_knows_is_said_to_be_unknown() -> None:
    at = fabric()
    for arguments in (("vm1", "nve9", PORT), ("vm9", "nve3", PORT)):
        with pytest.raises(Unknown):
            at.ask(at.authority.add_instance, *arguments)
    assert at.authority.desired.state("nve1").associations[VM1.tenant_system].role is (
        AssociationRole.ACTIVE
    )
