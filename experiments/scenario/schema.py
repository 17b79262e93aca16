"""A scenario: the whole of an experiment in one YAML file, validated before anything is started.

    key                          its fields and their limits
    topology                     topologies.<kind>, topologies.spec (UnderlayParameters)
    overlay                      experiments.overlays.<kind> (Settings)
    control, and every link      topologies.spec (LinkSpec)
    traffic                      experiments.scenario.traffic, experiments.workloads.<kind>
    moves                        experiments.scenario.moves, experiments.scenario.series
    tasks, task_moves            experiments.scenario.tasks
    name_server                  experiments.scenario.tasks
    failures                     experiments.scenario.failures
    what fits a tenant's layer   experiments.scenario.layers
    guest of a VM                experiments.scenario.guests
    standby of a VM              experiments.scenario.standbys
    tenants, the rest            here

A part says itself what it may be alone, and `contradictions` beside it what does not fit the other
parts.  Every mistake is a sentence that names the field and what would be right.

Tenants number their VMs from 1, each tenant anew: the first VM of every virtual network has the
MAC address 02:00:00:00:00:01 and the same IP addresses.  So every scenario with two tenants shows
that they do not mix (R4.1.8).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from experiments import overlays
from experiments.overlays import OverlaySettings
from experiments.scenario import failures, layers, moves, standbys, tasks
from experiments.scenario.failures import Failure
from experiments.scenario.guests import Guest
from experiments.scenario.moves import MoveSpec
from experiments.scenario.parts import Name, Part, no_such
from experiments.scenario.standbys import StandbySpec
from experiments.scenario.tasks import NameServerSpec, Task, TaskMove, hosts_of
from experiments.scenario.traffic import FlowSpec, TrafficEntry
from nve import ila
from nve.model import MAX_VNI, Encapsulation, IPAddress, RoutedNetwork, VmSpec, mac, vni
from nve.resources import NO_RESOURCES, UNLIMITED, Capacity, Resources, named
from nve.wire.announcement import NOTHING
from topologies import catalogue
from topologies.configuration import RESERVED, TENANT_PREFIX_LENGTH
from topologies.mtu import LARGEST_VM_MTU, LEAST_VM_MTU
from topologies.spec import USUAL_MTU, Fabric, LinkSpec, UnderlayParameters

TENANT_IPV4 = IPv4Address("192.168.0.0")
TENANT_IPV6 = IPv6Address("fd77::")
_TENANT_NETWORKS = (
    IPv4Network((TENANT_IPV4, TENANT_PREFIX_LENGTH[4])),
    IPv6Network((TENANT_IPV6, TENANT_PREFIX_LENGTH[6])),
)
LINK_LOCAL = IPv6Network("fe80::/64")
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class VmPlace(Part):
    """Where a VM starts, its state, and its addresses besides the two that every VM has."""

    nve: Name
    addresses: tuple[IPv4Address | IPv6Address, ...] = Field((), max_length=8)
    guest: Guest | None = None
    """The VM's state; None if it has only a NIC, and what the traffic starts in it."""
    standby: StandbySpec | None = None
    resources: Annotated[Resources, BeforeValidator(named)] = NO_RESOURCES
    """The resources that it gets of its server; memory and storage default to the size of its
    guest."""

    @model_validator(mode="after")
    def _has_room_for_its_guest(self) -> Self:
        for key, least, of_guest in (
            ("memory_mb", self.guest.memory_mb if self.guest else 0, "guest.memory_mb"),
            ("storage_mb", self.guest.disk_mb if self.guest else 0, "guest.disk_mb"),
        ):
            asked = getattr(self.resources, key)
            if asked and asked < least:
                raise ValueError(
                    f"resources.{key} ({asked}) is less than {of_guest} ({least}); raise it, or "
                    "leave it out"
                )
        return self

    @property
    def takes(self) -> Resources:
        """All that it takes of its server."""
        if self.guest is None:
            return self.resources
        return replace(
            self.resources,
            memory_mb=self.resources.memory_mb or self.guest.memory_mb,
            storage_mb=self.resources.storage_mb or self.guest.disk_mb,
        )


def _place(given: object) -> object:
    """Accept an NVE's name as a place, which is enough for most VMs."""
    return {"nve": given} if isinstance(given, str) else given


