"""What a tenant or a stranger on the underlay may not do, tried with real packets (section 9).

The attacker is vm3 behind nve2, the victim vm1 behind nve1.  Whatever the attacker sends, the
mapping stays as it is, and what was dropped or refused is counted where an operator can see it.
"""

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside, run_in
from nve.model import BROADCAST, VmSpec
from nve.pipeline.rules import Purpose
from nve.wire import announcement, frames
from nve.wire.frames import (
    ALL_NODES,
    ARP,
    IPV4,
    IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    RARP,
)
from tests.helpers.lab import round_trips_ms
from tests.helpers.nvo3 import nvo3, told
from tests.helpers.runs import scenario
from tests.helpers.wait import wait_until
from topologies.spec import Port

TENANTS = [
    {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}},
    {"vni": 6000, "vms": {"red1": "nve2"}},
]
ALL_NODES_MAC = "33:33:00:00:00:01"
NO_MAC = "00:00:00:00:00:00"
UDP, ICMPV6 = 17, 58
DISCARD = frames.udp(9, 9, b"nothing")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(scenario(traffic=[], moves=[], tenants=TENANTS, duration_s=1)) as running:
        yield running


@pytest.fixture(autouse=True)
def _the_mapping_stays_as_it_is(lab: Lab) -> Iterator[None]:
    before = mapping(lab)
    yield
    assert mapping(lab) == before


def mapping(lab: Lab) -> list[dict[str, Any]]:
    """Without the numbers, by which a VM that went and came back differs."""
    return [{**line, "sequence": None} for line in nvo3(lab).nva.get("mapping")]


def send(pid: int, interface: str, frame: bytes) -> None:
    """A frame leaves a namespace as it is."""
    with inside(pid), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((interface, 0))
        raw.send(frame)


def send_from_vm(lab: Lab, vm: str, frame: bytes) -> None:
    send(lab.data_centre.vms[vm].pid, NIC, frame)


def packets(lab: Lab, nve: str, purpose: Purpose, about: str | None = None) -> int:
    """How many packets ended in the rules of a purpose, as the switch counts."""
    return sum(
        line["packets"]
        for line in nvo3(lab).nva.get(f"nves/{nve}/counters")
        if line["purpose"] == purpose and line["about"] == about
    )


def refused(lab: Lab, nve: str, vm: str | None, what: str, source: str | None = None) -> int:
    """What the one table of all refusals says of a VM's port, or of a tunnel's source."""
    port = lab.orchestrator.hypervisors[vm].port if vm else None
    wanted = {"nve": nve, "vm": vm, "port": port, "what": what, "tunnel_source": source}
    return sum(line["packets"] for line in nvo3(lab).refused() if wanted.items() <= line.items())


