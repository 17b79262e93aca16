"""What is known of a run's packets while it goes on: how many come in, how many are missing.

Senders and receivers report once a second, on their pipes to the runner:

    sender      {"told": "sent", "at_s": …, "flows": {flow: [next sequence number, not sent]}}
    receiver    {"told": "received", "at_s": …, "flows": {flow: [packets, last sequence number]}}

A packet is missing here if one that was sent after it has come in, or if it was sent longer ago
than the waiting time.  This is an estimate; results are computed from all samples at the end.  A
duplicate hides a loss, and a late packet is missing until it comes.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

SILENT_S = 2.5
"""A process that has reported nothing for this many seconds counts as receiving nothing."""
Counts = Mapping[str, tuple[int, int]]
"""Two counts by the flow's number in the plan, which is a text as JSON has no other keys."""


@dataclass(frozen=True)
class SoFar:
    """The progress of a run.

    `packets_per_s` came in during the last second that was reported; `missing` is counted since the
    beginning.
    """

    packets_per_s: float
    missing: int | None
    """None if the senders have had no time to report, as at high rates."""


@dataclass(frozen=True)
class _Told:
    at_s: float
    flows: Counts


class ProbeProgress:
    """`sent` and `received` take what each process reports; the clock is an argument."""

    def __init__(self, waiting_time_s: float) -> None:
        self._waiting_time_s = waiting_time_s
        self._sent: dict[str, deque[_Told]] = {}
        self._received: dict[str, deque[_Told]] = {}

    def sent(self, vm: str, flows: Counts, at_s: float) -> None:
        told = self._sent.setdefault(vm, deque())
        told.append(_Told(at_s, flows))
        while len(told) > 1 and told[1].at_s <= at_s - self._waiting_time_s:
            told.popleft()  # the first report left is as old as the waiting time, if any is

    def received(self, vm: str, flows: Counts, at_s: float) -> None:
        self._received.setdefault(vm, deque(maxlen=2)).append(_Told(at_s, flows))

    def so_far(self, now_s: float) -> SoFar | None:
        """Return the progress, or None before anything has been reported."""
        if not self._sent and not self._received:
            return None
        missing = self._missing(now_s) if self._sent else None
        return SoFar(self._packets_per_s(now_s), missing)

    def _packets_per_s(self, now_s: float) -> float:
        rate = 0.0
        for told in self._received.values():
            if len(told) == 2 and told[1].at_s > now_s - SILENT_S:
                packets = sum(each for each, _ in told[1].flows.values())
                before = sum(each for each, _ in told[0].flows.values())
                rate += (packets - before) / (told[1].at_s - told[0].at_s)
        return rate

    def _missing(self, now_s: float) -> int:
        # The receivers' last report but one: their senders have reported since.
        earlier = {
            flow: it for told in self._received.values() for flow, it in told[0].flows.items()
        }
        latest = {
            flow: it for told in self._received.values() for flow, it in told[-1].flows.items()
        }
        missing = 0
        for told in self._sent.values():
            oldest = told[0] if told[0].at_s <= now_s - self._waiting_time_s else None
            for flow, (_, not_sent) in told[-1].flows.items():
                packets, last = earlier.get(flow, (0, -1))
                gaps = last + 1 - packets - not_sent
                if oldest:
                    due, not_sent_by_then = oldest.flows[flow]
                    packets, last = latest.get(flow, (0, -1))
                    if due > last + 1:  # none of the packets sent last has come in
                        gaps = due - packets - not_sent_by_then
                missing += max(0, gaps)
        return missing
