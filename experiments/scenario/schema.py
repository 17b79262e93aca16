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
    tenants                      experiments.scenario.tenants
    the rest                     here

A part says itself what it may be alone, and `contradictions` beside it what does not fit the other
parts; `experiments.scenario.consistency` asks all of them.  Every mistake is a sentence that names
the field and what would be right.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from experiments import overlays
from experiments.overlays import OverlaySettings
from experiments.scenario import consistency, layers
from experiments.scenario.failures import Failure
from experiments.scenario.guests import Guest
from experiments.scenario.moves import MoveSpec
from experiments.scenario.parts import Name, Part, no_such
from experiments.scenario.standbys import StandbySpec
from experiments.scenario.tasks import NameServerSpec, Task, TaskMove, hosts_of
from experiments.scenario.tenants import Tenant
from experiments.scenario.traffic import FlowSpec, TrafficEntry
from nve.model import IPAddress, VmSpec
from nve.wire.announcement import NOTHING
from topologies import catalogue
from topologies.spec import Fabric, LinkSpec, UnderlayParameters

VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


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
        for place, complaint in consistency.contradictions(self):
            raise contradiction(place, complaint)
        return self


def contradiction(place: str, complaint: str) -> PydanticCustomError:
    """Return the error for a place that is named in full."""
    return PydanticCustomError(
        "contradiction", "{place}: {complaint}", {"place": place, "complaint": complaint}
    )