class Tenant(Part):
    """A virtual network and where its VMs start."""

    vni: int = Field(ge=1, le=MAX_VNI)
    vms: dict[Name, Annotated[VmPlace, BeforeValidator(_place)]] = Field(
        min_length=1, max_length=1000
    )
    mtu: int | None = Field(None, ge=LEAST_VM_MTU, le=LARGEST_VM_MTU)
    """The MTU of the VMs' NICs; by default what the underlay carries everywhere."""
    layer: Literal[2, 3] = 2
    """At 3, the NVE is the router of its VMs: see docs/how-it-works/layer3.md."""
    encapsulation: Encapsulation = "vxlan"
    """At layer 3: how packets go from NVE to NVE."""
    sir_prefix: IPv6Network | None = None
    """With `ila`: the upper half of the VMs' addresses; by default every VNI has its own."""
    checksum: Literal["neutral", "adjusted"] = "neutral"
    """With `ila`: the method that keeps checksums of translated packets right (`nve.ila`)."""
    subnets: Literal["one", "per-nve"] = "one"
    """At layer 3: whether all VMs' addresses are in one subnet, or in that of the NVE where each
    starts."""
    vlan_tags: bool = False
    """Whether frames with VLAN tags are carried, or dropped and counted."""
    shared: dict[IPv4Address | IPv6Address, tuple[Name, ...]] = Field(default_factory=dict)
    """Addresses that VMs take over from each other by announcing them, with the VMs that may do
    so."""

    def vm(
        self,
        number: int,
        name: str,
        place: VmPlace,
        claimable: Iterable[IPAddress] = (),
        addresses: tuple[IPv4Address, IPv6Address] | None = None,
    ) -> VmSpec:
        """Return the VM with that number in the network.

        It may take over the `shared` addresses that name it, and those that are `claimable`.
        Unless `addresses` are given, its addresses are derived from its number.
        """
        return VmSpec(
            name,
            vni(self.vni),
            mac(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"),
            *(addresses or (TENANT_IPV4 + number, TENANT_IPV6 + number)),
            place.nve,
            self.mtu,
            place.addresses,
            self.vlan_tags,
            (*(address for address, vms in self.shared.items() if name in vms), *claimable),
            place.takes,
            place.resources,
            self.routed,
        )

    @property
    def routed(self) -> RoutedNetwork | None:
        """The parameters of its layer 3 network, or None at layer 2."""
        if self.layer != 3:
            return None
        if self.encapsulation != "ila":
            return RoutedNetwork(self.encapsulation)
        prefix = self.sir_prefix or ila.usual_sir_prefix(vni(self.vni))
        return RoutedNetwork("ila", prefix, self.checksum)

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that contain the addresses of its hosts."""
        prefix = self.routed.sir_prefix if self.routed else None
        return (prefix,) if prefix else _TENANT_NETWORKS

    def addresses(self, nves: Sequence[str]) -> dict[str, tuple[IPv4Address, IPv6Address]]:
        """Return the addresses of each VM; `nves` are in the order of the topology."""
        if self.routed and (prefix := self.routed.sir_prefix):
            numbered = enumerate(self.vms, start=1)
            return {vm: (TENANT_IPV4 + number, prefix[number]) for number, vm in numbered}
        if self.subnets == "one":
            numbered = enumerate(self.vms, start=1)
            return {vm: (TENANT_IPV4 + number, TENANT_IPV6 + number) for number, vm in numbered}
        seen: Counter[str] = Counter()
        found = {}
        for vm, place in self.vms.items():
            seen[place.nve] += 1
            subnet = nves.index(place.nve) + 1 if place.nve in nves else 0
            host = seen[place.nve]
            found[vm] = TENANT_IPV4 + (subnet << 8) + host, TENANT_IPV6 + (subnet << 64) + host
        return found


class OverlaySpec(Part):
    """A kind of overlay from `experiments/overlays/` and that overlay's own keys."""

    kind: str
    settings: SerializeAsAny[OverlaySettings]

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError(f"say which: kind: {' | '.join(overlays.names())}")
        settings = dict(given)
        kind = str(settings.pop("kind", overlays.DEFAULT))
        if kind not in overlays.names():
            raise contradiction("overlay.kind", no_such("overlay", kind, overlays.names()))
        found = overlays.get(kind)
        for key in settings:
            if key not in found.settings.model_fields:
                raise contradiction(f"overlay.{key}", _no_such_key(str(key), found.kind))
        return {"kind": found.kind, "settings": found.settings.model_validate(settings)}


def _no_such_key(key: str, kind: str) -> str:
    have_it = [each for each in overlays.names() if key in overlays.get(each).settings.model_fields]
    if have_it:
        return f"{kind} has no such key, {' and '.join(have_it)} has; remove it"
    return f"{kind} has no such key; check the spelling or remove it"


class TopologySpec(Part):
    """A kind of topology from `topologies/` and that topology's own parameters."""

    kind: str
    parameters: SerializeAsAny[UnderlayParameters]

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "kind" not in given:
            raise ValueError(f"say which: kind: {' | '.join(catalogue.names())}")
        settings = dict(given)
        found = catalogue.get(str(settings.pop("kind")))
        return {"kind": found.kind, "parameters": found.parameters.model_validate(settings)}

    def fabric(self) -> Fabric:
        built = catalogue.get(self.kind).build(self.parameters)
        servers = {nve: self.parameters.server_of(nve) for nve in built.nves}
        return replace(built, capacities=servers, migration=self.parameters.migration_network)


class Scenario(Part):
    """A complete scenario."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    says: str = ""
    topology: TopologySpec
    control: LinkSpec = LinkSpec()
    tenants: list[Tenant] = Field(min_length=1)
    overlay: OverlaySpec = Field(default_factory=lambda: OverlaySpec.model_validate({}))
    traffic: list[TrafficEntry] = Field(default_factory=list)
    moves: list[MoveSpec] = Field(default_factory=list)
    tasks: dict[Name, Task] = Field(default_factory=dict)
    task_moves: list[TaskMove] = Field(default_factory=list)
    name_server: NameServerSpec | None = None
    failures: list[Failure] = Field(default_factory=list)
    duration_s: float = Field(gt=0, le=86_400)
    seed: int = Field(1, ge=0, le=2**31 - 1)
    datapath: Literal["auto", "system", "netdev"] = "auto"
    link_emulator: Literal["auto", "netem", "delay-line"] = "auto"
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)

    def vms(self) -> list[VmSpec]:
        """Return every VM with its addresses, in the order of the file."""
        nves = self.topology.fabric().nves
        found = []
        for tenant in self.tenants:
            addresses = tenant.addresses(nves)
            for number, (name, place) in enumerate(tenant.vms.items(), start=1):
                of_tasks = self._of_tasks(name)
                found.append(tenant.vm(number, name, place, of_tasks, addresses[name]))
        return found

    def _of_tasks(self, vm: str) -> list[IPAddress]:
        """Return the addresses of the tasks that may come to a VM."""
        return [
            address
            for name, task in self.tasks.items()
            if vm in hosts_of(name, task, self.task_moves)
            for address in task.addresses_in(vm)
        ]

    @property
    def routed(self) -> frozenset[str]:
        """The VMs in networks of layer 3."""
        return frozenset(vm for tenant in self.tenants if tenant.routed for vm in tenant.vms)

    @property
    def flows(self) -> list[FlowSpec]:
        """The traffic that goes from one VM to another."""
        return [flow for flow in self.traffic if isinstance(flow, FlowSpec)]

    @model_validator(mode="after")
    def _state_is_brought_over(self) -> Self:
        """Give each move of a VM with a guest a transfer, even if the move does not name one."""
        for number, move in enumerate(self.moves):
            if move.vm in self.guests:
                self.moves[number] = move.with_state()
        return self

    @model_validator(mode="before")
    @classmethod
    def _some_encapsulations_have_a_userspace_switch(cls, given: Any) -> Any:
        """Choose the userspace datapath for encapsulations that need it, unless the scenario names
        one.
        """
        if isinstance(given, Mapping) and given.get("datapath", "auto") == "auto":
            tenants = given.get("tenants")
            listed = tenants if isinstance(tenants, list) else []
            kinds = {str(each.get("encapsulation")) for each in listed if isinstance(each, Mapping)}
            return {**given, "datapath": "netdev"} if kinds & layers.IN_USERSPACE else given
        return given

    @model_validator(mode="after")
    def _nothing_is_announced_at_layer_3(self) -> Self:
        for number, move in enumerate(self.moves):
            if move.vm in self.routed and "announce" not in move.model_fields_set:
                self.moves[number] = move.model_copy(update={"announce": NOTHING})
        return self

    @property
    def guests(self) -> dict[str, Guest]:
        """The VMs that have state."""
        places = {vm: place for tenant in self.tenants for vm, place in tenant.vms.items()}
        return {vm: place.guest for vm, place in places.items() if place.guest}

    @property
    def standbys(self) -> dict[str, StandbySpec]:
        """The VMs whose state is mirrored."""
        places = {vm: place for tenant in self.tenants for vm, place in tenant.vms.items()}
        return {vm: place.standby for vm, place in places.items() if place.standby}

    @property
    def serving(self) -> frozenset[str]:
        """The VMs whose guest has a service."""
        return frozenset(vm for vm, guest in self.guests.items() if guest.service)

    @property
    def diskless(self) -> frozenset[str]:
        """The VMs that lose their IPv4 address when they move."""
        return frozenset().union(*(sent.diskless for sent in self.traffic))

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for place, complaint in _contradictions(self):
            raise contradiction(place, complaint)
        return self


def contradiction(place: str, complaint: str) -> PydanticCustomError:
    """Return the error for a place that is named in full."""
    return PydanticCustomError(
        "contradiction", "{place}: {complaint}", {"place": place, "complaint": complaint}
    )


def _contradictions(scenario: Scenario) -> Iterator[tuple[str, str]]:
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


def _beside_services(scenario: Scenario) -> Iterator[tuple[str, str]]:
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
    scenario: Scenario, capacities: Mapping[str, Capacity]
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


def _contradicting_addresses(scenario: Scenario) -> Iterator[tuple[str, str]]:
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
