"""What an NVE does with frames, judged by its compiled rules (R3, R4.1.4, R4.1.8, R5, R9).

The first half is one NVE with two VMs of a tenant, a third VM behind another NVE, and a second
tenant that uses the same addresses.  The second half are properties of any state at all.
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nve import endmarker
from nve.evaluator import Frame, Verdict, evaluate
from nve.messages import ARP_REPLY
from nve.model import BROADCAST, Mac, TenantSystem, VmSpec, Vtep, link_local
from nve.pipeline import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    NO_MAC,
    RARP,
    compile_network,
    compile_nve,
    compile_system,
)
from nve.rules import (
    AGENT_PORT,
    FIRST_VM_PORT,
    VXLAN_PORT,
    GoTo,
    Output,
    Purpose,
    Report,
    Rule,
    Table,
    Tunnel,
)
from nve.state import Attachment, NveState, Redirect, RemoteEntry, Role
from tests.helpers import frames
from tests.helpers.frames import encapsulated, entering
from tests.helpers.tenants import BLUE, RED, vm

HERE, PEER, OTHER_PEER = (IPv4Address("10.1.0.0") + number for number in (1, 2, 3))
STRANGER = IPv4Address("10.9.9.9")
VM1, VM2, FAR = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1"), vm("far", 3, "nve2")
NAMESAKE = vm("blue", 1, "nve1", BLUE)
PORTS = {"vm1": 10, "vm2": 11, "blue": 12}
TO_OWN_GROUP = {"eth_dst": "33:33:ff:00:00:01", "ipv6_dst": "ff02::1:ff00:1"}
"""The solicited-node group of vm1."""
GROUPS = [BROADCAST, Mac("33:33:00:00:00:01"), Mac("01:00:5e:00:00:fb")]


def attached(of: VmSpec, role: Role = Role.ACTIVE) -> Attachment:
    return Attachment(of.tenant_system, of.addresses, PORTS[of.name], role)


STATE = NveState(
    vtep=HERE,
    peers=frozenset({PEER, OTHER_PEER}),
    attachments={each.tenant_system: attached(each) for each in (VM1, VM2, NAMESAKE)},
    remotes={FAR.tenant_system: RemoteEntry(PEER)},
    members={RED: frozenset({PEER})},
)


def with_vm1(role: Role, **changes: Any) -> NveState:
    """The same NVE with vm1's port in another role."""
    attachments = {**STATE.attachments, VM1.tenant_system: attached(VM1, role)}
    return replace(STATE, attachments=attachments, **changes)


def from_vm(frame: Frame, of: VmSpec = VM1, state: NveState = STATE) -> Verdict:
    return evaluate(compile_nve(state), entering(frame, PORTS[of.name]))


def from_tunnel(
    frame: Frame, network: int = RED, source: Vtep = PEER, state: NveState = STATE
) -> Verdict:
    return evaluate(compile_nve(state), encapsulated(frame, network, source))


def purpose(verdict: Verdict) -> Purpose | None:
    return verdict.last.purpose if verdict.last else None


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
    "eth_type": endmarker.ETHERTYPE,
    "eth_src": endmarker.agent_mac(RED),
    "eth_dst": endmarker.EVERYBODY,
}


def test_a_marker_behind_what_a_vm_has_sent_goes_to_nves_and_to_no_vm() -> None:
    sent = evaluate(compile_nve(STATE), entering(LAST_MARKER, AGENT_PORT))
    heard = from_tunnel(LAST_MARKER)

    assert (sent.ports, sent.tunnels, sent.reported) == ((), ((RED, PEER),), False)
    assert (heard.ports, heard.tunnels, heard.reported) == ((), (), True)


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
        frames.ipv6(VM1, BROADCAST, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=135),
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


# -- what is dropped, and by which name ------------------------------------------------------------

