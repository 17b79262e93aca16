"""Attacks of a scenario: what a tenant, or a stranger on the underlay, sends that is not its own.

    - {kind: forgery, from: vm3, what: garp, victim: vm1, rate_pps: 50}
    - {kind: forgery, what: unknown-vtep, victim: vm1}

Whatever is sent, the victim has to keep its mapping and its packets, and what was sent has to be
counted by NVE, and by port or tunnel source (R4.1.8, R9.1-R9.4).  Attacks begin and end with the
traffic.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.scenario.parts import Name, Part, no_such

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
"""Sent on the wire beside the NVE where the victim starts."""


class ForgerySpec(Part):
    """One attack."""

    kind: Literal["forgery"]
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
    place: str, forgery: ForgerySpec, network: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """What does not fit to the VMs, given the virtual network of each: (field, complaint)."""
    ends = {"from": forgery.source, "victim": forgery.victim}
    unknown = {field: vm for field, vm in ends.items() if vm is not None and vm not in network}
    for field, vm in unknown.items():
        yield f"{place}.{field}", no_such("VM", vm, network)
    if unknown or forgery.source is None:
        return
    if forgery.source == forgery.victim:
        yield f"{place}.victim", f"{forgery.victim} cannot forge what is its own; name another VM"
    elif network[forgery.source] != network[forgery.victim]:
        yield (
            f"{place}.victim",
            "it is in another virtual network, where the same addresses are others; name a VM of "
            f"the network of {forgery.source}",
        )
