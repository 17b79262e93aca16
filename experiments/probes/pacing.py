"""When each packet of a flow is due, and how missed due times are handled.

Due times come from one absolute schedule, so that lateness never accumulates: packet n of a flow is
due `phase + n / rate` after the common start.  Flows of one sender get different phases, so that
their packets do not leave in bursts.

A sender that was stalled (by the scheduler) or frozen (its VM was suspended) finds due times in the
past.  Up to `CATCH_UP_NS` late it sends them at once, and the lateness is recorded with each
packet. Older ones are *skipped*: an application that was suspended does not send what it would have
sent meanwhile, and a burst of old packets would load the network in a way no scenario asked for.
Skipped packets are counted, have no row in packets.parquet, and are therefore neither lost nor
delayed.
"""

import math
from dataclasses import dataclass

NS_PER_S = 1_000_000_000
CATCH_UP_NS = 10_000_000


@dataclass(frozen=True)
class Pacing:
    """The due times of one flow, on the clock of `start_ns`."""

    start_ns: int
    rate_pps: float
    duration_s: float
    phase_ns: int = 0

    @property
    def packets(self) -> int:
        """How many packets are due within the duration."""
        return math.ceil(round(self.duration_s * self.rate_pps, 6))

    def due_ns(self, seq: int) -> int:
        return self.start_ns + self.phase_ns + round(seq * NS_PER_S / self.rate_pps)

    def next_worth_sending(self, seq: int, now_ns: int) -> int:
        """Return `seq`, or the first packet after it that is not too old to be sent at `now_ns`."""
        oldest_ns = now_ns - CATCH_UP_NS
        if self.due_ns(seq) >= oldest_ns:
            return seq
        elapsed_ns = oldest_ns - self.start_ns - self.phase_ns
        return min(math.ceil(elapsed_ns * self.rate_pps / NS_PER_S), self.packets)


def phases_ns(rates_pps: list[float]) -> list[int]:
    """Return one phase per flow of a sender, spread over the shortest interval among them."""
    if not rates_pps:
        return []
    shortest_ns = NS_PER_S / max(rates_pps)
    return [round(index * shortest_ns / len(rates_pps)) for index in range(len(rates_pps))]