class Counted:
    """Within the block, a count goes up by one."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = self._count()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            wait_until(self._difference)

    def _difference(self) -> str | None:
        counted = self._count() - self._before
        return None if counted == 1 else f"counted {counted}, not 1"


# -- by a VM ---------------------------------------------------------------------------------------


def solicitation(source: IPv6Address, target: IPv6Address, hop_limit: int, option: bytes) -> bytes:
    said = bytes(4) + target.packed + option
    message = frames.icmpv6(source, ALL_NODES, NEIGHBOUR_SOLICITATION, said)
    return frames.ip(source, ALL_NODES, ICMPV6, message, hop_limit)


def advertisement(source: IPv6Address, target: IPv6Address, target_mac: str) -> bytes:
    option = bytes([2, 1]) + bytes.fromhex(target_mac.replace(":", ""))
    said = bytes([0x20, 0, 0, 0]) + target.packed + option
    message = frames.icmpv6(source, ALL_NODES, NEIGHBOUR_ADVERTISEMENT, said)
    return frames.ip(source, ALL_NODES, ICMPV6, message, hop_limit=255)


def arp(me: VmSpec, operation: int, sender: tuple[str, Any], target: tuple[str, Any]) -> bytes:
    return frames.ethernet(me.mac, BROADCAST, ARP, frames.arp(operation, sender, target))


FORGERIES: dict[str, Callable[[VmSpec, VmSpec], bytes]] = {
    # what is forged: the frame that `me` sends at the cost of `you`
    "a gratuitous ARP as sent by another": lambda me, you: announcement.gratuitous_arp(you),
    "a gratuitous ARP for another's address": lambda me, you: announcement.gratuitous_arp(
        replace(me, ipv4=you.ipv4)
    ),
    "a gratuitous ARP that binds one's own address to another's MAC": lambda me, you: arp(
        me, 1, (you.mac, me.ipv4), (NO_MAC, me.ipv4)
    ),
    "an ARP reply for another's address": lambda me, you: arp(
        me, 2, (me.mac, you.ipv4), (you.mac, you.ipv4)
    ),
    "a gratuitous ARP reply as sent by another": lambda me, you: announcement.gratuitous_arp_reply(
        you
    ),
    "a gratuitous ARP reply for another's address": lambda me, you: (
        announcement.gratuitous_arp_reply(replace(me, ipv4=you.ipv4))
    ),
    "an ARP packet that is cut off": lambda me, you: frames.ethernet(
        me.mac, BROADCAST, ARP, bytes.fromhex("0001 0800 06 04 0001")
    ),
    "an advertisement as sent by another": lambda me, you: announcement.unsolicited_advertisement(
        you
    ),
    "an advertisement to a solicited-node group as sent by another": lambda me, you: (
        announcement.advertisement_to_solicited_node(you)
    ),
    "an advertisement for another's address": lambda me, you: frames.ethernet(
        me.mac, ALL_NODES_MAC, IPV6, advertisement(me.ipv6, you.ipv6, me.mac)
    ),
    "an advertisement of one's own address with another's MAC": lambda me, you: frames.ethernet(
        me.mac, ALL_NODES_MAC, IPV6, advertisement(me.ipv6, me.ipv6, you.mac)
    ),
    "a reverse ARP as sent by another": lambda me, you: announcement.reverse_arp(you.mac),
    "a reverse ARP that names another as its sender": lambda me, you: frames.ethernet(
        me.mac, BROADCAST, RARP, frames.arp(3, (you.mac, IPv4Address(0)), (you.mac, IPv4Address(0)))
    ),
    "a packet with another's MAC": lambda me, you: frames.ethernet(
        you.mac, BROADCAST, IPV4, frames.ip(me.ipv4, you.ipv4, UDP, DISCARD)
    ),
    "a packet with another's IPv4 address": lambda me, you: frames.ethernet(
        me.mac, you.mac, IPV4, frames.ip(you.ipv4, me.ipv4, UDP, DISCARD)
    ),
    "a packet with another's IPv6 address": lambda me, you: frames.ethernet(
        me.mac, you.mac, IPV6, frames.ip(you.ipv6, me.ipv6, UDP, DISCARD)
    ),
}


@pytest.mark.shows("R9.2", "R9.4")
@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_forged_is_dropped_and_counted(lab: Lab, forgery: str) -> None:
    me, you = (lab.data_centre.vms[vm].spec for vm in ("vm3", "vm1"))
    with Counted(partial(refused, lab, "nve2", "vm3", "spoofed")):
        send_from_vm(lab, "vm3", FORGERIES[forgery](me, you))


@pytest.mark.shows("R4.1.2", "R4.1.6", "R9.2")
@pytest.mark.parametrize("form", announcement.FORMS)
def test_its_own_announcement_passes_in_every_form(lab: Lab, form: str) -> None:
    def heard() -> int:
        return sum(
            event.name == "announcement-received" and event.details["form"] == form
            for event in told(lab)
            if event.subject == "vm3"
        )

    spoofed = packets(lab, "nve2", Purpose.SPOOFED, "vm3")
    with Counted(heard):
        for frame in announcement.frames(lab.data_centre.vms["vm3"].spec, form):
            send_from_vm(lab, "vm3", frame)
    assert packets(lab, "nve2", Purpose.SPOOFED, "vm3") == spoofed


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize(
    ("operation", "of"), [(3, "vm1"), (4, "vm3"), (4, "vm1")], ids=["asked", "own", "another's"]
)
def test_a_reverse_arp_that_passes_the_switch_is_refused_by_the_nva(
    lab: Lab, operation: int, of: str
) -> None:
    """Its target is no field that the switch compares; replies are no VM's to give."""
    me, you = (lab.data_centre.vms[vm].spec for vm in ("vm3", of))
    nobody = IPv4Address(0)
    body = frames.arp(operation, (me.mac, nobody), (you.mac, nobody))
    with Counted(partial(refused, lab, "nve2", "vm3", "forged")):
        send_from_vm(lab, "vm3", frames.ethernet(me.mac, BROADCAST, RARP, body))


