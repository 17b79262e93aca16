"""What a move did to traffic: definitions, and nothing but definitions.

`packets` defines loss, delay, duplication and reordering; here they are attributed to moves.

A packet belongs to a move by its time of *sending*: from the request of the move until the request
of the next move that concerns the same flow.  Arrivals that fall in that window, or come later,
count for the move in which their packet was sent.

A flow takes one of three roles in a move: `to` the VM that moves, `from` it, or `reference`.  A
flow that some move of the run touches has rows for those moves only; one that none touches is a
reference for every move: what it suffers is the machine's doing, not the move's.

The *during* phase lasts from the request until the move has settled: until no NVE holds an old
entry.  After that all traffic should take its final path.

*Guest blackout and network recovery are different things*: `pause_ms` is what the hypervisor
causes, `recovery_ms` what the network adds after the VM runs again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from experiments.events import Event, Move, moves_of
from experiments.packets import (
    END_OF_TIME,
    NS_PER_MS,
    Delay,
    Samples,
    delay_variation_ms,
    duplicates,
    flows_of,
    late_mask,
    longest_silence_ns,
    lost_mask,
    reordered_mask,
)

WAITING_TIME_S = 2.0
"""Tmax unless the run says otherwise."""

_NS_PER_S = 1_000_000_000
_IN_FLIGHT = ("in-flight-before-arrival", "in-flight-ended")
_RENEWALS = ("entry-expired", "entry-pulled", "mapping-confirmed")
_SETTLING = (
    "vm-resumed",
    "mapping-confirmed",
    "entry-pulled",
    "move-rolled-back",
    "move-failed",
)
"""What ends a move's effect on traffic where nobody says that it has converged."""


@dataclass(frozen=True)
class Ends:
    """What a flow's name says: `vm3>vm1/ipv4`, with an optional `#2` behind it."""

    source: str
    destination: str
    family: str

    @classmethod
    def of(cls, flow: str) -> "Ends":
        path, _, family = flow.partition("/")
        source, _, destination = path.partition(">")
        return cls(source, destination, family.partition("#")[0])

    def role_in_move_of(self, vm: str) -> str:
        if vm == self.destination:
            return "to"
        return "from" if vm == self.source else "reference"

    def correspondent_of(self, vm: str) -> str:
        """The other end; the sender, for a flow that does not concern `vm`."""
        return self.destination if vm == self.source else self.source


@dataclass(frozen=True)
class MoveMetrics:
    """What a move took, whatever the flow.  None: the event it is computed from did not happen."""

    move: int
    vm: str
    from_nve: str
    to_nve: str
    outcome: str
    request_to_completion_ms: float | None
    """From the request until the NVA calls the move completed."""
    pause_ms: float | None
    """Guest blackout: the VM did not run."""
    convergence_ms: float | None
    """From resume until no NVE holds an old entry."""
    tunnelled_packets: int | None
    tunnelled_bytes: int | None
    """What the source NVE forwarded in flight (R4.1.4)."""
    dropped_at_source_packets: int | None
    """What it dropped instead (`in_flight: drop`)."""
    in_flight_lifetime_ms: float | None
    packets_via_source_after_convergence: int | None
    """Has to be 0 (R3.4: no triangular routing)."""


@dataclass(frozen=True)
class FlowMetrics:
    """What one flow felt of one move."""

    flow: str
    role: str
    correspondent_nve: str | None
    """Behind which the VM's correspondent is; of a reference flow, the sender."""
    sent: int
    lost: int
    late: int
    duplicated: int
    reordered: int
    loss_derived_ms: float | None
    """Lost packets times the interval (RFC 6413: loss-derived time)."""
    blackout_ms: float | None
    """The longest silence that reaches into the move, minus the interval."""
    sender_gap_ms: float | None
    """The longest time between two sends, minus the interval: a silence that the sender caused."""
    recovery_ms: float | None
    """From resume to the first arrival, minus the interval: what the network adds to the pause."""
    stale_ms: float | None
    """How long after the resume the correspondent's NVE kept its old entry."""
    delay_variation_ms: float | None
    delay_before_p50_ms: float | None
    delay_before_p99_ms: float | None
    delay_before_max_ms: float | None
    delay_during_p50_ms: float | None
    delay_during_p99_ms: float | None
    delay_during_max_ms: float | None
    delay_after_p50_ms: float | None
    delay_after_p99_ms: float | None
    delay_after_max_ms: float | None


