"""What an NVE does with frames while a VM moves, and after it (R3.4, R4.1.4, R5)."""

import pytest

from nve.model import BROADCAST
from nve.pipeline.compiler import compile_system
from nve.pipeline.rules import Purpose
from nve.pipeline.state import AssociationRole, NveState, Redirect, RemoteEntry
from tests.helpers import frames
from tests.helpers.one_nve import (
    FAR,
    HERE,
    OTHER_PEER,
    PEER,
    STATE,
    VM1,
    VM2,
    from_tunnel,
    from_vm,
    purpose,
    with_vm1,
)
from tests.helpers.tenants import RED


@pytest.mark.shows("R5.1")
def test_before_its_vm_comes_the_destination_delivers_tunnel_frames_only() -> None:
    """Local VMs still reach the VM at its source, groups do not reach it twice."""
    to_source = {**STATE.remotes, VM1.tenant_system: RemoteEntry(PEER)}
    state = with_vm1(AssociationRole.PRE_ASSOCIATED, remotes=to_source)

    assert from_tunnel(frames.ipv4(FAR, VM1.mac), state=state).ports == (10,)
    assert from_vm(frames.ipv4(VM2, VM1.mac), VM2, state).tunnels == ((RED, PEER),)
    assert from_tunnel(frames.ipv4(FAR, BROADCAST), state=state).ports == (11,)


@pytest.mark.shows("R4.1.4", "R5.4", "R5.5")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
@pytest.mark.parametrize("ending", [(0, 0), (2, 0), (0, 5)])
def test_the_source_tunnels_packets_in_flight_on(packet, ending: tuple[int, int]) -> None:
    """Before the VM has arrived, and until the redirect has ended."""
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER, *ending)}
    state = with_vm1(AssociationRole.REDIRECTED, redirects=redirects)

    verdict = from_tunnel(packet(FAR, VM1.mac), state=state)

    assert (verdict.ports, verdict.tunnels) == ((), ((RED, OTHER_PEER),))
    assert purpose(verdict) is Purpose.IN_FLIGHT
    assert verdict.last is not None
    assert verdict.last.reports_end
    assert (verdict.last.idle_s, verdict.last.hard_s) == ending


@pytest.mark.shows("R4.1.4", "R5.5")
def test_under_a_rule_that_ends_by_itself_stands_one_that_does_not() -> None:
    """No instant without a rule, and the counters of both are kept."""
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER, idle_s=2)}
    rules = compile_system(
        with_vm1(AssociationRole.REDIRECTED, redirects=redirects), VM1.tenant_system
    )

    in_flight = sorted(
        (rule.priority, rule.idle_s) for rule in rules if rule.purpose is Purpose.IN_FLIGHT
    )

    assert in_flight == [(30, 0), (31, 2)]


@pytest.mark.shows("R4.1.4")
@pytest.mark.parametrize("ending", [(0, 0), (2, 0)])
def test_without_the_must_the_source_drops_packets_in_flight(ending: tuple[int, int]) -> None:
    """Left out on purpose: in_flight: drop."""
    state = with_vm1(
        AssociationRole.REDIRECTED,
        redirects={VM1.tenant_system: Redirect(None, *ending)},
    )

    verdict = from_tunnel(frames.ipv4(FAR, VM1.mac), state=state)

    assert verdict.dropped
    assert purpose(verdict) is Purpose.DEPARTED


def test_neighbours_at_the_source_reach_the_vm_during_the_move() -> None:
    redirected = {VM1.tenant_system: Redirect(OTHER_PEER)}
    dropping = {VM1.tenant_system: Redirect(None)}
    frame = frames.ipv4(VM2, VM1.mac)

    tunnelled = from_vm(frame, VM2, with_vm1(AssociationRole.REDIRECTED, redirects=redirected))
    dropped = from_vm(frame, VM2, with_vm1(AssociationRole.REDIRECTED, redirects=dropping))

    assert tunnelled.tunnels == ((RED, OTHER_PEER),)
    assert dropped.dropped
    assert purpose(dropped) is Purpose.DEPARTED


@pytest.mark.shows("R3.4")
def test_after_the_move_neighbours_at_the_source_use_an_entry_or_ask() -> None:
    """The redirect that still stands is for frames out of tunnels only."""
    ending = {VM1.tenant_system: Redirect(OTHER_PEER, idle_s=2)}
    frame = frames.ipv4(VM2, VM1.mac)
    entry = {VM1.tenant_system: RemoteEntry(OTHER_PEER, lifetime_s=3)}

    told = from_vm(
        frame, VM2, with_vm1(AssociationRole.REDIRECTED, redirects=ending, remotes=entry)
    )
    untold = from_vm(frame, VM2, with_vm1(AssociationRole.REDIRECTED, redirects=ending))

    assert told.tunnels == ((RED, OTHER_PEER),)
    assert told.last is not None
    assert (told.last.hard_s, told.last.reports_end) == (3, True)
    assert untold.reported


def test_a_departing_vm_may_still_send_and_hears_nothing() -> None:
    redirects = {VM1.tenant_system: Redirect(OTHER_PEER)}
    state = with_vm1(AssociationRole.REDIRECTED, redirects=redirects)

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
