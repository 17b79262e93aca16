"""Delay, loss, duplication, reordering and silence of a flow's packets, as the RFCs define them.

A packet is *lost* if no copy of it arrived within the waiting time Tmax (RFC 7680, section 2.8.2:
one-way loss; RFC 7679: one-way delay).  One that arrived later is lost and also counted as *late*.
All clocks are one kernel's clock, so that a delay is the difference of two readings without
correction.

A rate is never assumed: the interval of a flow is taken from the due times of its packets.

A packet that is lost has no place in the order of arrival (RFC 4737, section 3.3), so that one that
comes after the waiting time is lost, and neither reordered nor a reason why others are.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEVER = -1
"""Stands for "did not arrive" in arrays of times and of places in the order of arrival."""
NS_PER_MS = 1e6
END_OF_TIME = 2**63 - 1
"""Later than every time in ns.  Times stay integers: as floats they would lose 256 ns."""


@dataclass(frozen=True)
class Samples:
    """The packets of one flow in the order of their sequence numbers, as arrays."""

    seq: Int64s
    sent_ns: Int64s
    received_ns: Int64s
    copies: Int64s
    late_ns: Int64s
    rx_index: Int64s

    @classmethod
    def of(cls, packets: pd.DataFrame) -> "Samples":
        """Return the samples of one flow, whose rows are in the schema of packets.parquet."""
        recorded = cls.as_recorded(packets)
        return recorded.where(np.argsort(recorded.seq))

    @classmethod
    def as_recorded(cls, packets: pd.DataFrame) -> "Samples":
        """Return the samples in the order of their rows, of whichever flows."""
        return cls(
            *(
                packets[column.name].to_numpy(dtype=np.int64, na_value=NEVER)
                for column in fields(cls)
            )
        )

    def part(self, here: slice) -> "Samples":
        return Samples(*(getattr(self, column.name)[here] for column in fields(self)))

    def where(self, chosen: Bools | Int64s) -> "Samples":
        return Samples(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def span(self, start_ns: int, end_ns: int) -> slice:
        """Return the packets sent in [start, end); a flow sends in the order of its numbers."""
        first, last = np.searchsorted(self.sent_ns, [start_ns, end_ns])
        return slice(int(first), int(last))

    def sent_between(self, start_ns: int, end_ns: int) -> "Samples":
        return self.part(self.span(start_ns, end_ns))

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def arrived(self) -> Bools:
        arrived: Bools = self.received_ns != NEVER
        return arrived

    @property
    def delay_ns(self) -> Int64s:
        """The one-way delays (RFC 7679) of the packets that arrived, however late."""
        return (self.received_ns - self.sent_ns)[self.arrived]

    @cached_property
    def arrivals_ns(self) -> Int64s:
        """The times of arrival in their order."""
        return np.sort(self.received_ns[self.arrived])

    @cached_property
    def interval_ns(self) -> float:
        """The time between two due times; 0 if there are fewer than two packets."""
        if len(self) < 2:
            return 0.0
        due_ns = self.sent_ns - self.late_ns
        return float(due_ns[-1] - due_ns[0]) / float(self.seq[-1] - self.seq[0])


def flows_of(packets: pd.DataFrame) -> dict[str, Samples]:
    """Return the flows of a run, by name, in the order of their names.

    The columns are sorted once for all flows, whose samples are parts of them.
    """
    flow_numbers, names = pd.factorize(packets["flow"], sort=True)
    recorded = Samples.as_recorded(packets)
    order = np.lexsort((recorded.seq, flow_numbers))
    ordered = recorded.where(order)
    bounds = np.searchsorted(flow_numbers[order], np.arange(len(names) + 1))
    return {
        str(name): ordered.part(slice(first, end))
        for name, first, end in zip(names, bounds[:-1], bounds[1:], strict=True)
    }


def late_mask(samples: Samples, waiting_time_ns: int) -> Bools:
    """Return which packets arrived after the waiting time."""
    late: Bools = samples.arrived & (samples.received_ns - samples.sent_ns > waiting_time_ns)
    return late


def lost_mask(samples: Samples, waiting_time_ns: int) -> Bools:
    """Return of which packets no copy arrived within the waiting time (RFC 7680)."""
    lost: Bools = ~samples.arrived | late_mask(samples, waiting_time_ns)
    return lost


def duplicates(samples: Samples) -> int:
    """Return the number of deliveries beyond the first of each packet (RFC 5560)."""
    return int(np.maximum(samples.copies - 1, 0).sum())


def reordered_mask(samples: Samples) -> Bools:
    """Return which packets arrived after one with a higher number (RFC 4737: seq below NextExp)."""
    reordered = np.zeros(len(samples), dtype=np.bool_)
    arrived = np.flatnonzero(samples.arrived)
    in_order_of_arrival = arrived[np.argsort(samples.rx_index[arrived], kind="stable")]
    seqs = samples.seq[in_order_of_arrival]
    reordered[in_order_of_arrival] = seqs < np.maximum.accumulate(seqs)
    return reordered


def delay_variation_ms(samples: Samples) -> float | None:
    """Return the p99 of the delay above the smallest delay (RFC 3393, the minimum as reference)."""
    delays = samples.delay_ns
    if not len(delays):
        return None
    return float(np.percentile(delays, 99) - delays.min()) / NS_PER_MS


def longest_silence_ns(samples: Samples, start_ns: int, end_ns: int) -> int:
    """Return the longest time without an arrival that reaches into [start, end), at the receiver.

    If nothing arrives any more, the silence lasts until the last packet was sent: a lower bound.
    """
    sent = samples.sent_between(start_ns, end_ns).sent_ns
    if not len(sent):
        return 0
    arrivals = samples.arrivals_ns
    first, last = np.searchsorted(arrivals, [start_ns, end_ns])
    begin = arrivals[first - 1 : first] if first else sent[:1]
    inside = arrivals[first:last]
    marks = np.concatenate([begin, inside])
    end = np.maximum(marks[-1:], sent[-1:])
    return int(np.diff(np.concatenate([marks, end])).max())


@dataclass(frozen=True)
class PacketOutcomes:
    """The outcome of each packet of a flow, judged once over the whole run."""

    samples: Samples
    lost: Bools
    late: Bools
    reordered: Bools

    @classmethod
    def of(cls, samples: Samples, waiting_time_ns: int) -> "PacketOutcomes":
        lost = lost_mask(samples, waiting_time_ns)
        reordered = np.zeros(len(samples), dtype=np.bool_)
        reordered[~lost] = reordered_mask(samples.where(~lost))
        return cls(samples, lost, late_mask(samples, waiting_time_ns), reordered)

    def sent_between(self, start_ns: int, end_ns: int) -> "PacketOutcomes":
        here = self.samples.span(start_ns, end_ns)
        own = self.samples.sent_between(start_ns, end_ns)
        return PacketOutcomes(own, self.lost[here], self.late[here], self.reordered[here])


@dataclass(frozen=True)
class Delay:
    """The delays of one phase in ms; None if no packet of the phase arrived."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    @classmethod
    def of(cls, samples: Samples) -> "Delay":
        delays = samples.delay_ns
        if not len(delays):
            return cls(None, None, None)
        p50, p99 = np.percentile(delays, [50, 99]) / NS_PER_MS
        return cls(float(p50), float(p99), float(delays.max()) / NS_PER_MS)
