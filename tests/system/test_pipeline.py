"""Real switches hold what the NVA wants and do what the evaluator says, throughout a move.

A move is walked through step by step at the northbound interface, twice: in the lab, and in the
fabric in memory.  At each step three things have to agree for every NVE: the rules that the NVA
wants, the rows that Open vSwitch holds, and the rules in memory; and for a table of frames, what
Open vSwitch would do with each and what `nve.pipeline.evaluator` says.
"""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from controller.core.dissemination import strategy
from controller.core.move import InFlight
from experiments.run.lab import Lab
from nve.model import BROADCAST, VmSpec, mac
from nve.pipeline.evaluator import Frame
from nve.pipeline.flow_dump import Row
from nve.pipeline.rules import PipelineTable
from nve.wire.frames import EXPERIMENTAL, ICMPV6, NEIGHBOUR_SOLICITATION
from tests.helpers import frames
from tests.helpers.fabric import Fabric
from tests.helpers.frames import encapsulated, entering
from tests.helpers.nvo3 import nvo3, ovs
from tests.helpers.runs import scenario
from tests.helpers.switch import decision, decision_of
from tests.helpers.wait import wait_until

TENANTS = [
    # The second tenant's VMs have the same addresses as the first one's (R4.1.8).
    {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}},
    {"vni": 6000, "vms": {"red1": "nve1", "red4": "nve3"}},
]
NOBODYS_MAC = mac("02:00:00:00:00:99")
NOBODYS_PORT = 99


