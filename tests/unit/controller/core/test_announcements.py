"""What a VM says of itself where it has come to, and what it is told."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.core.dissemination import strategy
from controller.core.move_fsm import Phase
from nve.messages import AnswerRarp, RarpSent
from nve.wire.frames import ARP_REPLY, RARP_REQUEST
from tests.helpers import frames
from tests.helpers.authority import (
    NAMESAKE,
    VM1,
    phase_of,
    redirected,
    state_of,
)
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import vteps


@pytest.mark.shows("R4.1.2", "R4.1.5", "R4.1.6", "R8.1")
@pytest.mark.parametrize(
    "frame",
    [
        frames.arp(VM1, VM1.ipv4),
        frames.arp(VM1, VM1.ipv4, arp_op=ARP_REPLY),
        frames.rarp(VM1),
        frames.advertisement(VM1),
        frames.advertisement(VM1, ipv6_dst="ff02::1:ff00:1"),
    ],
    ids=["garp", "garp-reply", "rarp", "na", "na-solicited"],
)
def test_an_announcement_at_the_destination_moves_the_binding(pulling: Fabric, frame) -> None:
    """It takes no more of the VM than this."""
    move = redirected(pulling)
    pulling.where["vm1"] = "nve3"
    pulling.send("vm1", frame)
    pulling.settle()

    binding = pulling.authority.directory.find(VM1.tenant_system)
    assert binding is not None
    assert (binding.nve, binding.sequence) == ("nve3", 2)
    assert phase_of(move) in (Phase.ACTIVATED, Phase.CONVERGED)


def told(at: Fabric) -> list[tuple[str, IPv4Address]]:
    """Which VMs' addresses were told, and where."""
    return [(each.nve, each.address) for each in at.answered if isinstance(each, AnswerRarp)]


@pytest.mark.shows("R4.1.5")
def test_a_reverse_arp_is_answered_where_it_was_asked(pulling: Fabric) -> None:
    pulling.send("vm1", frames.rarp(VM1))
    pulling.settle()

    asked = RarpSent(pulling.port("vm1"), RARP_REQUEST, VM1.mac)
    assert pulling.answered == [AnswerRarp("nve1", asked, VM1.ipv4)]
    assert pulling.events("vm1")[-2:] == ["announcement-received", "rarp-answered"]


@pytest.mark.shows("R4.1.5")
def test_at_the_destination_the_question_is_the_announcement_as_well(pulling: Fabric) -> None:
    redirected(pulling)
    pulling.where["vm1"] = "nve3"
    pulling.send("vm1", frames.rarp(VM1))
    pulling.settle()

    binding = pulling.authority.directory.find(VM1.tenant_system)
    assert binding is not None
    assert binding.nve == "nve3"
    assert told(pulling) == [("nve3", VM1.ipv4)]


@pytest.mark.shows("R4.1.5", "R4.1.8")
def test_namesakes_are_told_the_addresses_of_their_own_networks() -> None:
    far = replace(NAMESAKE, ipv4=IPv4Address("192.168.7.7"))
    apart = Fabric(vteps(), strategy("push", None))
    for each in (VM1, far):
        apart.associate(each)
    apart.settle()
    for each in (VM1, far):
        apart.send(each.name, frames.rarp(each))
        apart.settle()

    assert VM1.mac == far.mac
    assert told(apart) == [("nve1", VM1.ipv4), ("nve2", far.ipv4)]


def test_announcing_twice_and_activating_as_well_changes_nothing_more(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.where["vm1"] = "nve3"
    for _ in range(2):
        pulling.send("vm1", frames.arp(VM1, VM1.ipv4))
        pulling.send("vm1", frames.advertisement(VM1))
    pulling.settle()
    pulling.activate(move)
    pulling.settle()

    assert pulling.events("vm1").count("mapping-updated") == 1
    assert pulling.events("vm1").count("announcement-received") == 4
    assert pulling.refused() == {}


def test_an_announcement_before_its_time_is_counted(pulling: Fabric) -> None:
    """Somebody sends out of the destination's port while the VM still runs at the source."""
    move = pulling.request_move("vm1", "nve3")
    pulling.settle()
    pulling.send_from("nve3", pulling.port("vm1"), frames.arp(VM1, VM1.ipv4))
    pulling.settle()

    assert phase_of(move) is Phase.PREPARED
    assert pulling.refused() == {"early-announcement": 1}


def test_a_vm_may_announce_itself_before_the_nva_has_heard_that_the_source_redirects(
    pulling: Fabric,
) -> None:
    """The source's agent says so to the hypervisor, which does not wait for the NVA."""
    move = pulling.request_move("vm1", "nve3")
    pulling.settle()
    pulling.redirect(move)
    while pulling.nves["nve1"].down:
        pulling.deliver("nve1", "down")
    assert phase_of(move) is Phase.REDIRECTING
    pulling.where["vm1"] = "nve3"
    pulling.send_from("nve3", pulling.port("vm1"), frames.arp(VM1, VM1.ipv4))
    pulling.deliver("nve3", "up")
    assert phase_of(move) is Phase.ACTIVATED
    pulling.settle()

    assert pulling.refused() == {}
    of_the_move = [event for event in pulling.events("vm1") if event.startswith(("move-", "map"))]
    redirected, updated = (
        of_the_move.index(each) for each in ("move-redirected", "mapping-updated")
    )
    assert redirected < updated < of_the_move.index("move-activated")
    pulling.expire_all()
    pulling.settle()
    assert phase_of(move) is Phase.COMPLETED


def test_an_announcement_where_the_vm_is_anyway_is_only_recorded(pulling: Fabric) -> None:
    before = state_of(pulling)
    pulling.send("vm1", frames.arp(VM1, VM1.ipv4))
    pulling.settle()

    assert state_of(pulling) == before
    assert pulling.events("vm1")[-1] == "announcement-received"
