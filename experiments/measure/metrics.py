"""The definitions of what a move did to traffic.

`packets` defines loss, delay, duplication and reordering, `attribution` which packets belong to
which move.

*Guest blackout and network recovery are different things*: `pause_ms` is what the hypervisor
causes, `recovery_ms` what the network adds after the VM runs again.  Part of that is not caused by
the overlay: `recovery_excess_ms` also leaves out the underlay's own delay.  For a packet that was
sent before the resume, this is the delay that remained at the resume: none, if it only waited.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from controller.core.pending_counters import COUNTED
from experiments.measure.attribution import FlowEndpoints, Window, moves_for, place_of, windows
from experiments.measure.packets import (
    NS_PER_MS,
    Delay,
    PacketOutcomes,
    Samples,
    delay_variation_ms,
    duplicates,
    flows_of,
    longest_silence_ns,
)
from experiments.measure.trace import MoveTrace, TraceEvent, moves_of

WAITING_TIME_S = 2.0
"""The waiting time Tmax, unless the run says otherwise, in seconds."""

_NS_PER_S = 1_000_000_000
_RENEWALS = ("entry-expired", "entry-pulled", "mapping-confirmed", "entry-forgotten")


@dataclass(frozen=True)
class MoveMetrics:
    """What a move took, whatever the flow.  None: the event that a value is computed from did not
    happen.
    """

    move: int
    vm: str
    from_nve: str
    to_nve: str
    outcome: str
    mode: str
    """`hot`, `cold` or `take-over` (section 7 of the draft)."""
    announce: str | None
    """How the VM was to announce itself."""
    pause_asked_ms: float | None
    request_to_completion_ms: float | None
    """From the request until the overlay calls the move completed."""
    pause_ms: float | None
    """Guest blackout: how long the VM did not run.  None in a take-over, in which nothing was
    paused: its server had died."""
    convergence_ms: float | None
    """From resume until no NVE holds an old entry; 0 if the announcement was quicker."""
    tunnelled_packets: int | None
    tunnelled_bytes: int | None
    """What the source NVE forwarded in flight (R4.1.4)."""
    dropped_at_source_packets: int | None
    """What it dropped instead (`in_flight: drop`)."""
    in_flight_lifetime_ms: float | None
    packets_via_source_after_convergence: int | None
    """Has to be 0 (R3.4: no triangular routing)."""
    outbound_held_ms: float | None
    """How long after the resume the destination held what the VM sends, to keep packets in order:
    part of the silence that its peers notice, but not of the pause."""
    outbound_held_packets: int | None
    transfer: str | None
    """The method of the state transfer; without a state, this and the next values are missing."""
    transfer_network: str | None
    """The network that it used: `underlay` or `migration`."""
    transfer_total_ms: float | None
    """From the connection between the servers until the VM runs at the destination and has all its
    pages."""
    transfer_iterations: int | None
    """The number of rounds while the VM ran."""
    transfer_end: str | None
    """Why it was stopped: `converged`, `forced`, `asked` or `post-copy`."""
    state_bytes: int | None
    """The size of memory and disk."""
    transfer_bytes: int | None
    """What was sent of them, in all rounds."""
    transfer_final_bytes: int | None
    transfer_final_ms: float | None
    """The last round, during which the VM was suspended."""
    post_copy_ms: float | None
    """How long the VM ran at the destination without having all its pages."""
    faults: int | None
    """How often it waited for a page, and how long: p50 and p99."""
    fault_p50_ms: float | None
    fault_p99_ms: float | None
    state_equal: bool | None
    """Memory and disk are what they were at the source (R6.4)."""


@dataclass(frozen=True)
class FlowMetrics:
    """The effect of one move on one flow."""

    flow: str
    role: str
    correspondent_nve: str | None
    """The NVE that the VM's correspondent is behind; for a reference flow, the sender's NVE."""
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
    recovery_excess_ms: float | None
    """The same minus the delay that the flow has anyway, and minus its sender's lateness."""
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
NO_FLOW = dict.fromkeys(("sent", "lost", "late", "duplicated", "reordered"), 0)
"""The values for a move that concerns no flow; the other values of a flow are missing."""


def table(
    packets: pd.DataFrame,
    events: Sequence[TraceEvent],
    homes: Mapping[str, str],
    waiting_time_s: float = WAITING_TIME_S,
) -> pd.DataFrame:
    """Return moves.csv: one row per move and flow; a move that concerns no flow has one without a
    flow.

    `homes` holds the NVE of every VM before the first move.
    """
    moves = moves_of(events)
    felt = list(
        _per_move_and_flow(flows_of(packets), moves, homes, round(waiting_time_s * _NS_PER_S))
    )
    rows = [asdict(of_move(move)) | asdict(flow_metrics) for move, flow_metrics in felt]
    concerned = {move.number for move, _ in felt}
    rows += [asdict(of_move(move)) | NO_FLOW for move in moves if move.number not in concerned]
    rows.sort(key=lambda row: row["move"])
    return pd.DataFrame(rows, columns=COLUMNS)


