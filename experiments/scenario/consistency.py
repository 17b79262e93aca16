"""Finds parts of a scenario that do not fit together, before anything is started.

It looks at what no part can know alone: names and addresses that two parts use, and the room on
servers.  What concerns one kind of part is asked of its own module (`layers`, `moves`, `tasks`,
`standbys`, `failures`), and of each entry of the traffic.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from math import inf
from typing import TYPE_CHECKING

from experiments import overlays
from experiments.scenario import failures, layers, moves, standbys, tasks
from experiments.scenario.moves import MoveSpec
from experiments.scenario.parts import no_such
from experiments.scenario.traffic import FlowSpec
from nve.model import IPAddress
from nve.resources import UNLIMITED, Capacity
from topologies.configuration import RESERVED
from topologies.spec import USUAL_MTU

if TYPE_CHECKING:
    from experiments.scenario.schema import Scenario

LINK_LOCAL = IPv6Network("fe80::/64")


def contradictions(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """Yield where the parts do not fit together: (field, complaint)."""
    fabric = scenario.topology.fabric()
    nves = fabric.nves
    for nve in scenario.topology.parameters.links:
        if nve not in nves:
            yield f"topology.links.{nve}", no_such("NVE", nve, nves)
    if scenario.control.mtu != USUAL_MTU:
        yield "control.mtu", f"the control network has {USUAL_MTU}; leave it out"
    control_node = overlays.get(scenario.overlay.kind).control_node
    taken = {*RESERVED, control_node, *(node.name for node in fabric.nodes)}
    where: dict[str, str] = {}
    network: dict[str, int] = {}
    for number, tenant in enumerate(scenario.tenants):
        if tenant.vni in network.values():
            yield f"tenants.{number}.vni", f"two tenants have VNI {tenant.vni}; give each its own"
        for vm, nve in ((vm, place.nve) for vm, place in tenant.vms.items()):
            if vm in where:
                yield f"tenants.{number}.vms.{vm}", "two VMs have this name; give each its own"
            if vm in taken:
                yield f"tenants.{number}.vms.{vm}", "another node has this name; choose another"
            if nve not in nves:
                yield f"tenants.{number}.vms.{vm}", no_such("NVE", nve, nves)
            where[vm], network[vm] = nve, tenant.vni
    yield from _contradicting_addresses(scenario)
    yield from _too_little_room(scenario, fabric.capacities)
    yield from layers.contradictions(scenario)
    for number, sent in enumerate(scenario.traffic):
        for key, complaint in sent.contradictions(network, scenario.traffic[:number]):
            yield f"traffic.{number}.{key}".rstrip("."), complaint
        asked = sent.destination if isinstance(sent, FlowSpec) and sent.asks_service else None
        if asked in where and asked not in scenario.serving:
            yield f"traffic.{number}.to", f"{asked} has no service; say service: true in its guest"
    yield from moves.contradictions(
        scenario.moves,
        where,
        nves,
        duration_s=scenario.duration_s,
        guests=scenario.guests,
        migration_network=fabric.migration is not None,
        takes={vm.name: vm.resources for vm in scenario.vms()},
        capacities=fabric.capacities,
        standbys={
            vm.name: moves.StandbyRoom(standby.at, standby.takes(vm.resources), standby.reverse)
            for vm in scenario.vms()
            if (standby := scenario.standbys.get(vm.name))
        },
    )
    for number, sent in enumerate(scenario.traffic):
        if sent.of_task:
            for key, complaint in tasks.not_reached(scenario.tasks, *sent.of_task):
                yield f"traffic.{number}.{key}", complaint
    yield from tasks.contradictions(
        scenario.tasks,
        scenario.task_moves,
        network,
        [*(name for name in taken if name), *nves],
        scenario.duration_s,
        scenario.name_server,
    )
    yield from tasks.without_multipath(
        *(scenario.tasks, scenario.task_moves, where, nves),
        {vm: [move.to for move in scenario.moves if move.vm == vm] for vm in where},
    )
    yield from standbys.contradictions(
        scenario.standbys,
        {
            vm: f"tenants.{number}.vms.{vm}.standby"
            for number, tenant in enumerate(scenario.tenants)
            for vm in tenant.vms
        },
        where,
        nves,
        list(scenario.guests),
        scenario.moves,
        can_be_told=control_node is not None,
        serving=scenario.serving,
        routed=scenario.routed,
        not_to=dict(_beside_services(scenario)),
    )
    yield from failures.contradictions(
        scenario.failures,
        nves,
        overlay=overlays.get(scenario.overlay.kind),
        moves=len(scenario.moves),
        duration_s=scenario.duration_s,
        control_delays=scenario.control.delays,
        transfers=[number for number, move in enumerate(scenario.moves, 1) if move.transfer],
    )


def of_a_move(
    scenario: "Scenario", move: MoveSpec, where: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield what does not fit a move that is asked for while VMs are at `where`: (key, complaint).

    Room on servers is not looked at: moves before it may have changed that.
    """
    fabric = scenario.topology.fabric()
    of_moves = moves.contradictions(
        [move],
        where,
        fabric.nves,
        duration_s=inf,
        guests=scenario.guests,
        migration_network=fabric.migration is not None,
    )
    if move.vm in scenario.routed:
        yield from layers.not_announced("announce", move)
    for place, complaint in (*of_moves, *standbys.not_moved(scenario.standbys, [move])):
        yield place.removeprefix("moves.0."), complaint


