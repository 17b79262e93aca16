"""What an NVE does with frames of VMs that stay, and what it drops (R3, R4.1.8, R9)."""

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from nve.model import BROADCAST, Mac, Vtep, link_local
from nve.pipeline.compiler import compile_nve
from nve.pipeline.evaluator import Frame, evaluate
from nve.pipeline.port_rules import NO_MAC
from nve.pipeline.rules import AGENT_PORT, FieldValue, Purpose
from nve.wire import end_marker
from nve.wire.frames import ARP_REPLY, EXPERIMENTAL, ICMPV6, NEIGHBOUR_SOLICITATION
from tests.helpers import frames
from tests.helpers.frames import entering
from tests.helpers.one_nve import (
    FAR,
    GROUPS,
    HERE,
    NAMESAKE,
    OTHER_PEER,
    PEER,
    STATE,
    STRANGER,
    TO_OWN_GROUP,
    VM1,
    VM2,
    from_tunnel,
    from_vm,
    purpose,
)
from tests.helpers.tenants import BLUE, RED

# -- between VMs -----------------------------------------------------------------------------------


@pytest.mark.shows("R3.1", "R3.2")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
def test_a_frame_to_a_vm_here_goes_to_its_port(packet) -> None:
    verdict = from_vm(packet(VM1, VM2.mac))

    assert (verdict.ports, verdict.tunnels, verdict.reported) == ((11,), (), False)


@pytest.mark.shows("R3.4")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
def test_a_frame_to_a_vm_elsewhere_goes_straight_to_its_nve(packet) -> None:
    """No triangle."""
    verdict = from_vm(packet(VM1, FAR.mac))

    assert (verdict.ports, verdict.tunnels) == ((), ((RED, PEER),))


@pytest.mark.shows("R4.1.3")
def test_a_frame_without_an_entry_asks_the_nva() -> None:
    verdict = from_vm(frames.ipv4(VM1, Mac("02:00:00:00:00:63")))

    assert verdict.reported
    assert purpose(verdict) is Purpose.MISS


@pytest.mark.shows("R5.4")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
def test_a_frame_out_of_a_tunnel_goes_to_the_vm(packet) -> None:
    assert from_tunnel(packet(FAR, VM1.mac)).ports == (10,)


@pytest.mark.shows("R4.1.8")
def test_the_same_mac_in_two_networks_never_mixes() -> None:
    """vm1 and its namesake have the same addresses."""
    assert from_tunnel(frames.ipv4(FAR, VM1.mac), RED).ports == (10,)
    assert from_tunnel(frames.ipv4(FAR, VM1.mac), BLUE).ports == (12,)
    assert from_vm(frames.ipv4(VM2, VM1.mac), VM2).ports == (10,)
    assert from_vm(frames.ipv4(NAMESAKE, VM2.mac), NAMESAKE).ports == ()


@pytest.mark.shows("R4.1.8", "R9.1")
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_frame_goes_to_the_network_and_no_further(group: Mac) -> None:
    out = from_vm(frames.ipv4(VM1, group))
    within = from_tunnel(frames.ipv4(FAR, group))
    blue = from_vm(frames.ipv4(NAMESAKE, group), NAMESAKE)

    assert (out.ports, out.tunnels) == ((11,), ((RED, PEER),))
    assert (within.ports, within.tunnels) == ((10, 11), ())
    assert (blue.ports, blue.tunnels) == ((), ())


LAST_MARKER: Frame = {
    "eth_type": end_marker.ETHERTYPE,
    "eth_src": end_marker.agent_mac(RED),
    "eth_dst": end_marker.last_address(STATE.vtep),
}
"""Behind what a VM has sent that comes to this NVE."""
LAST_FOR_PEER: Frame = {**LAST_MARKER, "eth_dst": end_marker.last_address(PEER)}


def test_a_marker_behind_what_a_vm_has_sent_goes_to_nves_and_to_no_vm() -> None:
    sent = evaluate(compile_nve(STATE), entering(LAST_FOR_PEER, AGENT_PORT))
    heard = from_tunnel(LAST_MARKER)

    assert (sent.ports, sent.tunnels, sent.reported) == ((), ((RED, PEER),), False)
    assert (heard.ports, heard.tunnels, heard.reported) == ((AGENT_PORT,), (), False)