def of_move(move: MoveTrace) -> MoveMetrics:
    ended, released = move.last("in-flight-ended"), move.last("outbound-released")
    ended_rounds = move.first("transfer-rounds-ended")
    counted = [event.details for event in move.events if event.name in COUNTED]
    packets = sum(details.get("packets", 0) for details in counted) if ended else None
    octets = sum(details.get("bytes", 0) for details in counted) if ended else None
    lifetime_ms = sum(details.get("lifetime_ms", 0.0) for details in counted) if ended else None
    dropped = ended is not None and ended.details.get("purpose") == "departed"
    return MoveMetrics(
        move=move.number,
        vm=move.vm,
        from_nve=move.source_nve,
        to_nve=move.destination_nve,
        outcome=move.outcome,
        mode=move.events[0].details.get("mode", "hot"),
        announce=move.events[0].details.get("announce"),
        pause_asked_ms=move.events[0].details.get("pause_ms"),
        request_to_completion_ms=_between_ms(move.requested_ns, move.time_of("move-completed")),
        pause_ms=None
        if move.is_take_over
        else _between_ms(move.time_of("vm-paused"), move.time_of("vm-resumed")),
        convergence_ms=_convergence_ms(move),
        tunnelled_packets=0 if dropped else packets,
        tunnelled_bytes=0 if dropped else octets,
        dropped_at_source_packets=packets if dropped else 0 if ended else None,
        in_flight_lifetime_ms=lifetime_ms,
        packets_via_source_after_convergence=move.detail("packets_via_source_after_convergence"),
        outbound_held_ms=released.details.get("held_ms") if released else None,
        outbound_held_packets=released.details.get("packets") if released else None,
        transfer=move.detail("transfer"),
        transfer_network=move.detail("network"),
        transfer_total_ms=_between_ms(
            move.time_of("transfer-connected"),
            move.time_of("post-copy-finished") or move.time_of("vm-resumed"),
        ),
        transfer_iterations=move.detail("iterations"),
        transfer_end=ended_rounds.details.get("why") if ended_rounds else None,
        state_bytes=move.detail("state_bytes"),
        transfer_bytes=move.detail("transfer_bytes"),
        transfer_final_bytes=move.detail("final_bytes"),
        transfer_final_ms=move.detail("final_ms"),
        post_copy_ms=_between_ms(move.time_of("vm-resumed"), move.time_of("post-copy-finished")),
        faults=move.detail("faults"),
        fault_p50_ms=move.detail("fault_p50_ms"),
        fault_p99_ms=move.detail("fault_p99_ms"),
        state_equal=move.detail("equal"),
    )


def _convergence_ms(move: MoveTrace) -> float | None:
    """Return the time from resume to convergence, at least 0: a VM is announced just before it
    runs.
    """
    elapsed_ms = _between_ms(move.time_of("vm-resumed"), move.time_of("move-converged"))
    return None if elapsed_ms is None else max(0.0, elapsed_ms)


def _per_move_and_flow(
    flows: Mapping[str, Samples],
    moves: Sequence[MoveTrace],
    homes: Mapping[str, str],
    waiting_time_ns: int,
) -> Iterator[tuple[MoveTrace, FlowMetrics]]:
    rows = []
    for name, samples in flows.items():
        fates = PacketOutcomes.of(samples, waiting_time_ns)
        for move, window in windows(moves_for(name, moves)):
            nve = place_of(FlowEndpoints.of(name).correspondent_of(move.vm), move, moves, homes)
            rows.append((move, of_flow(name, fates, move, window, nve)))
    yield from sorted(rows, key=lambda row: row[0].number)