def _beside_services(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """What is from or for a VM, and is no request to its service: (place, VM)."""
    for number, sent in enumerate(scenario.traffic):
        if isinstance(sent, FlowSpec):
            yield f"traffic.{number}.from", sent.source
            if not sent.asks_service:
                yield f"traffic.{number}.to", sent.destination
    for name, task in scenario.tasks.items():
        yield f"tasks.{name}.on", task.on
    for number, move in enumerate(scenario.task_moves):
        yield f"task_moves.{number}.to", move.to


def _too_little_room(
    scenario: "Scenario", capacities: Mapping[str, Capacity]
) -> Iterator[tuple[str, str]]:
    """Yield servers that do not exist, or lack room for the VMs that start there."""
    parameters = scenario.topology.parameters
    for nve in parameters.servers:
        if nve not in capacities:
            yield f"topology.servers.{nve}", no_such("NVE", nve, capacities)
    limited = [nve for nve, capacity in capacities.items() if capacity != UNLIMITED]
    if limited and overlays.get(scenario.overlay.kind).control_node is None:
        key = "servers" if parameters.servers else "server"
        yield (
            f"topology.{key}",
            f"{scenario.overlay.kind} does not know the resources of servers; leave it out",
        )
    for nve in limited:
        free = capacities[nve]
        here = {vm.name: vm.resources for vm in scenario.vms() if vm.nve == nve}
        standbys = {
            f"the standby of {vm.name}": standby.takes(vm.resources)
            for vm in scenario.vms()
            if (standby := scenario.standbys.get(vm.name)) and standby.at == nve
        }
        for what, resources in {**here, **standbys}.items():
            if shortage := free.shortage(resources):
                yield (
                    f"topology.servers.{nve}",
                    f"there is no room for {what}, which starts there: {shortage}; give the "
                    "server more, or let it start elsewhere",
                )
                break
            free = free.without([resources])


def _contradicting_addresses(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """Yield addresses that two VMs of a network have, or that are no host's addresses there."""
    vms = {vm.name: vm for vm in scenario.vms()}
    for number, tenant in enumerate(scenario.tenants):
        owner = {
            address: vm
            for vm in tenant.vms
            for address in vms[vm].addresses - set(vms[vm].secondary)
        }
        for address, entitled in tenant.shared.items():
            key = f"tenants.{number}.shared.{address}"
            for vm in entitled:
                if vm not in tenant.vms:
                    yield key, no_such("VM", vm, list(tenant.vms))
            yield from _contradicting_address(key, address, owner, tenant.networks)
            owner[address] = " and ".join(entitled)
        for name, task in scenario.tasks.items():
            if task.on not in tenant.vms:
                continue
            for within, address in task.placed_addresses:
                yield from _contradicting_address(
                    f"tasks.{name}.addresses.{within}", address, owner, tenant.networks
                )
                owner[address] = name
        # A guest may make up its link-local address itself (RFC 7217), and use several.
        networks = tenant.networks if tenant.routed else (*tenant.networks, LINK_LOCAL)
        for vm, place in tenant.vms.items():
            for index, address in enumerate(place.addresses):
                key = f"tenants.{number}.vms.{vm}.addresses.{index}"
                yield from _contradicting_address(key, address, owner, networks)
                owner[address] = vm


def _contradicting_address(
    key: str,
    address: IPAddress,
    owner: Mapping[IPAddress, str],
    networks: Sequence[IPv4Network | IPv6Network],
) -> Iterator[tuple[str, str]]:
    if address in owner:
        yield key, f"{owner[address]} has {address} already; choose another"
    if not _is_host(address, networks):
        subnets = " or ".join(map(str, networks))
        yield key, f"{address} is not the address of a host in {subnets}"


def _is_host(address: IPAddress, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    ends = {end for each in networks for end in (each[0], each[-1])}
    return address not in ends and any(address in network for network in networks)
