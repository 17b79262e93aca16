"""Forgeries: packets with false addresses from a tenant, or from a stranger on the underlay.

    - {kind: forgery, from: vm3, what: garp, victim: vm1, rate_pps: 50}
    - {kind: forgery, what: unknown-vtep, victim: vm1}

Whatever is sent, the victim has to keep its mapping and its packets, and what was sent has to be
counted by NVE, and by port or tunnel source (R4.1.8, R9.1-R9.4).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.measure.trace import TraceEvent
from experiments.scenario.parts import Name, no_such
from experiments.scenario.traffic import TrafficSpec
from experiments.workloads import Collected, Stage, WorkloadError
from experiments.workloads.forging import forged
from experiments.workloads.forging.attack import Attack, Forgery
from nve.hypervisor.plug import NIC
from nve.linux.wait import sleep_until
from topologies.spec import Port

SAYS = "An attack: forged announcements and source addresses, floods, VXLAN from strangers."
ROWS = None
PROGRAMS = ()

BY_VM = {
    "garp": "a gratuitous ARP request that claims the victim's IPv4 address (R9.2)",
    "garp-reply": "the same as a reply (R9.2)",
    "na": "an unsolicited advertisement that claims the victim's IPv6 address (R9.2)",
    "rarp": "a reverse ARP request in the victim's name (R9.2)",
    "source-mac": "packets with the victim's MAC address (R9.4)",
    "source-ip": "packets with the victim's IP addresses (R9.4)",
    "malformed": "ARP and reverse ARP of no known operation, and a solicitation from afar (R9.2)",
    "arp-flood": "honest ARP requests, one address after the other (R4.1.8)",
    "nd-flood": "honest neighbour solicitations, likewise (R4.1.8)",
    "rarp-flood": "honest reverse ARP requests, again and again (R4.1.8)",
    "miss-flood": "honest packets to one MAC address after the other that nobody has (R4.1.8)",
}
BY_STRANGER = {
    "unknown-vtep": "VXLAN from an address that is no NVE's (R9.3)",
    "wrong-vni": "VXLAN in an NVE's name, with a VNI that is nobody's (R9.1)",
    "wrong-vm": "VXLAN in an NVE's name, for a MAC address that no VM there has (R9.1)",
}
"""Attacks that are sent on the wire beside the NVE where the victim starts."""


class Settings(TrafficSpec):
    source: Name | None = Field(None, alias="from")
    what: Literal[
        "garp", "garp-reply", "na", "rarp", "source-mac", "source-ip", "malformed",
        "arp-flood", "nd-flood", "rarp-flood", "miss-flood",
        "unknown-vtep", "wrong-vni", "wrong-vm",
    ]  # fmt: skip
    victim: Name
    rate_pps: float = Field(50, gt=0, le=20_000)

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Self:
        if self.what in BY_VM and self.source is None:
            raise ValueError(f"{self.what} is sent by a VM; say which with from:")
        if self.what in BY_STRANGER and self.source is not None:
            raise ValueError(f"{self.what} is sent by a stranger on the underlay; leave from: out")
        return self

    @property
    def name(self) -> str:
        return f"{self.source or 'stranger'}>{self.victim}/{self.what}"

    def contradictions(
        self, network: Mapping[str, int], before: Sequence[TrafficSpec]
    ) -> Iterator[tuple[str, str]]:
        ends = {"from": self.source, "victim": self.victim}
        unknown = {key: vm for key, vm in ends.items() if vm is not None and vm not in network}
        for key, vm in unknown.items():
            yield key, no_such("VM", vm, network)
        if unknown or self.source is None:
            return
        if self.source == self.victim:
            yield "victim", f"{self.victim} cannot forge what is its own; name another VM"
        elif network[self.source] != network[self.victim]:
            yield (
                "victim",
                "it is in another virtual network, where the same addresses are others; name a VM "
                f"of the network of {self.source}",
            )


class Forgeries:
    """All attacks of a run."""

    ends_by_itself = False

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        self._forgeries = [Forgery(_attack(each, stage)) for each in sent]

    def launch(self) -> None:
        for forgery in self._forgeries:
            forgery.launch()

    def begin(self, start_ns: int) -> None:
        sleep_until(start_ns)
        for forgery in self._forgeries:
            forgery.begin()

    def new_events(self) -> list[TraceEvent]:
        """Return the beginnings and ends of attacks since the last call."""
        return [event for forgery in self._forgeries for event in forgery.new_events()]

    def collect(self) -> Collected:
        collected = Collected()
        for forgery in self._forgeries:
            try:
                collected.events += forgery.collect()
            except WorkloadError as error:
                collected.problems.append(str(error))
        return collected

    def stop(self) -> None:
        for forgery in self._forgeries:
            forgery.stop()


def _attack(asked: Settings, stage: Stage) -> Attack:
    """Return what the attacker sends, and where: from a VM, or on the wire of the victim's NVE."""
    victim, fabric = stage.vms[asked.victim], stage.fabric
    if asked.source is not None:
        sent = forged.of_vm(asked.what, stage.vms[asked.source], victim)
        interface, start = NIC, partial(stage.in_vm, asked.source)
    else:
        uplink = fabric.uplink(victim.nve)
        networks = frozenset(vm.vni for vm in stage.vms.values())
        vteps, vtep = frozenset(fabric.vteps.values()), fabric.vteps[victim.nve]
        wire = forged.Wire(vtep, fabric.macs[uplink], vteps, networks)
        sent = forged.of_stranger(asked.what, wire, victim)
        interface = Port(uplink.peer, uplink.node).interface
        start = partial(stage.in_node, uplink.peer)
    return Attack(
        asked.name,
        asked.victim,
        asked.what,
        interface,
        sent,
        asked.rate_pps,
        stage.duration_s,
        start,
    )


prepare = Forgeries
