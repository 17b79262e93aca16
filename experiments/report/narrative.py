"""Sentences that say what a result shows, made from its numbers alone.

There is one sentence per run on whether its moves damaged anything, one paragraph per run and move
about loss and silence, and the honest notes: everything about a run that a reader has to know
before trusting its figures.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from experiments.measure import totals
from experiments.measure.results import Result
from experiments.measure.task_moves import task_moves_of
from experiments.measure.totals import DAMAGE, RunTotals, of_run
from experiments.measure.trace import TraceEvent
from experiments.report.format import count, counts, duration, listing, span, things
from experiments.report.tables import FEW_MOVES

if TYPE_CHECKING:
    import pandas as pd

GIVEN_UP = {
    "not-run-dry": "the VM's port was shut before it had drained: packets in it are lost",
    "hold-given-up": "the destination held packets for the VM too long and dropped them",
    "last-packets-not-awaited": "the VM's last packets were not awaited: packets may be "
    "out of order",
    "markers-not-asked-for": "the destination was not told whose end markers to wait for: "
    "packets may be out of order",
    "paths-changed": "not all end markers came in time: packets may be out of order",
}
"""The events that say that a move has given up part of its guarantees; `paths-changed` does if it
names an NVE `without_marker`."""
LATE_SENDER_MS = 1.0
"""The p99 of the sender's lateness above which the report warns, in ms."""


def headlines(result: Result) -> list[str]:
    """Return for each run whether its moves damaged any packet, and how soon traffic had
    recovered.
    """
    return [
        _prefix(result, run_name)
        + _about_run(of_run(run.totals, run.metrics))
        + _about_tables(run.manifest)
        for run_name, run in result.runs.items()
        if len(run.packets) or len(run.metrics)
    ]


def _about_run(run: RunTotals) -> str:
    if not run.flows:
        return (
            f"{things(run.moves, 'move')}, {count(run.completed)} completed; there were no "
            "probes, so traffic was not measured."
        )
    harm = [
        f"{count(getattr(run, what))} {word}"
        for what, word in zip(DAMAGE, ("lost", "duplicated", "out of order"), strict=True)
    ]
    sentence = (
        f"{things(run.moves, 'move')}, {things(run.sent, 'packet')} in "
        f"{things(run.flows, 'flow')}: {', '.join(harm)}."
    )
    if run.late:
        sentence += (
            f" Of these, {count(run.late)} came after the waiting time, which an overloaded "
            "machine causes more often than the network."
        )
    if run.completed < run.moves:
        sentence += f" Only {count(run.completed)} of the moves were completed."
    if run.recovery_excess_max_ms is not None:
        sentence += (
            " Recovery after a resume, less the packets' interval and the underlay's delay: "
            f"{duration(run.recovery_excess_p50_ms)} (median), "
            f"{duration(run.recovery_excess_p99_ms)} (99 %), "
            f"{duration(run.recovery_excess_max_ms)} (worst)."
        )
    if not run.moves:
        return sentence
    via_source = count(run.packets_via_source_after_convergence)
    counted = f"counted in {count(run.via_source_counted)} of {things(run.moves, 'move')}"
    return f"{sentence} Packets via source NVEs after convergence: {via_source} ({counted})."


def _about_tables(manifest: Mapping[str, Any]) -> str:
    """Return a sentence about comparisons of rules; empty for results from before them."""
    if (told := manifest.get("tables_compared")) is None:
        return ""
    moves = f"{count(told['moves'])} of {things(told['of'], 'completed move')}"
    return f" After {moves}, every NVE's rules were compared with the expected ones."


def what_happened(result: Result) -> list[str]:
    """Return for each run and move the pause, and what the flows lost, by the correspondents' NVE.

    Of many moves only those that damaged packets are included, the worst first, up to a limit.
    """
    sentences = []
    for run_name, run in result.runs.items():
        by_move = dict(list(run.metrics.groupby("move")))
        told = list(by_move)
        if len(told) > FEW_MOVES:
            harmful = totals.worst(run.metrics, FEW_MOVES)
            told = [move for move in harmful if by_move[move][list(DAMAGE)].to_numpy().any()]
        sentences += [
            _prefix(result, run_name) + _about_move(by_move[number], number, len(by_move))
            for number in told
        ]
        sentences += [_prefix(result, run_name) + each for each in _about_tasks(run)]
        sentences += [_prefix(result, run_name) + each for each in _about_mtus(run.events)]
    return sentences


def _about_tasks(run: Result) -> Iterator[str]:
    """Yield what became of the first moves of tasks."""
    for move in task_moves_of(run.events)[:FEW_MOVES]:
        route = f"from {move.source_vm} to {move.destination_vm}"
        if move.outcome != "completed":
            yield f"The move of task {move.task} {route} is {move.outcome}."
            continue
        freeze_ms = move.detail("freeze_ms")
        stood = f" and stood still for {duration(freeze_ms)}" if freeze_ms is not None else ""
        kept = ""
        if run.connections is not None:
            mine = run.connections[run.connections["move"] == move.number]
            carried = int((mine["fate"] == "migrated").sum())
            kept = f" {count(carried)} of {things(len(mine), 'connection')} moved with it."
        yield f"Task {move.task} moved {route}{stood}.{kept}"