@pytest.fixture(scope="module", params=["ipv4", "ipv6"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    wanted = scenario(
        traffic=[], moves=[], tenants=TENANTS, topology__underlay=request.param, duration_s=1
    )
    with Lab(wanted) as running:
        yield running


class Twins:
    """The lab and its image in memory; every step is taken in both."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nva = nvo3(lab).nva
        self.nves = lab.data_centre.nves
        self.fabric = Fabric(
            {name: nve.vtep for name, nve in self.nves.items()}, strategy("push", None)
        )
        for vm in lab.scenario.vms():
            self.fabric.associate(vm)
        self.fabric.settle()
        self.latest = ""
        """The path of the latest move in the northbound interface."""

    def walk(
        self, vm: str, to: str, in_flight: InFlight = "tunnel", timer_s: int = 0
    ) -> Iterator[str]:
        """The steps of a move, each when it is done.  Forwarding ends `timer_s` after the
        activation, if that is given, or after 2 s without a packet."""
        in_memory = self.fabric.request_move(vm, to, in_flight, timer_s=timer_s)
        self.fabric.settle()
        wish = {"vm": vm, "to": to, "port": self.fabric.port(vm), "in_flight": in_flight}
        self.latest = path = f"moves/{len(self.nva.get('moves')) + 1}"
        ends = {"timer_s": timer_s} if timer_s else {"idle_s": 2}
        self.nva.put(path, {**wish, **ends}, until="prepared")
        yield "prepared"
        self.nva.post(f"{path}/redirect", until="redirected")
        self.fabric.redirect(in_memory)
        self.fabric.settle()
        yield "redirected"
        self.nva.post(f"{path}/activate", until="converged")
        self.fabric.activate(in_memory)
        self.fabric.settle()
        yield "activated"
        self.nva.get(path, until="completed")
        self.fabric.expire_all()
        yield "completed"
        self.nva.delete(f"associations/{in_memory.source}/{vm}")
        self.fabric.ask(self.fabric.authority.de_associate, vm, in_memory.source)
        self.fabric.settle()
        yield "de-associated"

    def held(self) -> dict[str, list[Row]]:
        """What each switch holds; the others have to agree."""
        return {nve: self._agreed(nve) for nve in self.nves}

    def _agreed(self, nve: str) -> list[Row]:
        wait_until(lambda: self._difference(nve))
        return ovs(self.nves[nve]).rows()

    def _difference(self, nve: str) -> str | None:
        if differences := nvo3(self.lab).differences():
            return "; ".join(differences)
        found, in_memory = set(ovs(self.nves[nve]).rows()), self._in_memory(nve)
        if found != in_memory:
            return (
                f"{nve}: only in Open vSwitch {sorted(found - in_memory)}, "
                f"only in the fabric in memory {sorted(in_memory - found)}"
            )
        return None

    def _in_memory(self, nve: str) -> set[Row]:
        return {Row.of(rule) for rule in self.fabric.nves[nve].holds()}


@pytest.fixture(scope="module")
def twins(lab: Lab) -> Twins:
    return Twins(lab)


@pytest.mark.shows("R3.4", "R3.5", "T1")
def test_switches_hold_what_the_nva_wants_throughout_a_move(twins: Twins) -> None:
    """There and back again, and nothing is left of it anywhere, but that the VM gets its own copies
    of frames to groups."""
    before = but_for_groups(twins.held())
    for _ in twins.walk("vm1", "nve2"):
        twins.held()
    there = but_for_groups(twins.held())
    for _ in twins.walk("vm1", "nve1", in_flight="drop"):
        twins.held()

    assert but_for_groups(twins.held()) == before
    assert there != before


def but_for_groups(held: dict[str, list[Row]]) -> dict[str, list[Row]]:
    flooding = (PipelineTable.FLOOD, PipelineTable.FLOOD_LOCAL)
    return {nve: [row for row in rows if row.table not in flooding] for nve, rows in held.items()}


def test_a_move_that_is_given_up_leaves_nothing(twins: Twins) -> None:
    before = twins.held()
    steps = twins.walk("vm1", "nve3")
    while next(steps) != "redirected":
        pass
    assert twins.held() != before
    given_up = twins.fabric.authority.moves[-1]
    twins.nva.post(f"{twins.latest}/roll-back")
    twins.fabric.ask(twins.fabric.authority.roll_back, given_up.key)
    twins.fabric.settle()

    assert twins.held() == before


def test_a_difference_is_seen(twins: Twins) -> None:
    """The check above, checked: a row too much, and one too few."""
    switch = ovs(twins.nves["nve1"])
    (admission,) = (row for row in switch.rows() if (row.table, row.priority) == (0, 0))
    switch.ofctl("add-flow", "br-int", "cookie=0x5,priority=7,actions=drop")
    assert (
        twins._difference("nve1")
        == "nve1 holds 1 rule that the NVA has not asked for: 0000000000000005"
    )
    switch.ofctl("--strict", "del-flows", "br-int", "priority=7")
    assert twins._difference("nve1") is None

    switch.ofctl("--strict", "del-flows", "br-int", "table=0,priority=0")
    too_few = f"nve1 lacks 1 rule that the NVA has asked for: {admission.cookie:016x}"
    assert twins._difference("nve1") == too_few
    cookie = f"cookie={admission.cookie:#x}"
    switch.ofctl("add-flow", "br-int", f"{cookie},table=0,priority=0,actions=drop")
    assert twins._difference("nve1") is None


def frames_at(nve: str, twins: Twins) -> Iterator[tuple[str, Frame]]:
    """Frames of every kind, honest and forged, at an NVE: from its VMs and out of tunnels."""
    vms = twins.fabric.vms
    for vm in (vm for vm in vms.values() if nve in (vm.nve, twins.fabric.where[vm.name])):
        port = twins.fabric.port(vm.name)
        for what, frame in sent_by(vm, vms):
            yield f"{vm.name} sends {what}", entering(frame, port)
    sender, other = vms["vm3"], vms["red4"]
    yield "from a port that is nobody's", entering(frames.ipv4(sender, BROADCAST), NOBODYS_PORT)
    vteps = [each.vtep for name, each in twins.nves.items() if name != nve]
    unknown = ip_address("10.1.0.99" if vteps[0].version == 4 else "fd00::99")
    for vtep in (*vteps, twins.nves[nve].vtep, unknown):
        for vni in (5000, 6000, 7000):
            for to in (*(vm.mac for vm in vms.values()), NOBODYS_MAC):
                what = f"a tunnel from {vtep} brings VNI {vni} for {to}"
                yield what, encapsulated(frames.ipv6(sender, to), vni, vtep)
            group = frames.arp(other, sender.ipv4)
            yield (
                f"a tunnel from {vtep} brings VNI {vni} a broadcast",
                encapsulated(group, vni, vtep),
            )
        for binding in twins.fabric.authority.directory:
            copy = encapsulated(frames.ipv4(sender, BROADCAST), binding.copy_vni, vtep)
            yield f"a tunnel from {vtep} brings a copy for {binding.system}", copy


def sent_by(vm: VmSpec, vms: dict[str, VmSpec]) -> Iterator[tuple[str, Frame]]:
    victim = vms["vm4" if vm.name != "vm4" else "vm1"]
    for other in vms.values():
        yield f"IPv4 to {other.name}", frames.ipv4(vm, other.mac)
    yield "IPv6 to vm2", frames.ipv6(vm, vms["vm2"].mac)
    yield "IPv4 to nobody", frames.ipv4(vm, NOBODYS_MAC)
    yield "IPv4 to all", frames.ipv4(vm, BROADCAST)
    yield "IPv6 to a group", frames.ipv6(vm, "33:33:00:00:00:fb")  # type: ignore[arg-type]
    yield "an ARP request", frames.arp(vm, victim.ipv4)
    yield "an ARP probe", frames.arp(vm, vm.ipv4, arp_spa="0.0.0.0")
    yield "a gratuitous ARP", frames.arp(vm, vm.ipv4)
    yield "a reverse ARP", frames.rarp(vm)
    yield "an advertisement", frames.advertisement(vm)
    yield "an advertisement without MAC", frames.advertisement(vm, ipv6_nd_tll="00:00:00:00:00:00")
    solicited = {"ip_proto": ICMPV6, "icmpv6_type": NEIGHBOUR_SOLICITATION}
    yield "a solicitation", frames.ipv6(vm, victim.mac, **solicited)
    yield "a check of its own address", frames.ipv6(vm, victim.mac, ipv6_src="::", **solicited)
    # Forged (R9.2, R9.4).
    yield "another's MAC", frames.ipv4(vm, victim.mac, eth_src=victim.mac)
    yield "another's IPv4 address", frames.ipv4(vm, victim.mac, ipv4_src=str(victim.ipv4))
    yield "another's IPv6 address", frames.ipv6(vm, victim.mac, ipv6_src=str(victim.ipv6))
    yield "no IPv6 address, and it is not ICMPv6", frames.ipv6(vm, victim.mac, ipv6_src="::")
    yield "another's ARP", frames.arp(vm, vm.ipv4, arp_spa=str(victim.ipv4))
    yield "ARP of another's MAC", frames.arp(vm, vm.ipv4, arp_sha=victim.mac)
    yield "reverse ARP of another's MAC", frames.rarp(vm, arp_sha=victim.mac)
    yield "an advertisement of another's", frames.advertisement(vm, ipv6_nd_target=str(victim.ipv6))
    yield "an advertisement with another's MAC", frames.advertisement(vm, ipv6_nd_tll=victim.mac)
    own: Frame = {"eth_src": vm.mac, "eth_dst": victim.mac, "eth_type": EXPERIMENTAL}
    yield "a protocol of its own", own
    yield "another's MAC with it", {**own, "eth_src": victim.mac}
    yield "a VLAN tag", frames.ipv4(vm, victim.mac, vlan_vid=0x1000 | 10)
    yield "ARP with a VLAN tag", frames.arp(vm, victim.ipv4, vlan_vid=0x1000 | 10)
    yield "a tag of VID 0", frames.ipv4(vm, victim.mac, vlan_vid=0x1000)


def test_the_evaluator_is_right_throughout_a_move(twins: Twins) -> None:
    """Delivered here, tunnelled, tunnelled back, flooded, reported, or dropped for a reason."""
    purposes = set()
    there = twins.walk("vm1", "nve2", timer_s=LONGER_THAN_A_STEP_S)
    back = twins.walk("vm1", "nve1", in_flight="drop", timer_s=LONGER_THAN_A_STEP_S)
    walks = [["settled"], there, back]
    for step in (step for walk in walks for step in walk):
        twins.held()  # what the NVA has told a switch is there
        for nve, node in twins.nves.items():
            for what, frame in frames_at(nve, twins):
                verdict = twins.fabric.judge(frame, nve)
                assert decision(ovs(node), frame) == decision_of(verdict), (step, nve, what)
                assert verdict.last is not None, (step, nve, what)
                purposes.add(verdict.last.purpose.value)

    assert purposes == EVERY_END


LONGER_THAN_A_STEP_S = 8
"""To ask a switch about every frame takes seconds, and does not keep a rule from ending."""
EVERY_END = {
    "deliver", "forward", "flood", "report", "miss", "in-flight", "departed", "unknown-vtep",
    "unknown-vni", "unknown-port", "unknown-destination", "spoofed", "vlan-tagged",
}  # fmt: skip
"""What can become of a frame; to be admitted is never the end."""