FORGED = {
    "source-mac": frames.ipv4(VM1, VM2.mac, eth_src="02:00:00:00:00:66"),
    "neighbours-mac": frames.ipv4(VM1, FAR.mac, eth_src=VM2.mac),
    "ipv4": frames.ipv4(VM1, VM2.mac, ipv4_src=str(VM2.ipv4)),
    "ipv6": frames.ipv6(VM1, VM2.mac, ipv6_src=str(VM2.ipv6)),
    "other-ethertype": frames.ipv4(VM1, VM2.mac, eth_type=0x8100),
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
    "nothing-but-mac": {"eth_src": VM1.mac, "eth_dst": VM2.mac},
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


# -- moves -----------------------------------------------------------------------------------------


@pytest.mark.shows("R5.1")
def test_before_its_vm_comes_the_destination_delivers_tunnel_frames_only() -> None:
    """Local VMs still reach the VM at its source, groups do not reach it twice."""
    to_source = {**STATE.remotes, VM1.tenant_system: RemoteEntry(PEER)}
    state = with_vm1(Role.PRE_ASSOCIATED, remotes=to_source)

    assert from_tunnel(frames.ipv4(FAR, VM1.mac), state=state).ports == (10,)
    assert from_vm(frames.ipv4(VM2, VM1.mac), VM2, state).tunnels == ((RED, PEER),)
    assert from_tunnel(frames.ipv4(FAR, BROADCAST), state=state).ports == (11,)


@pytest.mark.shows("R4.1.4", "R5.4", "R5.5")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
@pytest.mark.parametrize("ending", [{}, {"idle_s": 2}, {"timer_s": 5}])
def test_the_source_tunnels_packets_in_flight_on(packet, ending: dict[str, int]) -> None:
    """Before the VM has arrived, and until the redirect has ended."""
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER, **ending)}
    state = with_vm1(Role.DEPARTING, redirects=redirects)

    verdict = from_tunnel(packet(FAR, VM1.mac), state=state)

    assert (verdict.ports, verdict.tunnels) == ((), ((RED, OTHER_PEER),))
    assert purpose(verdict) is Purpose.IN_FLIGHT
    assert verdict.last is not None
    assert verdict.last.reports_end
    times = (verdict.last.idle_s, verdict.last.hard_s)
    assert times == (ending.get("idle_s", 0), ending.get("timer_s", 0))


@pytest.mark.shows("R4.1.4", "R5.5")
def test_under_a_rule_that_ends_by_itself_stands_one_that_does_not() -> None:
    """No instant without a rule, and the counters of both are kept."""
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER, idle_s=2)}
    rules = compile_system(with_vm1(Role.DEPARTING, redirects=redirects), VM1.tenant_system)

    in_flight = sorted(
        (rule.priority, rule.idle_s) for rule in rules if rule.purpose is Purpose.IN_FLIGHT
    )

    assert in_flight == [(30, 0), (31, 2)]


@pytest.mark.shows("R4.1.4")
@pytest.mark.parametrize("ending", [{}, {"idle_s": 2}])
def test_without_the_must_the_source_drops_packets_in_flight(ending: dict[str, int]) -> None:
    """Left out on purpose: in_flight: drop."""
    state = with_vm1(
        Role.DEPARTING,
        redirects={VM1.tenant_system: Redirect(None, **ending)},
    )

    verdict = from_tunnel(frames.ipv4(FAR, VM1.mac), state=state)

    assert verdict.dropped
    assert purpose(verdict) is Purpose.DEPARTED


def test_neighbours_at_the_source_reach_the_vm_during_the_move() -> None:
    redirected = {VM1.tenant_system: Redirect(OTHER_PEER)}
    dropping = {VM1.tenant_system: Redirect(None)}
    frame = frames.ipv4(VM2, VM1.mac)

    tunnelled = from_vm(frame, VM2, with_vm1(Role.DEPARTING, redirects=redirected))
    dropped = from_vm(frame, VM2, with_vm1(Role.DEPARTING, redirects=dropping))

    assert tunnelled.tunnels == ((RED, OTHER_PEER),)
    assert dropped.dropped
    assert purpose(dropped) is Purpose.DEPARTED


@pytest.mark.shows("R3.4")
def test_after_the_move_neighbours_at_the_source_use_an_entry_or_ask() -> None:
    """The redirect that still stands is for frames out of tunnels only."""
    ending = {VM1.tenant_system: Redirect(OTHER_PEER, idle_s=2)}
    frame = frames.ipv4(VM2, VM1.mac)
    entry = {VM1.tenant_system: RemoteEntry(OTHER_PEER, lifetime_s=3)}

    told = from_vm(frame, VM2, with_vm1(Role.DEPARTING, redirects=ending, remotes=entry))
    untold = from_vm(frame, VM2, with_vm1(Role.DEPARTING, redirects=ending))

    assert told.tunnels == ((RED, OTHER_PEER),)
    assert told.last is not None
    assert (told.last.hard_s, told.last.reports_end) == (3, True)
    assert untold.reported


def test_a_departing_vm_may_still_send_and_hears_nothing() -> None:
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER)}
    state = with_vm1(Role.DEPARTING, redirects=redirects)

    assert from_vm(frames.ipv4(VM1, VM2.mac), state=state).ports == (11,)
    assert from_tunnel(frames.ipv4(FAR, BROADCAST), state=state).ports == (11,)


@pytest.mark.shows("R4.1.3")
def test_an_entry_without_a_lifetime_stays() -> None:
    """As with push."""
    (entry,) = compile_system(STATE, FAR.tenant_system)

    assert (entry.idle_s, entry.hard_s, entry.reports_end) == (0, 0, False)


