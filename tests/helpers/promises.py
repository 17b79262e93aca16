"""The overlay's promises, checked in a `Fabric`: each check returns a list of broken promises.

`strayed` has to hold at every instant, with changes half delivered.  `disagreeing` and `unreached`
have to hold when nothing is under way any more.
"""

from collections.abc import Iterable, Iterator

from controller.core.move_fsm import Phase
from nve.model import VmSpec
from nve.pipeline.evaluator import Frame, PacketVerdict
from nve.pipeline.rules import VXLAN_PORT, Rule, lane_port
from tests.helpers import frames
from tests.helpers.fabric import Fabric


def strayed(fabric: Fabric, to: Iterable[VmSpec]) -> list[str]:
    """Return frames to these VMs that end where they should not.

    The frames come from every VM of any network and out of every tunnel.  They must not end at
    another VM, in another virtual network, or at two places (R4.1.8, R9.1).  Raises ForwardingLoop,
    and ValueError if two rules disagree.
    """
    complaints = []
    for target in to:
        for origin, frame, at in [*_from_vms(fabric, target), *_from_tunnels(fabric, target)]:
            owners = [_owner(fabric, *place) for place in fabric.deliveries(frame, at)]
            expected = target if origin.vni == target.vni else _namesake(fabric, origin, target)
            if owners not in ([], [expected]):
                names = ", ".join(owner.name if owner else "nobody" for owner in owners)
                complaints.append(f"{_name(origin, frame)} -> {target.name} at {at} got to {names}")
    return complaints


def disagreeing(fabric: Fabric) -> list[str]:
    """Return NVEs that do not hold exactly the rules that follow from their state (R3.5)."""
    complaints = []
    for name, node in fabric.nves.items():
        wanted = fabric.authority.desired.rules(name)
        complaints += [f"{name} misses {rule}" for rule in wanted - node.holds()]
        complaints += [f"{name} still holds {rule}" for rule in node.holds() - wanted]
    return complaints


def pending(fabric: Fabric) -> list[str]:
    """Return counts that the NVA still expects of an NVE, although nothing is left of any move."""
    return [
        f"{name} is to report what it carried for {each.name}"
        for name in fabric.nves
        for each in fabric.vms.values()
        if fabric.authority.owed_by(name, each.tenant_system)
    ]


def unreached(fabric: Fabric) -> list[str]:
    """Return VMs that a VM of their network does not reach, by an entry or by asking (R4.1.3)."""
    complaints = []
    for target in fabric.vms.values():
        for sender, frame, at in _from_vms(fabric, target):
            if sender.vni != target.vni or sender == target:
                continue
            if fabric.judge(frame, at).reported:
                fabric.send(sender.name, frame)
                fabric.settle()
            place = (fabric.where[target.name], fabric.port(target.name))
            reached = fabric.deliveries(frame, at)
            if [(nve, _owner(fabric, nve, port)) for nve, port in reached] != [(place[0], target)]:
                complaints.append(f"{sender.name} -> {target.name} got to {reached}, not {place}")
    return complaints


def misplaced(fabric: Fabric, target: VmSpec) -> list[str]:
    """Return frames of VMs that come to a place of the VM where it neither runs nor is about to."""
    places = {fabric.where[target.name]}
    youngest = [each for each in fabric.authority.moves if each.system == target.tenant_system][-1:]
    for move in youngest:
        # Packets that an earlier attempt has redirected there may still come.
        given_up = move.placed if move.phase is Phase.ROLLED_BACK else not move.placed
        if given_up or move.phase in (Phase.REDIRECTING, Phase.REDIRECTED):
            places.add(move.destination)
    return [
        f"{sender.name} -> {target.name} at {at} got to {nve}, not {', '.join(sorted(places))}"
        for sender, frame, at in _from_vms(fabric, target)
        if sender != target and sender.vni == target.vni
        for nve, _ in fabric.deliveries(frame, at)
        if nve not in places
    ]


def dropped(fabric: Fabric, target: VmSpec) -> list[str]:
    """Return frames of the network's VMs that reach no place of the VM, nor the NVA."""
    return [
        f"{sender.name} -> {target.name} at {at} is dropped by {way[-1].last}"
        for sender, frame, at in _from_vms(fabric, target)
        if sender != target and sender.vni == target.vni
        if (way := reasons(fabric, frame, at))[-1].dropped
    ]


def reasons(fabric: Fabric, frame: Frame, at: str) -> list[PacketVerdict]:
    """Return the verdict of every NVE that a frame visits, in order."""
    return [verdict for _, verdict in fabric.way(frame, at)]


def about(fabric: Fabric, nve: str, vm: VmSpec) -> set[Rule]:
    """Return the rules of an NVE that mention a VM."""
    return {rule for rule in fabric.nves[nve].holds() if rule.about == vm.tenant_system}


def _from_vms(fabric: Fabric, target: VmSpec) -> Iterator[tuple[VmSpec, Frame, str]]:
    for sender in fabric.vms.values():
        frame = frames.entering(frames.ipv4(sender, target.mac), fabric.port(sender.name))
        yield sender, frame, fabric.where[sender.name]


def _from_tunnels(fabric: Fabric, target: VmSpec) -> Iterator[tuple[VmSpec, Frame, str]]:
    for name in fabric.nves:
        for peer in fabric.nves.values():
            if peer.name != name:
                frame = frames.ipv4(target, target.mac)
                yield target, frames.encapsulated(frame, target.vni, peer.vtep), name


def _namesake(fabric: Fabric, origin: VmSpec, target: VmSpec) -> VmSpec | None:
    """Return the VM with the target's MAC address in the sender's own virtual network."""
    return next(
        (vm for vm in fabric.vms.values() if vm.vni == origin.vni and vm.mac == target.mac), None
    )


def _owner(fabric: Fabric, nve: str, port: int) -> VmSpec | None:
    """Return the VM that a port number, or that of a lane, belongs to; it is the same at every
    NVE.
    """
    ports = {vm.name: fabric.port(vm.name) for vm in fabric.vms.values()}
    return next(
        (vm for vm in fabric.vms.values() if port in (ports[vm.name], lane_port(ports[vm.name]))),
        None,
    )


def _name(origin: VmSpec, frame: Frame) -> str:
    return "a tunnel" if frame["in_port"] == VXLAN_PORT else origin.name


def unsettled(fabric: Fabric) -> list[str]:
    """Return what the NVA would still do if it looked at every move once more, without any news."""
    authority = fabric.authority
    for move in authority.moves:
        authority._moves.wake(move.system)
    authority._settle()
    return [*map(str, authority.take_effects()), *map(str, authority.durable.take().moves)]
