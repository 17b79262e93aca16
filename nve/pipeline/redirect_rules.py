"""The rules of an NVE that a VM has left: its packets in flight are redirected (R4.1.4, R5.1-R5.5).

The draft's one MUST.  What other NVEs still send on old entries goes on to the VM's destination, or
is dropped and counted if the redirect leads nowhere.  When the redirect is over, what still comes
is dropped under a reason of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from nve.model import TenantSystem, Vni
from nve.pipeline.rules import (
    REMEMBERED,
    Action,
    PipelineTable,
    Purpose,
    Rule,
    Tunnel,
    copies_for,
    frames_for,
)
from nve.pipeline.state import NveState, Redirect


def of_redirect(state: NveState, system: TenantSystem, redirect: Redirect) -> Iterator[Rule]:
    """Yield the rules that redirect what comes out of a tunnel for a VM that has left."""
    onward = _onward(state, system, redirect, hairpin=True)
    yield from _in_flight(onward, system, redirect)
    yield from _copy_in_flight(system, redirect)


def of_neighbours(state: NveState, system: TenantSystem, redirect: Redirect) -> Rule:
    """Return the rule for frames of the VM's neighbours on the source NVE, until this has its
    entry.
    """
    return _of_neighbours(_onward(state, system, redirect), system)


@lru_cache(REMEMBERED)
def no_longer_forwarded(system: TenantSystem, redirect: Redirect) -> tuple[Rule, ...]:
    """Return the rules that drop what is still sent on old entries after the end of the
    redirect.
    """
    frames = [frames_for(system), *([copies_for(redirect.copy_vni)] if redirect.copy_vni else [])]
    table, purpose = PipelineTable.FROM_TUNNEL, Purpose.NO_LONGER_FORWARDED
    # Below the redirect's own rules, which have to time out by themselves to be counted.
    return tuple(Rule(table, 16, each, (), purpose, system, reports_end=True) for each in frames)


def copies_in_flight(state: NveState, vni: Vni) -> Iterator[Tunnel]:
    """Yield the tunnels for copies to VMs that have left.

    An NVE that sends one copy for all VMs here has not heard yet that one of them has left.
    """
    for system, redirect in sorted(state.redirects.items(), key=lambda item: item[0]):
        if system.vni == vni and redirect.flooded and redirect.to and redirect.copy_vni:
            yield Tunnel(redirect.copy_vni, redirect.to, hairpin=True)


@lru_cache(REMEMBERED)
def _in_flight(
    onward: tuple[Action, ...], system: TenantSystem, redirect: Redirect
) -> tuple[Rule, ...]:
    """Return the rules that redirect frames sent on an old entry: the draft's one MUST (R4.1.4,
    R5.1-R5.5).

    Once the redirect is ending, a second rule with a time-out stands above the first, so that a
    rule is there at every instant, and each keeps its counters until it goes.
    """
    purpose = Purpose.DEPARTED if redirect.to is None else Purpose.IN_FLIGHT
    waiting = Rule(
        PipelineTable.FROM_TUNNEL,
        30,
        frames_for(system),
        onward,
        purpose,
        system,
        reports_end=True,
    )
    if not redirect.ending:
        return (waiting,)
    ending = replace(waiting, priority=31, idle_s=redirect.idle_s, hard_s=redirect.timer_s)
    return (waiting, ending)


@lru_cache(REMEMBERED)
def _copy_in_flight(system: TenantSystem, redirect: Redirect) -> tuple[Rule, ...]:
    """Return the rules that redirect a VM's own copies of frames to groups as long as its other
    frames.
    """
    copy_vni, to = redirect.copy_vni, redirect.to
    if copy_vni is None:
        return ()
    onward = (Tunnel(copy_vni, to, hairpin=True),) if to else ()
    purpose = Purpose.IN_FLIGHT if to else Purpose.DEPARTED
    table = PipelineTable.FROM_TUNNEL
    return (Rule(table, 30, copies_for(copy_vni), onward, purpose, system),)


@lru_cache(REMEMBERED)
def _of_neighbours(onward: tuple[Action, ...], system: TenantSystem) -> Rule:
    purpose = Purpose.FORWARD if onward else Purpose.DEPARTED
    return Rule(PipelineTable.FORWARD, 20, frames_for(system), onward, purpose, system)


def _onward(
    state: NveState, system: TenantSystem, redirect: Redirect, *, hairpin: bool = False
) -> tuple[Action, ...]:
    """Return the actions of a redirect; there are none if packets in flight are dropped."""
    if redirect.to is None:
        return ()
    return state.towards(system.vni, redirect.to, hairpin=hairpin)