MALFORMED: dict[str, Callable[[VmSpec], bytes]] = {
    "a solicitation from a router away": lambda me: solicitation(me.ipv6, me.ipv6, 64, b""),
    "a solicitation whose option has no length": lambda me: solicitation(
        me.ipv6, me.ipv6, 255, bytes([1, 0]) + bytes(6)
    ),
    "a solicitation that is cut off": lambda me: frames.ip(
        me.ipv6,
        ALL_NODES,
        ICMPV6,
        frames.icmpv6(me.ipv6, ALL_NODES, NEIGHBOUR_SOLICITATION, bytes(4)),
        hop_limit=255,
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_malformed_is_counted_and_the_nva_lives(lab: Lab, kind: str) -> None:
    me = lab.data_centre.vms["vm3"].spec
    with Counted(partial(refused, lab, "nve2", "vm3", "malformed")):
        body = MALFORMED[kind](me)
        send_from_vm(lab, "vm3", frames.ethernet(me.mac, ALL_NODES_MAC, IPV6, body))
    assert all(nvo3(lab).nva.get("health")["connected"].values())


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize("about", ["vm3", "vm1"])
@pytest.mark.parametrize("operation", [0, 77, 257])
def test_an_arp_operation_that_is_none_is_malformed(lab: Lab, operation: int, about: str) -> None:
    """Also where sender and target are the same, as in an announcement."""
    me, you = (lab.data_centre.vms[vm].spec for vm in ("vm3", about))
    with Counted(partial(refused, lab, "nve2", "vm3", "malformed")):
        send_from_vm(lab, "vm3", arp(me, operation, (me.mac, me.ipv4), (NO_MAC, you.ipv4)))
    assert all(nvo3(lab).nva.get("health")["connected"].values())


# -- by a stranger on the underlay -----------------------------------------------------------------


def send_vxlan(lab: Lab, source: str, vni: int, inner: bytes) -> None:
    """A VXLAN packet with any sender comes to nve1 over the underlay, by nve3's cable."""
    fabric = lab.data_centre.fabric
    uplink = fabric.uplink("nve3")
    to = lab.data_centre.nves["nve1"].vtep
    datagram = frames.udp(49152, frames.VXLAN_UDP_PORT, frames.vxlan(vni, inner))
    packet = frames.ip(ip_address(source), to, UDP, datagram)
    (to_mac,) = (fabric.macs[port] for port in fabric.ports("nve1"))
    frame = frames.ethernet(fabric.macs[Port("nve3", uplink.peer)], to_mac, IPV4, packet)
    send(lab.data_centre.nves["nve3"].pid, uplink.interface, frame)


def tenant_packet(lab: Lab, to: str) -> bytes:
    """What vm3 may send to a MAC address."""
    me, you = (lab.data_centre.vms[vm].spec for vm in ("vm3", "vm1"))
    return frames.ethernet(me.mac, to, IPV4, frames.ip(me.ipv4, you.ipv4, UDP, DISCARD))


@pytest.mark.shows("R9.1", "R9.3")
@pytest.mark.parametrize(
    ("source", "vni", "inner_mac", "purpose", "about"),
    [
        ("10.1.0.99", 5000, "02:00:00:00:00:01", Purpose.UNKNOWN_VTEP, None),
        ("10.1.0.1", 5000, "02:00:00:00:00:01", Purpose.UNKNOWN_VTEP, None),
        ("10.1.0.3", 7000, "02:00:00:00:00:01", Purpose.UNKNOWN_VNI, None),
        ("10.1.0.3", 6000, "02:00:00:00:00:01", Purpose.UNKNOWN_VNI, None),
        ("10.1.0.3", 5000, "02:00:00:00:00:03", Purpose.UNKNOWN_DESTINATION, None),
        ("10.1.0.3", 5000, "02:00:00:00:00:01", Purpose.DELIVER, "vm1"),
    ],
    ids=[
        "unknown VTEP", "its own VTEP", "unknown VNI", "VNI of others", "VM of others", "as it is",
    ],
)  # fmt: skip
def test_a_tunnel_packet_is_delivered_or_dropped_for_a_reason(
    lab: Lab, source: str, vni: int, inner_mac: str, purpose: Purpose, about: str | None
) -> None:
    """The last one shows that the others were dropped for what they say."""
    # From whom it was is known of those who may be there; others are one.
    by = None if purpose is Purpose.UNKNOWN_VTEP else source
    before = refused(lab, "nve1", None, purpose, by)
    with Counted(partial(packets, lab, "nve1", purpose, about)):
        send_vxlan(lab, source, vni, tenant_packet(lab, inner_mac))
    dropped = purpose is not Purpose.DELIVER
    assert refused(lab, "nve1", None, purpose, by) == before + dropped


# -- what VMs ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_nva_answers_for_a_vm_that_cannot(lab: Lab, family: str) -> None:
    """ARP and neighbour discovery are answered from the mapping: the VM that is asked for sleeps,
    and when it is awake, the first packet arrives although every cache is cold."""
    asker, asked = lab.data_centre.vms["vm2"], lab.data_centre.vms["vm3"]
    address = str(getattr(asked.spec, family))
    run_in(asker.pid, ["ip", "neigh", "flush", "dev", NIC])
    lab.orchestrator.hypervisors["vm3"].pause()
    try:
        assert round_trips_ms(lab.data_centre, asker, address, count=1) == []
        known = run_in(asker.pid, ["ip", "neigh", "show", address, "dev", NIC])
    finally:
        lab.orchestrator.hypervisors["vm3"].resume()

    assert f"lladdr {asked.spec.mac} " in known
    run_in(asker.pid, ["ip", "neigh", "flush", "dev", NIC])
    run_in(asked.pid, ["ip", "neigh", "flush", "dev", NIC])
    assert len(round_trips_ms(lab.data_centre, asker, address, count=1)) == 1


def test_nobody_is_invented(lab: Lab) -> None:
    asker = lab.data_centre.vms["vm2"]
    before = refused(lab, "nve1", "vm2", "nobody-has")
    assert round_trips_ms(lab.data_centre, asker, "192.168.0.99", count=1) == []
    assert refused(lab, "nve1", "vm2", "nobody-has") > before


@pytest.mark.shows("R9.4")
def test_what_a_vm_forged_is_counted_also_when_its_port_is_gone(lab: Lab) -> None:
    """It forges, moves away and is de-associated: the count stays, and goes on elsewhere."""
    forgery = announcement.gratuitous_arp(lab.data_centre.vms["vm1"].spec)
    with Counted(partial(refused, lab, "nve3", "vm4", "spoofed")):
        send_from_vm(lab, "vm4", forgery)
    lab.orchestrator.move(1, MoveSpec(at_s=0, vm="vm4", to="nve2", pause_ms=1)).result()
    try:
        assert refused(lab, "nve3", "vm4", "spoofed") == 1
        with Counted(partial(refused, lab, "nve2", "vm4", "spoofed")):
            send_from_vm(lab, "vm4", forgery)
    finally:
        lab.orchestrator.move(2, MoveSpec(at_s=0, vm="vm4", to="nve3", pause_ms=1)).result()
    assert lab.overlay.where()["vm4"] == "nve3"
    assert refused(lab, "nve3", "vm4", "spoofed") == 1
    assert refused(lab, "nve2", "vm4", "spoofed") == 1


@pytest.mark.shows("R4.1.8")
def test_the_same_addresses_in_another_network_are_others(lab: Lab) -> None:
    """red1 has the addresses of vm1, and both are alone in their networks with them."""
    vm1, red1 = (lab.data_centre.vms[vm].spec for vm in ("vm1", "red1"))
    assert (vm1.mac, vm1.ipv4) == (red1.mac, red1.ipv4)
    with Counted(partial(packets, lab, "nve1", Purpose.DELIVER, "vm1")):
        send_from_vm(lab, "vm3", tenant_packet(lab, vm1.mac))
    assert packets(lab, "nve2", Purpose.DELIVER, "red1") == 0


# -- by the northbound interface -------------------------------------------------------------------


def curl(lab: Lab, *options: str) -> str:
    """The status code that curl gets for the mapping."""
    status = ["-s", "-o", "/dev/null", "-w", "%{http_code}"]
    nva = str(nvo3(lab).nva.socket)
    command = ["curl", *status, "--unix-socket", nva, *options, "http://nva/v1/mapping"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.shows("R8.2")
def test_the_northbound_interface_wants_its_token(lab: Lab) -> None:
    token = (lab.session.directory / "token").read_text()

    assert curl(lab, "-H", f"Authorization: Bearer {token}") == "200"
    assert curl(lab) == "401"
    assert curl(lab, "-H", f"Authorization: Bearer {token[:-1]}") == "401"
    assert curl(lab, "-H", f"Authorization: {token}") == "401"


def test_secrets_are_for_root_only(lab: Lab) -> None:
    for name in ("nva.sock", "token", "nva.json"):
        assert (lab.session.directory / name).stat().st_mode & 0o077 == 0, name
