"""The format of a probe packet, and the plan that senders and receivers share.

A probe flow is one direction between two VMs over one address family.  Every packet carries the
flow's number, a sequence number and the time of sending (RFC 7679, section 3.8: the wire time is
taken as close to the send call as the program can).  A magic number and the run's nonce let a
receiver tell its own packets from anything else that arrives on the port, such as a straggler of an
earlier run.

The sequence number is the number of the packet's *due time*: packet n is due n intervals after the
first.  A due time that the sender had to skip (see `pacing`) leaves a gap in the sequence; it was
never sent and is therefore never counted as lost.

Known gap: the payload is padding, not checked; corruption is left to the UDP checksum.
"""

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

MAGIC = b"VMMp"
_HEADER = struct.Struct("!4sIIQQ")
"""Magic, nonce, flow number, sequence number, time of sending in ns since the epoch."""
_VARYING = struct.Struct("!QQ")
_VARYING_OFFSET = _HEADER.size - _VARYING.size

MIN_SIZE_BYTES = _HEADER.size
MAX_SIZE_BYTES = 65_000
MAX_RATE_PPS = 20_000
DEFAULT_SIZE_BYTES = 100
DEFAULT_PORT = 62001
"""An unused port: Wireshark knows no protocol on it, and Linux gives clients lower ones."""


class Stamp(NamedTuple):
    """The fields that a receiver reads out of one probe packet."""

    flow: int
    seq: int
    sent_ns: int


class Packet:
    """The buffer of one flow, filled in again for every packet: nothing is allocated per packet."""

    def __init__(self, nonce: int, flow: int, size_bytes: int) -> None:
        self.buffer = bytearray(size_bytes)
        _HEADER.pack_into(self.buffer, 0, MAGIC, nonce, flow, 0, 0)

    def stamp(self, seq: int, sent_ns: int) -> None:
        _VARYING.pack_into(self.buffer, _VARYING_OFFSET, seq, sent_ns)


def parse(payload: bytes | bytearray | memoryview, nonce: int) -> Stamp | None:
    """Return the stamp of a probe packet of this run, or None for anything else."""
    if len(payload) < _HEADER.size:
        return None
    magic, packet_nonce, flow, seq, sent_ns = _HEADER.unpack_from(payload)
    if magic != MAGIC or packet_nonce != nonce:
        return None
    return Stamp(flow, seq, sent_ns)


@dataclass(frozen=True)
class FlowPlan:
    """One probe flow: `rate_pps` packets of `size_bytes` UDP payload each second."""

    name: str
    source: str
    destination: str
    address: str
    rate_pps: float
    size_bytes: int = DEFAULT_SIZE_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.rate_pps <= MAX_RATE_PPS:
            raise ValueError(
                f"flow {self.name}: rate_pps is {self.rate_pps}; "
                f"give a rate above 0 and up to {MAX_RATE_PPS} packets per second"
            )
        if not MIN_SIZE_BYTES <= self.size_bytes <= MAX_SIZE_BYTES:
            raise ValueError(
                f"flow {self.name}: size_bytes is {self.size_bytes}; a probe packet has "
                f"{MIN_SIZE_BYTES} to {MAX_SIZE_BYTES} bytes of payload"
            )


@dataclass(frozen=True)
class Plan:
    """All probe flows of a run.  A flow's number on the wire is its place in `flows`."""

    nonce: int
    duration_s: float
    flows: tuple[FlowPlan, ...]
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        names = [flow.name for flow in self.flows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two probe flows are called {', '.join(twice)}; name them apart")
        if self.duration_s <= 0:
            raise ValueError(f"the probes would last {self.duration_s} s; give a time above 0")

    @property
    def sources(self) -> list[str]:
        return _distinct(flow.source for flow in self.flows)

    @property
    def destinations(self) -> list[str]:
        return _distinct(flow.destination for flow in self.flows)

    def packets(self, flows: Iterable[FlowPlan]) -> int:
        """Return how many packets these flows have at most."""
        return sum(math.ceil(flow.rate_pps * self.duration_s) + 1 for flow in flows)

    def flows_from(self, vm: str) -> dict[int, FlowPlan]:
        return {number: flow for number, flow in enumerate(self.flows) if flow.source == vm}

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        flows = tuple(FlowPlan(**flow) for flow in fields.pop("flows"))
        return cls(flows=flows, **fields)


def flow_name(source: str, destination: str, family: str) -> str:
    """Return the name of a flow in every file and plot: `vm3>vm1/ipv4`."""
    return f"{source}>{destination}/{family}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