def test_such_a_marker_goes_on_to_where_the_vm_goes_to_and_says_what_it_has_passed() -> None:
    onward = from_tunnel(LAST_FOR_PEER)
    passed_here: Frame = {**LAST_MARKER, "eth_dst": end_marker.passed_address(STATE.vtep)}
    passed_there: Frame = {**LAST_MARKER, "eth_dst": end_marker.passed_address(PEER)}

    assert (onward.ports, onward.tunnels, onward.reported) == ((), ((RED, PEER),), False)
    assert from_tunnel(passed_there).ports == (AGENT_PORT,)
    assert AGENT_PORT not in from_tunnel(passed_here).ports
    assert from_tunnel(passed_here).tunnels == ()


@pytest.mark.shows("R9.2", "R9.3")
def test_nobody_else_can_send_such_a_marker() -> None:
    by_a_vm = from_vm(LAST_MARKER)
    by_a_stranger = from_tunnel(LAST_MARKER, source=STRANGER)

    assert purpose(by_a_vm) is Purpose.SPOOFED
    assert purpose(by_a_stranger) is Purpose.UNKNOWN_VTEP


@pytest.mark.shows("R4.1.2", "R4.1.5", "R4.1.6")
@pytest.mark.parametrize(
    "frame",
    [
        frames.arp(VM1, VM2.ipv4),
        frames.arp(VM1, VM1.ipv4),
        frames.arp(VM1, VM1.ipv4, arp_op=ARP_REPLY),
        frames.arp(VM1, VM1.ipv4, arp_spa="0.0.0.0"),
        frames.rarp(VM1),
        frames.advertisement(VM1),
        frames.advertisement(VM1, **TO_OWN_GROUP),
        frames.advertisement(VM1, ipv6_nd_tll=NO_MAC),
        frames.advertisement(
            VM1,
            ipv6_src=str(link_local(VM1.mac)),
            ipv6_nd_target=str(link_local(VM1.mac)),
        ),
        frames.ipv6(VM1, BROADCAST, ip_proto=ICMPV6, icmpv6_type=NEIGHBOUR_SOLICITATION),
        frames.ipv6(
            VM1, BROADCAST, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=NEIGHBOUR_SOLICITATION
        ),
    ],
    ids=["arp", "garp", "garp-reply", "probe", "rarp", "na", "na-solicited", "na-bare",
         "na-link-local", "ns", "dad"],
)  # fmt: skip
def test_address_resolution_goes_to_the_nva_alone(frame: Frame) -> None:
    """Announcements and questions are reported, not flooded."""
    verdict = from_vm(frame)

    assert verdict.reported
    assert (verdict.ports, verdict.tunnels) == ((), ())
    assert purpose(verdict) is Purpose.REPORT


ALL_ROUTERS = Mac("33:33:00:00:00:02")
DHCP: dict[str, FieldValue] = {
    "ipv4_src": "0.0.0.0",
    "ipv4_dst": "255.255.255.255",
    "udp_src": 68,
    "udp_dst": 67,
}
BOOTING = {
    "dhcp": frames.ipv4(VM1, BROADCAST, **DHCP),
    "igmp": frames.ipv4(VM1, Mac("01:00:5e:00:00:16"), ipv4_src="0.0.0.0", ip_proto=2),
    **{
        f"icmpv6-{kind}": frames.ipv6(
            VM1, ALL_ROUTERS, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=kind
        )
        for kind in (131, 132, 133, 143)
    },
}


@pytest.mark.shows("R9.4")
@pytest.mark.parametrize("frame", BOOTING.values(), ids=BOOTING)
def test_a_guest_without_an_address_reaches_who_can_give_it_one(frame: Frame) -> None:
    """RFC 2131, 3376, 4861, 2710, 3810: to a group, like anything else that is sent to it."""
    verdict = from_vm(frame)

    assert purpose(verdict) is Purpose.FLOOD
    assert verdict.ports or verdict.tunnels


# -- what is not IP, and VLAN tags -----------------------------------------------------------------

LLC, PTP = 0x05FF, 0x88F7
"""EtherTypes; the first is what a switch takes a frame for that has a length instead of one."""


