"""One NVE, and what it does with a frame, judged by its compiled rules.

Two VMs of a tenant are behind it, a third behind another NVE, and a second tenant uses the same
addresses.
"""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from nve.model import BROADCAST, FIRST_COPY_VNI, Mac, VmSpec, Vni, Vtep
from nve.pipeline.compiler import compile_nve
from nve.pipeline.evaluator import Frame, PacketVerdict, evaluate
from nve.pipeline.rules import Purpose
from nve.pipeline.state import Association, AssociationRole, NveState, RemoteEntry
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


def attached(of: VmSpec, role: AssociationRole = AssociationRole.ACTIVE) -> Association:
    return Association(
        of.tenant_system,
        of.addresses,
        PORTS[of.name],
        role,
        flooded=role is not AssociationRole.PRE_ASSOCIATED,
        copy_vni=copy_vni(of),
    )


def copy_vni(of: VmSpec) -> Vni:
    """Return the VNI of a VM's own copies of frames to a group."""
    return Vni(FIRST_COPY_VNI + PORTS[of.name])


STATE = NveState(
    vtep=HERE,
    peers=frozenset({PEER, OTHER_PEER}),
    associations={each.tenant_system: attached(each) for each in (VM1, VM2, NAMESAKE)},
    remotes={FAR.tenant_system: RemoteEntry(PEER)},
    members={RED: frozenset({PEER})},
    flooded={RED: frozenset({PEER})},
)


def with_vm1(role: AssociationRole, **changes: Any) -> NveState:
    """Return the same NVE with vm1's port in another role."""
    associations = {**STATE.associations, VM1.tenant_system: attached(VM1, role)}
    return replace(STATE, associations=associations, **changes)


def from_vm(frame: Frame, of: VmSpec = VM1, state: NveState = STATE) -> PacketVerdict:
    return evaluate(compile_nve(state), entering(frame, PORTS[of.name]))


def from_tunnel(
    frame: Frame, network: int = RED, source: Vtep = PEER, state: NveState = STATE
) -> PacketVerdict:
    return evaluate(compile_nve(state), encapsulated(frame, network, source))


def purpose(verdict: PacketVerdict) -> Purpose | None:
    return verdict.last.purpose if verdict.last else None