@pytest.mark.shows("R4.1.4")
def test_packets_in_flight_are_admitted_after_the_last_vm_has_left() -> None:
    """The source may have no VM of that network any more."""
    state = NveState(
        vtep=HERE,
        peers=frozenset({PEER}),
        redirects={VM1.tenant_system: Redirect(OTHER_PEER, idle_s=2)},
    )

    assert from_tunnel(frames.ipv4(FAR, VM1.mac), state=state).tunnels == ((RED, OTHER_PEER),)


# -- any state -------------------------------------------------------------------------------------

VMS = [vm(f"r{n}", n, "nve1", RED) for n in (1, 2)] + [
    vm(f"b{n}", n, "nve1", BLUE) for n in (1, 2, 3)
]
SYSTEMS = {each.tenant_system: each for each in VMS}
PEERS = [PEER, OTHER_PEER]
keys = st.sampled_from(sorted(SYSTEMS))
lifetimes = st.sampled_from([None, 3])
redirects = st.builds(
    Redirect, st.sampled_from([None, *PEERS]), st.sampled_from([0, 2]), st.sampled_from([0, 5])
)


@st.composite
def states(draw) -> NveState:
    """Any state, also one that no move leads to."""
    here = draw(st.lists(keys, unique=True))
    roles = {system: draw(st.sampled_from(Role)) for system in here}
    attachments = {
        system: Attachment(system, SYSTEMS[system].addresses, FIRST_VM_PORT + number, roles[system])
        for number, system in enumerate(here)
    }
    entries = st.builds(RemoteEntry, st.sampled_from(PEERS), lifetimes)
    return NveState(
        vtep=HERE,
        peers=frozenset(draw(st.lists(st.sampled_from(PEERS)))),
        attachments=attachments,
        remotes=draw(st.dictionaries(keys, entries)),
        redirects=draw(st.dictionaries(keys, redirects)),
        members=draw(
            st.dictionaries(
                st.sampled_from([RED, BLUE]), st.sets(st.sampled_from(PEERS)).map(frozenset)
            )
        ),
    )


macs = st.sampled_from([*{each.mac for each in VMS}, "02:00:00:00:00:63", NO_MAC])
ipv4s = st.sampled_from([*{str(each.ipv4) for each in VMS}, "0.0.0.0", "9.9.9.9"])
ipv6s = st.sampled_from(
    sorted({str(a) for each in VMS for a in each.addresses if a.version == 6} | {"::", "fd00::9"})
)
bodies = st.one_of(
    st.fixed_dictionaries({"eth_type": st.just(IPV4), "ipv4_src": ipv4s}),
    st.fixed_dictionaries(
        {"eth_type": st.sampled_from([ARP, RARP]), "arp_sha": macs, "arp_spa": ipv4s}
    ),
    st.fixed_dictionaries(
        {"eth_type": st.just(IPV6), "ipv6_src": ipv6s, "ip_proto": st.sampled_from([17, ICMPV6])}
    ),
    st.fixed_dictionaries(
        {
            "eth_type": st.just(IPV6),
            "ipv6_src": ipv6s,
            "ip_proto": st.just(ICMPV6),
            "icmpv6_type": st.sampled_from([NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, 128]),
            "ipv6_nd_target": ipv6s,
            "ipv6_nd_tll": macs,
        }
    ),
    st.just({"eth_type": 0x88CC}),
)
places = st.one_of(
    st.integers(FIRST_VM_PORT, FIRST_VM_PORT + len(VMS)).map(lambda port: {"in_port": port}),
    st.fixed_dictionaries(
        {
            "in_port": st.just(VXLAN_PORT),
            "tunnel_id": st.sampled_from([RED, BLUE, 4711]),
            "tun_ipv4_src": st.sampled_from([str(each) for each in (*PEERS, HERE, STRANGER)]),
        }
    ),
)
anything = st.builds(
    lambda place, source, destination, body: {
        **place, "eth_src": source, "eth_dst": destination, **body,
    },
    places,
    macs,
    st.one_of(macs, st.sampled_from(GROUPS)),
    bodies,
)  # fmt: skip
exhaustive = settings(max_examples=40, deadline=None, derandomize=True)


def network_of(frame: Frame, state: NveState) -> int | None:
    """The virtual network a frame belongs to, told without any rule."""
    if frame["in_port"] == VXLAN_PORT:
        return int(frame["tunnel_id"])
    owner = owner_of(int(frame["in_port"]), state)
    return owner.system.vni if owner else None


def owner_of(port: int, state: NveState) -> Attachment | None:
    return next((each for each in state.attachments.values() if each.port == port), None)


