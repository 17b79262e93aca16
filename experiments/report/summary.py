"""A result in one sentence and one table: what a reader sees first.

Everything else in the report is for those who want to know why.
"""

from experiments.measure import totals
from experiments.measure.results import Result
from experiments.measure.totals import RunTotals
from experiments.report.format import MISSING, count, counts, milliseconds, span, things
from experiments.report.tables import ReportTable


def _totals(result: Result) -> dict[str, RunTotals]:
    return {name: totals.of_run(run.totals, run.metrics) for name, run in result.runs.items()}


def in_a_sentence(result: Result) -> str:
    """What moves did to traffic, over all runs."""
    runs = _totals(result).values()
    moves, sent = sum(run.moves for run in runs), sum(run.sent for run in runs)
    where = f"In {things(len(runs), 'run')}, " if len(runs) > 1 else ""
    if not sent:
        return f"{where}{things(moves, 'move')} and no probe packets: nothing was measured.".strip()
    lost = [run.lost for run in runs]
    each = " a run" if len(runs) > 1 else ""
    said = f"{where}{things(moves, 'move')} cost {counts(min(lost), max(lost))} of "
    said += f"{counts(min(run.sent for run in runs), max(run.sent for run in runs))} packets{each}"
    if not moves:
        return f"{where}no VM moved; {count(sum(lost))} of {count(sent)} packets were lost."
    silence = [run.blackout_max_ms for run in runs if run.blackout_max_ms is not None]
    if silence:
        said += f"; the longest silence that a peer saw was {span(min(silence), max(silence))}"
    pauses = [run.pause_max_ms for run in runs if run.pause_max_ms is not None]
    if silence and pauses:
        said += f", while the longest pause of a guest was {span(min(pauses), max(pauses))}"
    undone = moves - sum(run.completed for run in runs)
    if undone:
        said += f"; {things(undone, 'move')} of them ended otherwise than completed"
    return f"{said}."


def table(result: Result) -> ReportTable:
    """One row per run."""
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{count(run.completed)} of {count(run.moves)}" if run.moves else MISSING,
            count(run.sent),
            count(run.lost),
            count(run.duplicated),
            count(run.reordered),
            milliseconds(run.pause_max_ms),
            milliseconds(run.blackout_max_ms),
            milliseconds(run.recovery_excess_max_ms),
        )
        for name, run in _totals(result).items()
    ]
    headings = ("run", "moves completed", "packets", "lost", "duplicated", "out of order")
    worst = ("longest pause (ms)", "longest silence (ms)", "slowest recovery (ms)")
    return ReportTable("Every run in one line", (*headings, *worst), rows, text_columns=1)