@pytest.mark.parametrize("protocol", [LLC, PTP, EXPERIMENTAL])
def test_a_frame_of_any_protocol_is_carried(protocol: int) -> None:
    """An agent's EtherType is a tenant's as well; it is a signal by its source only."""
    frame: Frame = {"eth_src": VM1.mac, "eth_dst": VM2.mac, "eth_type": protocol}
    to_all: Frame = {**frame, "eth_dst": end_marker.last_address(STATE.vtep)}
    flooded, heard = from_vm(to_all), from_tunnel({**to_all, "eth_src": FAR.mac})

    assert from_vm(frame).ports == (11,)
    assert from_vm({**frame, "eth_dst": FAR.mac}).tunnels == ((RED, PEER),)
    assert (flooded.ports, flooded.tunnels, flooded.reported) == ((11,), ((RED, PEER),), False)
    assert (heard.ports, heard.reported) == ((10, 11), False)


KINDS = {
    "ipv4": frames.ipv4(VM1, VM2.mac),
    "ipv6": frames.ipv6(VM1, VM2.mac),
    "to all": frames.ipv4(VM1, BROADCAST),
    "arp": frames.arp(VM1, VM2.ipv4),
    "arp reply": frames.arp(VM1, VM2.ipv4, arp_op=ARP_REPLY, eth_dst=VM2.mac),
    "solicitation": frames.ipv6(VM1, BROADCAST, ip_proto=ICMPV6, icmpv6_type=135),
    "ptp": {"eth_src": VM1.mac, "eth_dst": VM2.mac, "eth_type": PTP},
}
TAGS = replace(STATE, vlan_tags={RED})


@pytest.mark.parametrize("frame", KINDS.values(), ids=KINDS)
def test_of_frames_with_a_vlan_tag_none_or_all_are_carried(frame: Frame) -> None:
    """RFC 7348 section 6.1; a tag with VID 0 names no VLAN."""
    tagged: Frame = {**frame, "vlan_vid": 0x1000 | 10}
    priority: Frame = {**frame, "vlan_vid": 0x1000}
    dropped, carried = from_vm(tagged), from_vm(tagged, state=TAGS)
    arriving: Frame = {**tagged, "eth_src": FAR.mac}

    assert purpose(dropped) is Purpose.VLAN_TAGGED
    assert dropped.dropped
    assert 11 in carried.ports
    assert not carried.reported
    assert purpose(from_tunnel(arriving)) is Purpose.VLAN_TAGGED
    assert 11 in from_tunnel(arriving, state=TAGS).ports
    for state in (STATE, TAGS):
        assert from_vm(priority, state=state) == from_vm(frame, state=state)


def test_a_tag_does_not_hide_whose_addresses_are_in_a_frame() -> None:
    tagged = frames.ipv4(VM1, VM2.mac, ipv4_src=str(VM2.ipv4), vlan_vid=0x1000 | 10)

    assert purpose(from_vm(tagged, state=TAGS)) is Purpose.SPOOFED


# -- what is dropped, and by which name ------------------------------------------------------------

FORGED = {
    "source-mac": frames.ipv4(VM1, VM2.mac, eth_src="02:00:00:00:00:66"),
    "neighbours-mac": frames.ipv4(VM1, FAR.mac, eth_src=VM2.mac),
    "ipv4": frames.ipv4(VM1, VM2.mac, ipv4_src=str(VM2.ipv4)),
    "ipv6": frames.ipv6(VM1, VM2.mac, ipv6_src=str(VM2.ipv6)),
    "ptp-of-vm2": {"eth_src": VM2.mac, "eth_dst": FAR.mac, "eth_type": PTP},
    "broadcast": frames.ipv4(VM1, BROADCAST, ipv4_src=str(VM2.ipv4)),
    "arp-ip": frames.arp(VM1, VM2.ipv4, arp_spa=str(VM2.ipv4)),
    "arp-mac": frames.arp(VM1, VM1.ipv4, arp_sha=VM2.mac),
    "arp-frame-mac": frames.arp(VM1, VM1.ipv4, eth_src=VM2.mac),
    "arp-all-of-vm2": frames.arp(VM2, VM2.ipv4),
    "arp-reply-ip": frames.arp(VM1, VM2.ipv4, arp_op=ARP_REPLY, arp_spa=str(VM2.ipv4)),
    "arp-reply-mac": frames.arp(VM1, VM1.ipv4, arp_op=ARP_REPLY, arp_sha=VM2.mac),
    "rarp-mac": frames.rarp(VM1, arp_sha=VM2.mac),
    "rarp-all-of-vm2": frames.rarp(VM2),
    "na-target": frames.advertisement(VM1, ipv6_nd_target=str(VM2.ipv6)),
    "na-link-layer": frames.advertisement(VM1, ipv6_nd_tll=VM2.mac),
    "na-frame-mac": frames.advertisement(VM1, eth_src=VM2.mac),
    "na-all-of-vm2": frames.advertisement(VM2),
    "na-solicited-of-vm2": frames.advertisement(VM2, **TO_OWN_GROUP),
    "no-address": frames.ipv4(VM1, VM2.mac, ipv4_src="0.0.0.0"),
    "no-address-to-all": frames.ipv4(VM1, BROADCAST, ipv4_src="0.0.0.0"),
    "dhcp-to-one": frames.ipv4(VM1, VM2.mac, **DHCP),
    "dhcp-as-server": frames.ipv4(VM1, BROADCAST, **{**DHCP, "udp_src": 67, "udp_dst": 68}),
    "dhcp-of-vm2": frames.ipv4(VM2, BROADCAST, **DHCP),
    "igmp-to-one": frames.ipv4(VM1, VM2.mac, ipv4_src="0.0.0.0", ip_proto=2),
    "no-ipv6-address": frames.ipv6(VM1, BROADCAST, ipv6_src="::"),
    "echo-without-address": frames.ipv6(
        VM1, BROADCAST, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=128
    ),
    "router": frames.ipv6(VM1, BROADCAST, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=134),
    "a-signal": LAST_MARKER,
}