def _about_mtus(events: Iterable[TraceEvent]) -> Iterator[str]:
    """Yield who was told that its packets exceed a tunnel's MTU, and how often."""
    told: Counter[tuple[str, str, str, int]] = Counter()
    silent: Counter[str] = Counter()
    for event in events:
        if event.name != "packet-too-big":
            continue
        details = event.details
        if details["answered"]:
            told[details["nve"], event.subject, details["to"], details["mtu"]] += 1
        else:
            silent[details["nve"]] += 1
    for (nve, vm, to, mtu), times in sorted(told.items()):
        yield (
            f"{nve} told {vm} {things(times, 'time')} that a packet to {to} "
            f"exceeds the {count(mtu)} octets of the tunnel."
        )
    for nve, times in sorted(silent.items()):
        yield f"{nve} could not answer {things(times, 'packet')} that exceeded a tunnel's MTU."


def _prefix(result: Result, run_name: str) -> str:
    return f"{run_name}: " if result.variants else ""


def _about_move(rows: "pd.DataFrame", number: Any, of_moves: int) -> str:
    first = rows.iloc[0]
    of_many = f" (move {number})" if of_moves > FEW_MOVES else ""
    route = f"{first['vm']} moved from {first['from_nve']} to {first['to_nve']}{of_many}"
    if first.get("mode") == "take-over":
        route = (
            f"{first['vm']}'s standby at {first['to_nve']} took over from "
            f"{first['from_nve']}{of_many}"
        )
    if first["outcome"] == "refused":
        return f"{first['vm']} was not moved to {first['to_nve']}: the move was refused."
    known = rows["pause_ms"].notna().any()
    paused = f" and was paused for {duration(first['pause_ms'])}" if known else ""
    concerned = rows[rows["role"].isin(("to", "from"))]
    parts = [
        _about_group(str(nve), str(role), group)
        for (nve, role), group in concerned.groupby(["correspondent_nve", "role"], dropna=False)
    ]
    return " ".join([f"{route}{paused}.", *parts])


def _about_group(nve: str, role: str, rows: "pd.DataFrame") -> str:
    who = f"Flows {'from' if role == 'to' else 'to'} correspondents behind {nve}"
    lost, blackout = rows["lost"], rows["blackout_ms"].dropna()
    silence = f"the longest silence was {span(blackout.min(), blackout.max())}"
    if not len(blackout):
        return f"{who} sent nothing."
    if lost.max() == 0:
        return f"{who} lost nothing; {silence}."
    each = " each" if len(rows) > 1 else ""
    packets = "packet" if lost.max() == 1 else "packets"
    return f"{who} lost {counts(lost.min(), lost.max())} {packets}{each}; {silence}."


def honest_notes(result: Result) -> list[str]:
    """Return what has to be known before the figures are trusted."""
    notes = [
        f"{variant} was not finished: {why}"
        for variant, why in result.manifest.get("not_finished", {}).items()
    ]
    for run_name, run in result.runs.items():
        notes += [_prefix(result, run_name) + note for note in _notes_of_run(run)]
    return notes


def _notes_of_run(run: Result) -> Iterator[str]:
    for problem in run.manifest.get("problems", ()):
        yield f"not valid: {problem}"
    yield from run.manifest.get("notes", ())
    late_ms = run.packets["late_ns"] / 1e6
    if len(late_ms):
        p99 = float(late_ms.quantile(0.99))
        yield (
            f"the senders were late by {duration(float(late_ms.median()))} (median), "
            f"{duration(p99)} (p99), {duration(float(late_ms.max()))} at most"
            + ("; this machine is busy or too slow for these rates" if p99 > LATE_SENDER_MS else "")
        )
    yield from _notes_of_patience(run.events)
    yield from _notes_of_order(run)
    probes = run.manifest.get("probes", {})
    yield from _notes_of_senders(probes.get("senders", {}))
    receivers = probes.get("receivers", {}).values()
    if receivers:
        overflow = sum(receiver["overflow"] for receiver in receivers)
        yield f"receivers dropped {things(overflow, 'packet')} themselves"
    if "waiting_time_s" in probes:
        yield f"a packet that took longer than {probes['waiting_time_s']:g} s counts as lost"


def _notes_of_patience(events: Iterable[TraceEvent]) -> Iterator[str]:
    """Yield notes on waits that have timed out.

    On a machine that keeps up, none does unless the scenario asks for a failure.
    """
    times = Counter(
        event.name for event in events if event.details.get("without_marker", True) != []
    )
    for name, consequence in GIVEN_UP.items():
        if times[name]:
            yield f"{consequence} ({things(times[name], 'time')}, `{name}` in events.csv)"


def _notes_of_order(run: Result) -> Iterator[str]:
    """Yield notes on moves that gave up the order of packets."""
    moved = run.metrics[run.metrics["role"] != "reference"]
    unmoved = int(run.totals["reordered"].sum()) - int(moved["reordered"].sum())
    if unmoved > 0:
        yield (
            f"{things(unmoved, 'packet')} came out of order in flows before any move concerned "
            "them. The machine is too slow for this run; it may have reordered other packets, too "
            "(docs/how-it-works/README.md, Order on a busy machine)"
        )


def _notes_of_senders(senders: dict[str, Any]) -> Iterator[str]:
    for vm, sender in senders.items():
        flows = sender["flows"].values()
        skipped = sum(flow["skipped"] for flow in flows)
        if skipped:
            yield f"the sender in {vm} skipped {things(skipped, 'packet')} while it could not run"
        slow = sum(flow["slow_sends"] for flow in flows)
        if slow:
            yield f"{things(slow, 'send call')} in {vm} took over 1 ms: those delays are too long"
        errors = sorted({name for flow in flows for name in flow["send_errors"]})
        if errors:
            refused = sum(sum(flow["send_errors"].values()) for flow in flows)
            yield f"the kernel in {vm} refused {things(refused, 'packet')} ({listing(errors)})"
