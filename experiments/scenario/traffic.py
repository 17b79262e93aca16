"""Traffic of a scenario: what VMs send of their own.

    - {kind: udp-probe, from: vm2, to: vm1, family: ipv6, rate_pps: 1000}
    - {kind: tcp-bulk, from: vm2, to: vm1, rate_mbit: 10}
    - {kind: diskless-client, vm: vm1}

A *flow* is from one VM to another of its virtual network.  A diskless client sends to nobody in
particular; it wants its address back.  What is sent to do harm is in `attacks`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from experiments.scenario.parts import Name, Part, no_such

Family = Literal["ipv4", "ipv6"]


class UdpProbeSpec(Part):
    """Numbered, time-stamped packets at a steady rate."""

    kind: Literal["udp-probe"]
    source: Name = Field(alias="from")
    destination: Name = Field(alias="to")
    family: Family = "ipv4"
    rate_pps: float = Field(1000, gt=0, le=20000)
    size_bytes: int = Field(100, ge=28, le=1400)


class TcpBulkSpec(Part):
    """One iperf3 TCP connection, as fast as it goes or limited to `rate_mbit`."""

    kind: Literal["tcp-bulk"]
    source: Name = Field(alias="from")
    destination: Name = Field(alias="to")
    family: Family = "ipv4"
    rate_mbit: float | None = Field(None, gt=0, le=100_000)


class DisklessClientSpec(Part):
    """A client in a VM that has no disk: at each move the VM loses its IPv4 address, and the client
    asks for it with reverse ARP (R4.1.5)."""

    kind: Literal["diskless-client"]
    vm: Name


FlowSpec = UdpProbeSpec | TcpBulkSpec
"""Traffic from one VM to another."""


def contradictions(
    place: str,
    sent: FlowSpec | DisklessClientSpec,
    network: Mapping[str, int],
    before: Sequence[object],
) -> Iterator[tuple[str, str]]:
    """What does not fit to the VMs, given the virtual network of each, or to the traffic listed
    `before`: (field, complaint)."""
    if isinstance(sent, DisklessClientSpec):
        if sent.vm not in network:
            yield f"{place}.vm", no_such("VM", sent.vm, network)
        if sent in before:
            yield f"{place}.vm", f"{sent.vm} has a diskless client already"
        return
    for end, vm in (("from", sent.source), ("to", sent.destination)):
        if vm not in network:
            yield f"{place}.{end}", no_such("VM", vm, network)
    if sent.source == sent.destination:
        yield place, f"{sent.source} would talk to itself"
    if network.get(sent.source) != network.get(sent.destination):
        yield place, "its two VMs are in different virtual networks"
