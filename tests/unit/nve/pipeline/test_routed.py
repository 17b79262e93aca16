"""A layer 3 network at one NVE: what is routed, what is answered, and that nothing else goes."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from nve import ila
from nve.model import (
    BROADCAST,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    NVE_MAC,
    Mac,
    RoutedNetwork,
    VmSpec,
    Vtep,
    link_local,
)
from nve.pipeline.compiler import compile_nve
from nve.pipeline.evaluator import NO_MAC, Frame, PacketVerdict, evaluate
from nve.pipeline.limits import metered
from nve.pipeline.rules import PACKET_PORT, UNDERLAY_PORT, PipelineTable, Purpose
from nve.pipeline.state import Association, AssociationRole, NveState, RemoteEntry
from nve.wire.frames import EXPERIMENTAL, ICMPV6, IPV4, IPV6, NEIGHBOUR_SOLICITATION, UDP
from tests.helpers import frames
from tests.helpers.frames import entering
from tests.helpers.tenants import BLUE, RED, underlay, vm, vteps

NETWORK = RoutedNetwork()
HERE, BESIDE, AWAY = (
    replace(vm(f"vm{number}", number, nve), routed=NETWORK)
    for number, nve in ((1, "nve1"), (2, "nve1"), (3, "nve2"))
)
NAMESAKE = vm("blue1", 3, "nve1", BLUE)
VTEPS = vteps()
PORTS = {HERE.name: 10, BESIDE.name: 11, NAMESAKE.name: 12}


def associated(each: VmSpec) -> Association:
    return Association(
        each.tenant_system,
        each.addresses,
        PORTS[each.name],
        AssociationRole.ACTIVE,
        routed=each.routed,
    )


STATE = NveState(
    VTEPS["nve1"],
    frozenset({VTEPS["nve2"], VTEPS["nve3"]}),
    {each.tenant_system: associated(each) for each in (HERE, BESIDE, NAMESAKE)},
    {AWAY.tenant_system: RemoteEntry(VTEPS["nve2"])},
    members={RED: frozenset({VTEPS["nve2"]})},
    flooded={RED: frozenset({VTEPS["nve2"]}), BLUE: frozenset()},
    routed={RED: NETWORK},
    hosts={each.tenant_system: each.addresses for each in (HERE, BESIDE, AWAY)},
)
RULES = compile_nve(STATE)


def judge(frame: Frame, sender: VmSpec = HERE) -> PacketVerdict:
    return evaluate(RULES, entering(frame, PORTS[sender.name]))


def packet(to: VmSpec, family: str, sender: VmSpec = HERE, **more: int | str) -> Frame:
    make, destination = {
        "ipv4": (frames.ipv4, "ipv4_dst"),
        "ipv6": (frames.ipv6, "ipv6_dst"),
    }[family]
    address = to.ipv4 if family == "ipv4" else to.ipv6
    return make(sender, NVE_MAC, nw_ttl=64, **{destination: str(address)}, **more)


@pytest.mark.shows("R4.2.1")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_packet_is_routed_to_the_vm_that_has_its_address(family: str) -> None:
    """To a VM beside the sender by its port, to one elsewhere by the tunnel to its NVE."""
    near, far = judge(packet(BESIDE, family)), judge(packet(AWAY, family))

    assert (near.ports, near.tunnels) == ((PORTS["vm2"],), ())
    assert (far.ports, far.tunnels) == ((), ((RED, VTEPS["nve2"]),))
    for verdict, to in ((near, BESIDE), (far, AWAY)):
        rewritten = [verdict.frame[field] for field in ("eth_src", "eth_dst", "nw_ttl")]
        assert rewritten == [NVE_MAC, to.mac, 63]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_with_the_last_ttl_goes_to_the_nva_and_nowhere_else(family: str, ttl: int) -> None:
    verdict = judge({**packet(BESIDE, family), "nw_ttl": ttl})

    assert verdict.last
    assert verdict.last.purpose is Purpose.EXPIRED
    assert verdict.reported
    assert (verdict.ports, verdict.tunnels) == ((), ())


@pytest.mark.shows("R4.1.3")
@pytest.mark.parametrize("address", ["192.168.0.99", str(GATEWAY_IPV4)])
def test_a_packet_without_a_host_route_is_asked_about(address: str) -> None:
    verdict = judge({**packet(BESIDE, "ipv4"), "ipv4_dst": address})

    assert verdict.last
    assert verdict.last.table is PipelineTable.ROUTE
    assert verdict.reported
    assert (verdict.ports, verdict.tunnels) == ((), ())


def solicitation(target: object, sender: VmSpec = HERE) -> Frame:
    nd = {"ip_proto": ICMPV6, "icmpv6_type": NEIGHBOUR_SOLICITATION}
    asked = {"ipv6_dst": "ff02::1:ff00:1", "ipv6_nd_target": str(target)}
    return frames.ipv6(sender, Mac("33:33:ff:00:00:01"), **nd, **asked)


@pytest.mark.shows("R4.2.4")
@pytest.mark.parametrize("question", [frames.arp(HERE, GATEWAY_IPV4), solicitation(GATEWAY_IPV6)])
def test_a_question_for_the_gateway_goes_to_the_nva(question: Frame) -> None:
    assert judge(question).reported


@pytest.mark.shows("R4.2.4")
@pytest.mark.parametrize(
    "frame",
    [
        frames.arp(HERE, BESIDE.ipv4),
        frames.arp(HERE, HERE.ipv4),
        frames.arp(HERE, GATEWAY_IPV4, arp_op=2),
        frames.rarp(HERE),
        solicitation(BESIDE.ipv6),
        frames.advertisement(HERE),
        frames.ipv4(HERE, BROADCAST, ipv4_dst="255.255.255.255"),
        frames.ipv4(HERE, BESIDE.mac, ipv4_dst=str(BESIDE.ipv4)),
        frames.ipv6(HERE, Mac("33:33:00:00:00:01"), ipv6_dst="ff02::1"),
        {"eth_src": HERE.mac, "eth_dst": BROADCAST, "eth_type": EXPERIMENTAL},
        {"eth_src": HERE.mac, "eth_dst": BESIDE.mac, "eth_type": EXPERIMENTAL},
    ],
    ids=str,
)
def test_nothing_else_goes_anywhere(frame: Frame) -> None:
    """No broadcast, no announcement, no question for a peer, no frame from VM to VM."""
    verdict = judge(frame)

    assert verdict.dropped
    assert verdict.last
    assert verdict.last.purpose is Purpose.NOT_ROUTED


def test_a_link_local_address_is_routed_nowhere() -> None:
    frame = {**packet(BESIDE, "ipv6"), "ipv6_dst": str(link_local(BESIDE.mac))}

    assert not judge(frame).ports


@pytest.mark.shows("R9.4")
def test_an_address_of_another_vm_is_no_source() -> None:
    forged = packet(AWAY, "ipv4", ipv4_src=str(BESIDE.ipv4))

    verdict = judge(forged)
    assert verdict.last
    assert verdict.last.purpose is Purpose.SPOOFED
    assert verdict.dropped


@pytest.mark.shows("R4.1.8")
def test_a_network_of_layer_2_beside_it_has_nothing_of_it() -> None:
    """The namesake floods as ever, and reaches nobody of the routed network."""
    asked = judge(frames.arp(NAMESAKE, IPv4Address("192.168.0.1")), NAMESAKE)
    routed = judge(packet(HERE, "ipv4", NAMESAKE), NAMESAKE)

    assert asked.reported
    assert routed.last
    assert routed.last.purpose is Purpose.MISS
    assert not routed.ports


def test_out_of_a_tunnel_a_packet_is_delivered_by_its_mac_address() -> None:
    routed = {**packet(HERE, "ipv4", AWAY), "eth_dst": HERE.mac, "eth_src": NVE_MAC}
    verdict = evaluate(RULES, frames.encapsulated(routed, RED, VTEPS["nve2"]))

    assert verdict.ports == (PORTS["vm1"],)


BARE = RoutedNetwork("vxlan-l3")
BARE_RULES = compile_nve(replace(STATE, routed={RED: BARE}))


def bare(to: str, vni: int = RED, source: Vtep = VTEPS["nve2"]) -> PacketVerdict:
    """What becomes of a packet that comes out of a tunnel without an Ethernet header."""
    packet: Frame = {
        **{"in_port": PACKET_PORT, "tunnel_id": vni, "tun_ipv4_src": str(source)},
        **{"eth_src": NO_MAC, "eth_dst": NO_MAC, "eth_type": IPV4, "ipv4_dst": to, "nw_ttl": 9},
    }
    return evaluate(BARE_RULES, packet)


@pytest.mark.shows("R4.2.1")
def test_without_an_ethernet_header_a_packet_is_delivered_by_its_address() -> None:
    verdict = bare(str(HERE.ipv4))

    assert verdict.ports == (PORTS["vm1"],)
    written = [verdict.frame[field] for field in ("eth_src", "eth_dst", "nw_ttl")]
    assert written == [NVE_MAC, HERE.mac, 9]


@pytest.mark.shows("R9.1", "R9.3")
@pytest.mark.parametrize(
    ("verdict", "purpose"),
    [
        (bare(str(HERE.ipv4), source=IPv4Address("10.1.0.99")), Purpose.UNKNOWN_VTEP),
        (bare(str(HERE.ipv4), vni=BLUE), Purpose.UNKNOWN_VNI),
        (bare("192.168.0.99"), Purpose.UNKNOWN_DESTINATION),
        (bare(str(AWAY.ipv4)), Purpose.UNKNOWN_DESTINATION),
    ],
    ids=lambda each: each.value if isinstance(each, Purpose) else "",
)
def test_what_has_no_business_in_a_tunnel_is_dropped_and_counted(
    verdict: PacketVerdict, purpose: Purpose
) -> None:
    """Also what is for a VM behind another NVE: it would go round in a circle."""
    assert verdict.dropped
    assert verdict.last
    assert verdict.last.purpose is purpose


SIR = IPv6Network("fd51:0:1388::/64")
LOCATED = RoutedNetwork("ila", SIR)
LOCATED_STATE = replace(STATE, routed={RED: LOCATED}, underlay=underlay()["nve1"])


def on_underlay(source: str, to: IPv6Address, icmpv6_type: int | None = None) -> Frame:
    """A packet that comes in from the underlay: an ICMPv6 message, or a UDP datagram."""
    kind = {"ip_proto": UDP}
    if icmpv6_type is not None:
        kind = {"ip_proto": ICMPV6, "icmpv6_type": icmpv6_type}
    ends = {"ipv6_src": source, "ipv6_dst": str(to)}
    return {"in_port": UNDERLAY_PORT, "eth_type": IPV6, "nw_ttl": 60, **ends, **kind}


ROUTER = "fd00:0:0:2::1"


@pytest.mark.shows("R4.2.2", "R9.4")
@pytest.mark.parametrize("icmpv6_type", [1, 2, 3, 4])
def test_an_error_of_a_router_goes_to_the_nva_up_to_a_limit(icmpv6_type: int) -> None:
    """Also at an NVE that has no VM of the network."""
    error = on_underlay(ROUTER, SIR[1], icmpv6_type)
    for state in (LOCATED_STATE, NveState(VTEPS["nve1"], underlay=LOCATED_STATE.underlay)):
        verdict = evaluate(compile_nve(state), error)

        assert verdict.reported
        assert (verdict.ports, verdict.tunnels) == ((), ())
        assert verdict.last
        (meter,) = verdict.last.meters
        assert metered(meter.number) == (UNDERLAY_PORT, "rate-limited-report")


HERE_LOCATED = ila.translated(SIR[1], ila.locator(LOCATED, ila.server(1)))


@pytest.mark.shows("R9.3", "R9.4")
@pytest.mark.parametrize(
    ("packet", "purpose"),
    [
        (on_underlay(ROUTER, SIR[1]), Purpose.SPOOFED),
        (on_underlay(ROUTER, SIR[1], 128), Purpose.SPOOFED),
        (on_underlay(ROUTER, SIR[1], 127), Purpose.SPOOFED),
        (on_underlay(str(SIR[2]), SIR[1]), Purpose.SPOOFED),
        (on_underlay(ROUTER, HERE_LOCATED), Purpose.SPOOFED),
        (on_underlay(ROUTER, HERE_LOCATED, 3), Purpose.SPOOFED),
        (on_underlay(ROUTER, ila.server(1)[7], 3), Purpose.UNKNOWN_LOCATOR),
        (on_underlay(ROUTER, ila.server(1)[7]), Purpose.UNKNOWN_LOCATOR),
    ],
    ids=lambda each: each.value if isinstance(each, Purpose) else "",
)
def test_whatever_else_a_stranger_sends_is_dropped_and_counted(
    packet: Frame, purpose: Purpose
) -> None:
    verdict = evaluate(compile_nve(LOCATED_STATE), packet)

    assert verdict.dropped
    assert verdict.last
    assert verdict.last.purpose is purpose