@pytest.mark.shows("R4.1.8", "R9.1", "R9.3")
@exhaustive
@given(states(), st.lists(anything, min_size=5, max_size=10))
def test_a_frame_stays_in_its_network_and_no_two_rules_disagree(
    state: NveState, seen: list[Frame]
) -> None:
    """`evaluate` raises where two rules of one priority disagree."""
    rules = compile_nve(state)
    for frame in seen:
        verdict = evaluate(rules, frame)
        network = network_of(frame, state)
        receivers = [owner_of(port, state) for port in verdict.ports]
        assert {each.system.vni if each else None for each in receivers} <= {network}
        assert {vni for vni, _ in verdict.tunnels} <= {network}
        assert len(set(verdict.ports)) == len(verdict.ports)
        if frame["in_port"] == VXLAN_PORT and frame["tun_ipv4_src"] not in {
            str(peer) for peer in state.peers
        }:
            assert purpose(verdict) is Purpose.UNKNOWN_VTEP


@exhaustive
@given(states(), st.lists(anything, min_size=5, max_size=10))
def test_every_drop_is_counted_by_a_reason(state: NveState, seen: list[Frame]) -> None:
    """R9: no frame dies without a rule that counts it."""
    rules = compile_nve(state)
    drops = {
        *(Purpose.UNKNOWN_PORT, Purpose.UNKNOWN_VTEP, Purpose.UNKNOWN_VNI, Purpose.SPOOFED),
        *(Purpose.UNKNOWN_DESTINATION, Purpose.DEPARTED),
    }
    for frame in seen:
        verdict = evaluate(rules, frame)
        assert verdict.last is not None, f"no rule for {frame}"
        if verdict.dropped and not verdict.last.actions:
            # A group that nobody else is in has a rule without outputs, but for no bad reason.
            assert verdict.last.purpose in drops | {Purpose.FLOOD}


@pytest.mark.shows("R9.4")
@exhaustive
@given(states(), st.lists(anything, min_size=5, max_size=10))
def test_what_leaves_a_guarded_port_is_its_own(state: NveState, seen: list[Frame]) -> None:
    """A frame that goes to another VM or NVE has its port's MAC and IP addresses."""
    rules = compile_nve(state)
    for frame in seen:
        verdict = evaluate(rules, frame)
        owner = owner_of(int(frame["in_port"]), state)
        if owner and (verdict.ports or verdict.tunnels):
            assert frame["eth_src"] == owner.system.mac
            claimed = frame.get("ipv4_src", frame.get("ipv6_src"))
            assert claimed in {*map(str, owner.addresses), "::"}


@exhaustive
@given(states())
def test_a_switch_can_hold_the_rules(state: NveState) -> None:
    """One rule for each key, one cookie for each rule, tables only forwards, times in 16 bits."""
    rules = compile_nve(state)

    assert len({rule.key for rule in rules}) == len(rules)
    assert len({rule.cookie for rule in rules}) == len(rules)
    assert all(_leads_on(rule) for rule in rules)


def _leads_on(rule: Rule) -> bool:
    return all(action.table > rule.table for action in rule.actions if isinstance(action, GoTo))


@pytest.mark.shows("R3.4", "R3.5")
@exhaustive
@given(states())
def test_a_tunnel_leads_into_a_tunnel_for_packets_in_flight_only(state: NveState) -> None:
    """Everything else that comes out of a tunnel ends here, so no loop can form."""
    for rule in compile_nve(state):
        for action in rule.actions:
            if isinstance(action, Tunnel) and action.hairpin:
                assert rule.table is Table.FROM_TUNNEL
                assert rule.about in state.redirects
            if rule.table in (Table.FROM_TUNNEL, Table.FLOOD_LOCAL):
                assert isinstance(action, GoTo | Output | Tunnel | Report)


@exhaustive
@given(states())
def test_an_nve_is_the_sum_of_its_networks_and_systems(state: NveState) -> None:
    """So the NVA may compile only what a change has touched; a rule about a VM names it."""
    systems = {*state.attachments, *state.remotes, *state.redirects}
    about_vms = {rule for system in systems for rule in compile_system(state, system)}
    about_networks = {rule for vni in state.vnis for rule in compile_network(state, vni)}
    fixed = compile_nve(replace(state, attachments={}, remotes={}, redirects={}))

    assert compile_nve(state) == about_vms | about_networks | fixed
    assert {rule.about for rule in about_vms} <= systems
    assert {rule.about for rule in about_networks | fixed} <= {None}


@exhaustive
@given(states(), keys)
def test_a_system_that_is_unknown_needs_no_rule(state: NveState, system: TenantSystem) -> None:
    without = replace(
        state,
        attachments={key: value for key, value in state.attachments.items() if key != system},
        remotes={key: value for key, value in state.remotes.items() if key != system},
        redirects={key: value for key, value in state.redirects.items() if key != system},
    )

    assert list(compile_system(without, system)) == []
    assert system not in {rule.about for rule in compile_nve(without)}