@pytest.mark.shows("R9.2", "R9.4")
@pytest.mark.parametrize("frame", FORGED.values(), ids=FORGED)
def test_a_frame_with_an_address_that_is_not_its_own_is_dropped_and_counted(frame: Frame) -> None:
    """Nothing of it reaches anybody, not even the NVA."""
    verdict = from_vm(frame)

    assert verdict.dropped
    assert purpose(verdict) is Purpose.SPOOFED
    assert verdict.last is not None
    assert verdict.last.about == VM1.tenant_system


@pytest.mark.shows("R9.4")
def test_an_advertisement_from_a_foreign_ip_address_is_dropped_and_counted() -> None:
    """It is only reported to the NVA, never forwarded, but it is not counted."""
    assert from_vm(frames.advertisement(VM1, ipv6_src=str(VM2.ipv6))).dropped


@pytest.mark.shows("R9.1", "R9.3")
@pytest.mark.parametrize(
    ("network", "source", "expected"),
    [
        (RED, STRANGER, Purpose.UNKNOWN_VTEP),
        (RED, IPv6Address("fd00::2"), Purpose.UNKNOWN_VTEP),
        (RED, HERE, Purpose.UNKNOWN_VTEP),
        (4711, PEER, Purpose.UNKNOWN_VNI),
        (4711, STRANGER, Purpose.UNKNOWN_VTEP),
    ],
)
def test_a_tunnel_frame_from_nowhere_or_of_no_network_is_dropped_and_counted(
    network: int, source: Vtep, expected: Purpose
) -> None:
    for destination in (VM1.mac, FAR.mac, BROADCAST):
        verdict = from_tunnel(frames.ipv4(FAR, destination), network, source)
        assert verdict.dropped
        assert purpose(verdict) is expected


@pytest.mark.shows("R3.4")
def test_a_tunnel_frame_for_a_vm_that_is_not_here_is_dropped_and_counted() -> None:
    """It is not tunnelled on, although its place is known."""
    verdict = from_tunnel(frames.ipv4(VM2, FAR.mac), source=OTHER_PEER)

    assert verdict.dropped
    assert purpose(verdict) is Purpose.UNKNOWN_DESTINATION


def test_a_port_without_a_vm_is_dropped_and_counted() -> None:
    verdict = evaluate(compile_nve(STATE), entering(frames.ipv4(VM1, VM2.mac), 77))

    assert verdict.dropped
    assert purpose(verdict) is Purpose.UNKNOWN_PORT


@pytest.mark.shows("R5.3")
def test_an_nve_with_an_ipv6_address_knows_its_peers_by_theirs() -> None:
    here, peer = IPv6Address("fd00::1"), IPv6Address("fd00::2")
    state = replace(STATE, vtep=here, peers=frozenset({peer}))

    assert from_tunnel(frames.ipv4(FAR, VM1.mac), RED, peer, state).ports == (10,)
    assert purpose(from_tunnel(frames.ipv4(FAR, VM1.mac), RED, PEER, state)) is (
        Purpose.UNKNOWN_VTEP
    )
