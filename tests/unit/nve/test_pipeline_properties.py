"""What an NVE does with any frame in any state, also one that no move leads to (R3, R9)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.model import TenantSystem
from nve.pipeline.compiler import compile_network, compile_nve, compile_system
from nve.pipeline.evaluator import Frame, evaluate
from nve.pipeline.port_rules import NO_MAC
from nve.pipeline.rules import (
    AGENT_PORT,
    FIRST_VM_PORT,
    VXLAN_PORT,
    GoTo,
    Output,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetMac,
    Tunnel,
)
from nve.pipeline.state import Association, AssociationRole, NveState, Redirect, RemoteEntry
from nve.wire import end_marker
from nve.wire.frames import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    RARP,
)
from tests.helpers.examples import examples
from tests.helpers.one_nve import GROUPS, HERE, OTHER_PEER, PEER, STRANGER, purpose
from tests.helpers.tenants import BLUE, RED, vm

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
    roles = {system: draw(st.sampled_from(AssociationRole)) for system in here}
    associations = {
        system: Association(
            system, SYSTEMS[system].addresses, FIRST_VM_PORT + number, roles[system]
        )
        for number, system in enumerate(here)
    }
    entries = st.builds(RemoteEntry, st.sampled_from(PEERS), lifetimes)
    return NveState(
        vtep=HERE,
        peers=frozenset(draw(st.lists(st.sampled_from(PEERS)))),
        associations=associations,
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
exhaustive = examples(40)


def network_of(frame: Frame, state: NveState) -> int | None:
    """The virtual network a frame belongs to, told without any rule."""
    if frame["in_port"] == VXLAN_PORT:
        return int(frame["tunnel_id"])
    owner = owner_of(int(frame["in_port"]), state)
    return owner.system.vni if owner else None


def owner_of(port: int, state: NveState) -> Association | None:
    return next((each for each in state.associations.values() if each.port == port), None)


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
        *(Purpose.UNKNOWN_DESTINATION, Purpose.DEPARTED, Purpose.FENCED),
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
    """A frame that goes to another VM or NVE has its port's MAC address, and if it is an IP packet
    one of its IP addresses."""
    rules = compile_nve(state)
    for frame in seen:
        verdict = evaluate(rules, frame)
        owner = owner_of(int(frame["in_port"]), state)
        if owner and (verdict.ports or verdict.tunnels):
            assert frame["eth_src"] == owner.system.mac
            claimed = frame.get("ipv4_src", frame.get("ipv6_src"))
            assert claimed in {None, *map(str, owner.addresses), "::"}
            assert claimed or frame["eth_type"] not in (IPV4, IPV6)


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
def test_a_tunnel_leads_into_a_tunnel_for_packets_in_flight_and_markers_only(
    state: NveState,
) -> None:
    """Everything else that comes out of a tunnel ends here, so no loop can form.

    A marker that is sent on has another address then, which leads to an agent only.
    """
    passed_addresses = {end_marker.passed_address(vtep) for vtep in (state.vtep, *state.peers)}
    for rule in compile_nve(state):
        for action in rule.actions:
            if isinstance(action, Tunnel) and action.hairpin:
                assert rule.table is PipelineTable.FROM_TUNNEL
                if rule.purpose is Purpose.END_MARKER:
                    passed = SetMac("eth_dst", end_marker.passed_address(state.vtep))
                    assert rule.actions == (passed, action)
                    assert dict(rule.match)["eth_dst"] == end_marker.last_address(action.to)
                    assert action.to != state.vtep
                else:
                    assert rule.about in state.redirects
            if dict(rule.match).get("eth_dst") in passed_addresses:
                assert [action.port for action in rule.actions] == [AGENT_PORT]  # type: ignore[union-attr]
            if rule.table in (PipelineTable.FROM_TUNNEL, PipelineTable.FLOOD_LOCAL):
                assert isinstance(action, GoTo | Output | Tunnel | ReportAction | SetMac)


@exhaustive
@given(states())
def test_an_nve_is_the_sum_of_its_networks_and_systems(state: NveState) -> None:
    """So the NVA may compile only what a change has touched; a rule about a VM names it."""
    systems = {*state.associations, *state.remotes, *state.redirects}
    about_vms = {rule for system in systems for rule in compile_system(state, system)}
    about_networks = {rule for vni in state.vnis for rule in compile_network(state, vni)}
    fixed = compile_nve(replace(state, associations={}, remotes={}, redirects={}))

    assert compile_nve(state) == about_vms | about_networks | fixed
    assert {rule.about for rule in about_vms} <= systems
    assert {rule.about for rule in about_networks | fixed} <= {None}


@exhaustive
@given(states(), keys)
def test_a_system_that_is_unknown_needs_no_rule(state: NveState, system: TenantSystem) -> None:
    without = replace(
        state,
        associations={key: value for key, value in state.associations.items() if key != system},
        remotes={key: value for key, value in state.remotes.items() if key != system},
        redirects={key: value for key, value in state.redirects.items() if key != system},
    )

    assert list(compile_system(without, system)) == []
    assert system not in {rule.about for rule in compile_nve(without)}
