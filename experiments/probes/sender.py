"""Sends all probe flows of one VM.  Runs inside the VM: `python -m experiments.probes.sender`.

One process sends all flows of a VM, because on a machine with few cores every further process is
one more that has to wait its turn.  It reports that it is ready, reads the time to start
(`{"start_ns": …}`, ns since the epoch, one line on its standard input) so that all senders start in
step, and sends.

A packet that the kernel refuses (no route, no address, a full queue) was not sent: it is counted by
the name of the error and has no row.  Sockets are not connected, so that an ICMP error that answers
one packet never swallows the next one.

About once a second, if there is time until the next packet, it reports its progress.
"""

import argparse
import errno
import heapq
import json
import socket
import sys
import time
from array import array
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from experiments.probes import samples
from experiments.probes.pacing import NS_PER_S, Pacing, phases_ns
from experiments.probes.process import (
    StopFlag,
    Teller,
    be_first_in_line,
    be_punctual,
    say,
    stay_on_one_processor,
)
from experiments.probes.udp import FlowPlan, Packet, Plan

_LONGEST_SLEEP_NS = NS_PER_S // 10
"""The longest sleep, so that a request to stop is noticed however far the next packet is."""
_TELL_EVERY_NS = NS_PER_S
_TIME_TO_TELL_NS = NS_PER_S // 5000
"""The time until the next packet that allows a report; a report takes some 20 us.
"""
_SLOW_SEND_NS = NS_PER_S // 1000
"""A send call that takes longer was interrupted: its packet left that much later than its stamp."""


class OutgoingFlow:
    """One probe flow: its schedule, its packet, its socket and what was refused."""

    def __init__(
        self, number: int, plan: FlowPlan, run: Plan, start_ns: int, phase_ns: int
    ) -> None:
        self.number = number
        self.name = plan.name
        self.schedule = Pacing(start_ns, plan.rate_pps, run.duration_s, phase_ns)
        self.packet = Packet(run.nonce, number, plan.size_bytes)
        family = socket.AF_INET if ip_address(plan.address).version == 4 else socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.target = (plan.address, run.port)
        self.next_seq = 0
        self.sent = 0
        self.skipped = 0
        self.slow_sends = 0
        self.errors: Counter[str] = Counter()

    def summary(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "skipped": self.skipped,
            "slow_sends": self.slow_sends,
            "send_errors": dict(self.errors),
        }


class Rows:
    """(flow, seq, sent_ns, late_ns) of every packet sent, in memory allocated at the start."""

    def __init__(self, capacity: int) -> None:
        self._values = array("q", bytes(8 * 4 * capacity))
        self._used = 0

    def add(self, flow: int, seq: int, sent_ns: int, late_ns: int) -> None:
        values, used = self._values, self._used
        values[used] = flow
        values[used + 1] = seq
        values[used + 2] = sent_ns
        values[used + 3] = late_ns
        self._used = used + 4

    @property
    def values(self) -> "array[int]":
        return self._values[: self._used]


def send_until_done(flows: list[OutgoingFlow], rows: Rows, stop: StopFlag, teller: Teller) -> None:
    """Send every packet when it is due; return after the last one or when asked to stop."""
    tell_at_ns = time.monotonic_ns() + _TELL_EVERY_NS
    due = [(flow.schedule.due_ns(0), place) for place, flow in enumerate(flows)]
    heapq.heapify(due)
    while due and not stop:
        due_ns, place = due[0]
        now_ns = time.monotonic_ns()
        if now_ns < due_ns:
            if now_ns >= tell_at_ns and due_ns - now_ns > _TIME_TO_TELL_NS:
                tell_at_ns = now_ns + _TELL_EVERY_NS
                told = {flow.number: (flow.next_seq, flow.next_seq - flow.sent) for flow in flows}
                teller.tell(told="sent", at_s=time.time(), flows=told)
                continue
            time.sleep(min(due_ns - now_ns, _LONGEST_SLEEP_NS) / NS_PER_S)
            continue
        flow = flows[place]
        if not _skip_what_is_too_old(flow, now_ns):
            _send(flow, rows, now_ns - due_ns)
        if flow.next_seq < flow.schedule.packets:
            heapq.heapreplace(due, (flow.schedule.due_ns(flow.next_seq), place))
        else:
            heapq.heappop(due)


def _skip_what_is_too_old(flow: OutgoingFlow, now_ns: int) -> bool:
    worth_sending = flow.schedule.next_worth_sending(flow.next_seq, now_ns)
    skipped = worth_sending - flow.next_seq
    flow.skipped += skipped
    flow.next_seq = worth_sending
    return skipped > 0


def _send(flow: OutgoingFlow, rows: Rows, late_ns: int) -> None:
    seq = flow.next_seq
    flow.next_seq = seq + 1
    sent_ns = time.time_ns()
    flow.packet.stamp(seq, sent_ns)
    try:
        flow.socket.sendto(flow.packet.buffer, flow.target)
    except OSError as refused:
        flow.errors[errno.errorcode.get(refused.errno or 0, str(refused))] += 1
        return
    if time.time_ns() - sent_ns > _SLOW_SEND_NS:
        flow.slow_sends += 1
    flow.sent += 1
    rows.add(flow.number, seq, sent_ns, late_ns)


def read_start_ns() -> int:
    """Read the start time; return it on the monotonic clock, which is never adjusted."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit("probe sender: standard input ended before it said when to start")
    wait_ns = int(json.loads(line)["start_ns"]) - time.time_ns()
    return time.monotonic_ns() + wait_ns


def main() -> None:
    parser = argparse.ArgumentParser(description="Send the probe flows of one VM.")
    parser.add_argument("--plan", type=Path, required=True, help="the run's plan, as JSON")
    parser.add_argument("--vm", required=True, help="the VM whose flows are sent")
    parser.add_argument("--out", type=Path, required=True, help="where the samples are written")
    arguments = parser.parse_args()
    plan = Plan.from_json(arguments.plan.read_text(encoding="utf-8"))
    mine = plan.flows_from(arguments.vm)
    stop = StopFlag()
    samples.reserve(arguments.out, 4 * plan.packets(mine.values()))
    say(ready=True)
    start_ns = read_start_ns()
    phases = phases_ns([flow.rate_pps for flow in mine.values()])
    flows = [
        OutgoingFlow(number, flow, plan, start_ns, phase)
        for (number, flow), phase in zip(mine.items(), phases, strict=True)
    ]
    rows = Rows(sum(flow.schedule.packets for flow in flows))
    be_punctual()
    stay_on_one_processor(plan.sources.index(arguments.vm))
    scheduling = be_first_in_line()
    teller = Teller()
    send_until_done(flows, rows, stop, teller)
    teller.end()
    summary = {
        "scheduling": scheduling,
        "stopped_early": bool(stop),
        "flows": {flow.name: flow.summary() for flow in flows},
    }
    samples.write(arguments.out, summary, rows.values)
    say(done=True)


if __name__ == "__main__":
    main()
