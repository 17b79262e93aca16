"""Sentences that say what one sees, made from the numbers and from nothing else.

One paragraph per run and move about loss and silence; and the honest notes: everything about a run
that a reader has to know before trusting its figures.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from experiments.record import Result
from experiments.wording import count, counts, duration, listing, span

if TYPE_CHECKING:
    import pandas as pd

LATE_SENDER_MS = 1.0
"""p99 of the sender's lateness above which the report warns."""


def what_happened(result: Result) -> list[str]:
    """For each run and move: the pause, and what the flows lost, by the correspondents' NVE."""
    sentences = []
    for run_name, run in result.runs.items():
        for _, rows in run.metrics.groupby("move"):
            prefix = f"{run_name}: " if result.variants else ""
            sentences.append(prefix + _about_move(rows))
    return sentences


def _about_move(rows: "pd.DataFrame") -> str:
    first = rows.iloc[0]
    route = f"{first['vm']} moved from {first['from_nve']} to {first['to_nve']}"
    paused = f" and stood still for {duration(first['pause_ms'])}"
    concerned = rows[rows["role"] != "reference"]
    parts = [
        _about_group(str(nve), str(role), group)
        for (nve, role), group in concerned.groupby(["correspondent_nve", "role"], dropna=False)
    ]
    return f"{route}{paused}. " + " ".join(parts)


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
    """What has to be known before the figures are trusted."""
    notes = []
    for run_name, run in result.runs.items():
        prefix = f"{run_name}: " if result.variants else ""
        notes += [prefix + note for note in _notes_of_run(run)]
    return notes


def _notes_of_run(run: Result) -> Iterator[str]:
    for problem in run.manifest.get("problems", ()):
        yield f"not valid: {problem}"
    late_ms = run.packets["late_ns"] / 1e6
    if len(late_ms):
        p99 = float(late_ms.quantile(0.99))
        yield (
            f"the senders were late by {duration(float(late_ms.median()))} (median), "
            f"{duration(p99)} (p99), {duration(float(late_ms.max()))} at most"
            + ("; that is more than this machine should need" if p99 > LATE_SENDER_MS else "")
        )
    probes = run.manifest.get("probes", {})
    yield from _notes_of_senders(probes.get("senders", {}))
    overflow = sum(receiver["overflow"] for receiver in probes.get("receivers", {}).values())
    yield f"receivers dropped {count(overflow)} packets themselves"
    if "waiting_time_s" in probes:
        yield f"a packet that took longer than {probes['waiting_time_s']:g} s counts as lost"


def _notes_of_senders(senders: dict[str, Any]) -> Iterator[str]:
    for vm, sender in senders.items():
        flows = sender["flows"].values()
        skipped = sum(flow["skipped"] for flow in flows)
        if skipped:
            yield f"the sender in {vm} skipped {count(skipped)} packets while it could not run"
        slow = sum(flow["slow_sends"] for flow in flows)
        if slow:
            yield f"{count(slow)} send calls in {vm} took over 1 ms: those delays are too long"
        errors = sorted({name for flow in flows for name in flow["send_errors"]})
        if errors:
            refused = sum(sum(flow["send_errors"].values()) for flow in flows)
            yield f"the kernel in {vm} refused {count(refused)} packets ({listing(errors)})"