COLUMNS = [field.name for field in (*fields(MoveMetrics), *fields(FlowMetrics))]
"""The columns of moves.csv."""


def table(
    packets: pd.DataFrame,
    events: Sequence[Event],
    homes: Mapping[str, str],
    waiting_time_s: float = WAITING_TIME_S,
) -> pd.DataFrame:
    """moves.csv: one row per move and flow.  `homes`: the NVE of every VM before the first move."""
    moves = moves_of(events)
    rows = [
        asdict(of_move(move)) | asdict(flow_metrics)
        for move, flow_metrics in _per_move_and_flow(
            flows_of(packets), moves, homes, round(waiting_time_s * _NS_PER_S)
        )
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def of_move(move: Move) -> MoveMetrics:
    ended = move.last("in-flight-ended")
    counted = [event.details for event in move.events if event.name in _IN_FLIGHT]
    packets = sum(details.get("packets", 0) for details in counted) if ended else None
    octets = sum(details.get("bytes", 0) for details in counted) if ended else None
    dropped = ended is not None and ended.details.get("purpose") == "departed"
    return MoveMetrics(
        move=move.number,
        vm=move.vm,
        from_nve=move.source_nve,
        to_nve=move.destination_nve,
        outcome=move.outcome,
        request_to_completion_ms=_between_ms(move.requested_ns, move.time_of("move-completed")),
        pause_ms=_between_ms(move.time_of("vm-paused"), move.time_of("vm-resumed")),
        convergence_ms=_between_ms(move.time_of("vm-resumed"), move.time_of("move-converged")),
        tunnelled_packets=0 if dropped else packets,
        tunnelled_bytes=0 if dropped else octets,
        dropped_at_source_packets=packets if dropped else 0 if ended else None,
        in_flight_lifetime_ms=ended.details.get("lifetime_ms") if ended else None,
        packets_via_source_after_convergence=move.detail("packets_via_source_after_convergence"),
    )


def settled_ns(move: Move) -> int:
    """When the last thing happened that can still change a packet's path."""
    converged_ns = move.time_of("move-converged")
    if converged_ns is not None:
        return converged_ns
    times_ns = [move.time_of(name) for name in _SETTLING]
    return max((t_ns for t_ns in times_ns if t_ns is not None), default=move.events[-1].t_ns)


@dataclass(frozen=True)
class Window:
    """The times that delimit the phases of a move for one flow."""

    before_ns: int
    requested_ns: int
    settled_ns: int
    end_ns: int


def windows(moves: Sequence[Move]) -> Iterator[tuple[Move, Window]]:
    """The windows of moves that follow each other: each ends where the next is requested."""
    ends = [move.requested_ns for move in moves[1:]] + [END_OF_TIME]
    before = 0
    for move, end in zip(moves, ends, strict=False):
        settled = settled_ns(move)
        yield move, Window(before, move.requested_ns, settled, end)
        before = settled


def _per_move_and_flow(
    flows: Mapping[str, Samples],
    moves: Sequence[Move],
    homes: Mapping[str, str],
    waiting_time_ns: int,
) -> Iterator[tuple[Move, FlowMetrics]]:
    rows = []
    for name, samples in flows.items():
        for move, window in windows(moves_for(name, moves)):
            nve = place_of(Ends.of(name).correspondent_of(move.vm), move, moves, homes)
            rows.append((move, of_flow(name, samples, move, window, nve, waiting_time_ns)))
    yield from sorted(rows, key=lambda row: row[0].number)


def moves_for(flow: str, moves: Sequence[Move]) -> list[Move]:
    """The moves that touch a flow; all moves, for a flow that none touches."""
    ends = Ends.of(flow)
    touching = [move for move in moves if ends.role_in_move_of(move.vm) != "reference"]
    return touching or list(moves)


def place_of(vm: str, move: Move, moves: Iterable[Move], homes: Mapping[str, str]) -> str | None:
    """The NVE behind which `vm` is when `move` is requested."""
    place = homes.get(vm)
    for earlier in moves:
        if earlier.requested_ns >= move.requested_ns:
            break
        if earlier.vm == vm and earlier.outcome == "completed":
            place = earlier.destination_nve
    return place


def of_flow(
    name: str,
    samples: Samples,
    move: Move,
    window: Window,
    correspondent_nve: str | None,
    waiting_time_ns: int,
) -> FlowMetrics:
    role = Ends.of(name).role_in_move_of(move.vm)
    interval_ns = samples.interval_ns
    in_move = (samples.sent_ns >= window.requested_ns) & (samples.sent_ns < window.end_ns)
    mine = samples.where(in_move)
    before = samples.sent_between(window.before_ns, window.requested_ns)
    delay_before = Delay.of(before)
    delay_during = Delay.of(mine.sent_between(window.requested_ns, window.settled_ns))
    delay_after = Delay.of(mine.sent_between(window.settled_ns, window.end_ns))
    lost = int(lost_mask(mine, waiting_time_ns).sum())
    silence_ns = longest_silence_ns(samples, window.requested_ns, window.end_ns)
    return FlowMetrics(
        flow=name,
        role=role,
        correspondent_nve=correspondent_nve,
        sent=len(mine),
        lost=lost,
        late=int(late_mask(mine, waiting_time_ns).sum()),
        duplicated=duplicates(mine),
        reordered=int(reordered_mask(samples)[in_move].sum()),
        loss_derived_ms=lost * interval_ns / NS_PER_MS if len(mine) else None,
        blackout_ms=_above_ms(silence_ns, interval_ns) if len(mine) else None,
        sender_gap_ms=_sender_gap_ms(samples, window, interval_ns),
        recovery_ms=_recovery_ms(samples, move, role, interval_ns, delay_before.p50_ms),
        stale_ms=_stale_ms(move, correspondent_nve) if role == "to" else None,
        delay_variation_ms=delay_variation_ms(mine),
        delay_before_p50_ms=delay_before.p50_ms,
        delay_before_p99_ms=delay_before.p99_ms,
        delay_before_max_ms=delay_before.max_ms,
        delay_during_p50_ms=delay_during.p50_ms,
        delay_during_p99_ms=delay_during.p99_ms,
        delay_during_max_ms=delay_during.max_ms,
        delay_after_p50_ms=delay_after.p50_ms,
        delay_after_p99_ms=delay_after.p99_ms,
        delay_after_max_ms=delay_after.max_ms,
    )


def _sender_gap_ms(samples: Samples, window: Window, interval_ns: float) -> float | None:
    last_before = samples.sent_between(0, window.requested_ns).sent_ns[-1:]
    sent = samples.sent_between(window.requested_ns, window.end_ns).sent_ns
    gaps = np.diff(np.concatenate([last_before, sent]))
    return _above_ms(int(gaps.max()), interval_ns) if len(gaps) else None


def _recovery_ms(
    samples: Samples, move: Move, role: str, interval_ns: float, usual_delay_ms: float | None
) -> float | None:
    """To the VM: its first arrival after the resume.  From the VM: the first arrival of a packet
    that it sent after the resume, minus the flow's usual delay, which no move can save it.
    """
    resumed_ns = move.time_of("vm-resumed")
    if resumed_ns is None or role == "reference":
        return None
    allowance_ns = interval_ns
    candidates = samples.arrived & (samples.received_ns >= resumed_ns)
    if role == "from":
        candidates &= samples.sent_ns >= resumed_ns
        allowance_ns += (usual_delay_ms or 0.0) * NS_PER_MS
    arrivals = samples.received_ns[candidates]
    if not len(arrivals):
        return None
    return _above_ms(int(arrivals.min()) - resumed_ns, allowance_ns)


def _stale_ms(move: Move, nve: str | None) -> float | None:
    """From the resume until the NVE lost its old entry or got the new one, whichever was first.

    What an NVE pulls before the NVA has recorded the move is still the old entry.
    """
    resumed_ns = move.time_of("vm-resumed")
    recorded_ns = move.time_of("mapping-updated") or resumed_ns
    if resumed_ns is None or recorded_ns is None:
        return None
    renewed_ns = [
        event.t_ns
        for event in move.events
        if event.name in _RENEWALS
        and event.t_ns >= recorded_ns
        and (event.details.get("nve") == nve or nve in event.details.get("nves", ()))
    ]
    return _above_ms(renewed_ns[0] - resumed_ns, 0.0) if renewed_ns else None


def _between_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    if start_ns is None or end_ns is None:
        return None
    return (end_ns - start_ns) / NS_PER_MS


def _above_ms(duration_ns: float, allowance_ns: float) -> float:
    """What exceeds the allowance; a duration within it counts as 0."""
    return max(0.0, duration_ns - allowance_ns) / NS_PER_MS