def of_flow(
    name: str, fates: PacketOutcomes, move: MoveTrace, window: Window, correspondent_nve: str | None
) -> FlowMetrics:
    samples = fates.samples
    role = FlowEndpoints.of(name).role_in_move_of(move.vm)
    interval_ns = samples.interval_ns
    mine = fates.sent_between(window.requested_ns, window.end_ns)
    delay_before = Delay.of(samples.sent_between(window.before_ns, window.requested_ns))
    delay_during = Delay.of(samples.sent_between(window.requested_ns, window.settled_ns))
    delay_after = Delay.of(samples.sent_between(window.settled_ns, window.end_ns))
    lost = int(mine.lost.sum())
    sent = len(mine.samples)
    silence_ns = longest_silence_ns(samples, window.requested_ns, window.end_ns)
    recovery_ms, recovery_excess_ms = _recovery_ms(samples, move, window, role)
    return FlowMetrics(
        flow=name,
        role=role,
        correspondent_nve=correspondent_nve,
        sent=sent,
        lost=lost,
        late=int(mine.late.sum()),
        duplicated=duplicates(mine.samples),
        reordered=int(mine.reordered.sum()),
        loss_derived_ms=lost * interval_ns / NS_PER_MS if sent else None,
        blackout_ms=_above_ms(silence_ns, interval_ns) if sent else None,
        sender_gap_ms=_sender_gap_ms(samples, window, interval_ns),
        recovery_ms=recovery_ms,
        recovery_excess_ms=recovery_excess_ms,
        stale_ms=_stale_ms(move, correspondent_nve) if role == "to" else None,
        delay_variation_ms=delay_variation_ms(mine.samples),
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
    samples: Samples, move: MoveTrace, window: Window, role: str
) -> tuple[float | None, float | None]:
    """Return the recovery, and how much of it exceeds the underlay's own delay.

    To the VM: its first arrival after the resume.  From the VM: the first arrival of a packet that
    it sent after the resume, minus the flow's own delay, which no move can avoid.

    A packet that was sent before the resume can arrive when the remainder of its path is over; one
    that waited at the destination, at once.  Its path may have led over the source NVE.
    """
    resumed_ns = move.time_of("vm-resumed")
    if resumed_ns is None or role == "reference":
        return None, None
    since_ns = resumed_ns if role == "from" else window.before_ns
    candidates = samples.sent_between(since_ns, window.end_ns)
    there = np.flatnonzero(candidates.received_ns >= resumed_ns)
    if not len(there):
        return None, None
    first = there[np.argmin(candidates.received_ns[there])]
    elapsed_ns = int(candidates.received_ns[first]) - resumed_ns
    usual_ns = _usual_delay_ns(samples, resumed_ns, window)
    under_way_ns = resumed_ns - int(candidates.sent_ns[first])
    if under_way_ns <= 0:
        excused_ns = usual_ns + int(candidates.late_ns[first])
    else:
        way_ns = max(usual_ns, _way_in_flight_ns(samples, move, window))
        excused_ns = max(0.0, way_ns - under_way_ns)
    recovery_ns = elapsed_ns - (usual_ns if role == "from" else 0)
    return (
        _above_ms(recovery_ns, samples.interval_ns),
        _above_ms(elapsed_ns - excused_ns, samples.interval_ns),
    )


def _way_in_flight_ns(samples: Samples, move: MoveTrace, window: Window) -> float:
    """Return the delay of a packet in flight: to the source NVE as before the move, and on to the
    destination by the underlay; 0 if nothing was in flight.
    """
    if not of_move(move).tunnelled_packets:
        return 0.0
    before_ms = Delay.of(samples.sent_between(window.before_ns, window.requested_ns)).p50_ms
    on_ms = float(move.events[0].details.get("underlay_delay_ms", 0.0))
    return ((before_ms or 0.0) + on_ms) * NS_PER_MS


def _usual_delay_ns(samples: Samples, resumed_ns: int, window: Window) -> float:
    """Return the flow's median delay after the move has settled or, failing that, while the VM
    runs.
    """
    for since_ns in (window.settled_ns, resumed_ns):
        usual_ms = Delay.of(samples.sent_between(since_ns, window.end_ns)).p50_ms
        if usual_ms is not None:
            return usual_ms * NS_PER_MS
    return 0.0


def _stale_ms(move: MoveTrace, nve: str | None) -> float | None:
    """Return the time from the resume until the NVE lost its old entry or got the new one.

    What an NVE pulls before the overlay has recorded the move is still the old entry; what it
    learns from the VM at its new place is the new one, whenever that is.
    """
    resumed_ns = move.time_of("vm-resumed")
    recorded_ns = move.time_of("mapping-updated") or resumed_ns
    if resumed_ns is None or recorded_ns is None:
        return None
    renewed_ns = [
        event.t_ns
        for event in move.events
        if (event.name in _RENEWALS and event.t_ns >= recorded_ns)
        or (event.name == "entry-learned" and event.details.get("at") == move.destination_nve)
        if event.details.get("nve") == nve or nve in event.details.get("nves", ())
    ]
    return _above_ms(renewed_ns[0] - resumed_ns, 0.0) if renewed_ns else None


def _between_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    if start_ns is None or end_ns is None:
        return None
    return (end_ns - start_ns) / NS_PER_MS


def _above_ms(duration_ns: float, allowance_ns: float) -> float:
    """Return what exceeds the allowance; 0 if nothing does."""
    return max(0.0, duration_ns - allowance_ns) / NS_PER_MS
