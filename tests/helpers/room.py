"""Servers with room for few VMs, VMs that are on-boarded and moved there, and who takes what.

nve1 has no limit, nve2 room for one VM and a half, nve3 for one; a VM takes 64 MB.
"""

from collections.abc import Callable

import pytest

from controller.core.dissemination import strategy
from controller.core.move import MoveRequest
from controller.core.move_fsm import Phase
from controller.core.onboarding import Interface, OnboardingRequest
from controller.core.refusals import RequestRefused
from nve.model import VmSpec
from nve.resources import Capacity, Resources
from tests.helpers.authority import state_of
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import vm, vteps

WANTED = Resources(memory_mb=64, storage_mb=10)
CAPACITIES = {"nve2": Capacity(memory_mb=96, storage_mb=20), "nve3": Capacity(memory_mb=64)}
VM1, VM2, VM3 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1"), vm("vm3", 3, "nve2")


def interface(of: VmSpec) -> Interface:
    return Interface(of.tenant_system, of.addresses)


def request(of: VmSpec, resources: Resources = WANTED, lease_s: float = 30) -> OnboardingRequest:
    return OnboardingRequest(interface(of), resources, of.nve, lease_s)


def on_board(at: Fabric, of: VmSpec, resources: Resources = WANTED) -> None:
    at.vms[of.name] = of
    offer = at.ask(at.authority.offer, of.name, request(of, resources)).offer
    at.ask(at.authority.confirm_offer, of.name, offer, at.port(of.name))
    at.where[of.name] = of.nve


def made() -> Fabric:
    return Fabric(vteps(), strategy("push", None), capacities=CAPACITIES)


def two_vms() -> Fabric:
    """vm1 and vm2 are at nve1."""
    at = made()
    on_board(at, VM1)
    on_board(at, VM2)
    at.settle()
    return at


def taken(at: Fabric) -> dict[str, int]:
    """Memory, by server."""
    admission = at.authority.admission
    return {nve: sum(each.memory_mb for _, each in admission.takers(nve)) for nve in at.nves}


def move(at: Fabric, name: str, to: str, *, source: str | None = None, memory_mb: int = 64) -> str:
    """Ask for a move; its key."""
    key = str(len(at.authority.moves) + 1)
    asked = MoveRequest(
        name, to, at.port(name), idle_s=2, source=source, memory_mb=memory_mb, disk_mb=10
    )
    at.ask(at.authority.request_move, key, asked)
    return key


def refused(at: Fabric, complaint: str, ask: Callable[[], object]) -> None:
    """It is, in this sentence, and nothing has changed."""
    before = state_of(at), taken(at), list(at.authority.onboardings)
    with pytest.raises(RequestRefused, match=complaint):
        ask()
    after = state_of(at), taken(at), list(at.authority.onboardings)
    assert after == before, f"refused, but {before} has become {after}"


def steps(at: Fabric, key: str) -> list[tuple[Phase, Callable[[], object]]]:
    """How a move gets to each of its phases."""

    def redirect() -> None:
        at.ask(at.authority.redirect, key)
        at.settle()

    return [
        (Phase.PREPARED, at.settle),
        (Phase.REDIRECTED, redirect),
        (Phase.ACTIVATED, lambda: at.ask(at.authority.activate, key)),
        (Phase.CONVERGED, at.settle),
        (Phase.COMPLETED, at.expire_all),
    ]
