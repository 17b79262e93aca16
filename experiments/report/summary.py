"""A result in a few short sentences and one table: what a reader sees first.

The rest of the report has the explanations.
"""

from dataclasses import replace

from experiments.measure import totals, visits
from experiments.measure.results import Result
from experiments.measure.task_moves import task_moves_of
from experiments.measure.totals import RunTotals
from experiments.report.format import MISSING, count, counts, milliseconds, span, things
from experiments.report.task_tables import of_connections, of_visits
from experiments.report.text_table import ReportTable


def _totals(result: Result) -> dict[str, RunTotals]:
    return {name: totals.of_run(run.totals, run.metrics) for name, run in result.runs.items()}


def _take_overs(run: Result) -> int:
    """Return how many of its moves were a standby's take-over; old results do not know any."""
    if "mode" not in run.metrics:
        return 0
    return int(run.metrics.drop_duplicates("move")["mode"].eq("take-over").sum())


def _lost_state(result: Result) -> str:
    """Return how many answered requests the standbys of a result do not know of; may be empty."""
    taken_over = [run.takeovers for run in result.runs.values() if run.takeovers is not None]
    lost = [int(each) for table in taken_over for each in table["lost_requests"].dropna()]
    if not lost:
        return ""
    unit = "answered request" if max(lost) == 1 else "answered requests"
    which = "The take-over" if len(lost) == 1 else "A take-over"
    return f"{which} lost {counts(min(lost), max(lost))} {unit}."


def _task_moves(result: Result, *, completed: bool = True) -> int:
    """Return how many moves of tasks there were, or how many of them were not completed."""
    moves = [move for run in result.runs.values() for move in task_moves_of(run.events)]
    return sum(completed or move.outcome != "completed" for move in moves)


def _of_tasks(moves: int) -> str:
    return (
        f"{things(moves, 'move')} of a task." if moves == 1 else f"{count(moves)} moves of tasks."
    )


def _about_tasks(result: Result) -> str:
    """Return what clients of tasks noticed, and what became of their connections; may be empty."""
    found = [
        visit
        for run in result.runs.values()
        if (visit := visits.visit(run.events, run.rows("fetch"), run.rows("ask"))) is not None
    ]
    said = []
    silence = [visit.silence_ms for visit in found if visit.silence_ms is not None]
    waits = [visit.wait_ms for visit in found if visit.wait_ms is not None]
    if silence:
        said.append(f"A download was silent for {span(min(silence), max(silence))}.")
    if waits:
        said.append(f"The longest wait for an answer was {span(min(waits), max(waits))}.")
    tables_of_runs = (run.connections for run in result.runs.values())
    connections = [table for table in tables_of_runs if table is not None]
    if connections and not found:
        kept = [table[table["fate"] == "migrated"] for table in connections]
        moved = sum(map(len, kept))
        freezes = [float(ms) for table in kept for ms in table["freeze_ms"].dropna()]
        said.append(f"{count(moved)} of {things(sum(map(len, connections)), 'connection')} moved.")
        if freezes:
            said.append(f"A task stood still for {span(min(freezes), max(freezes))}.")
    return " ".join(said)


def in_words(result: Result) -> str:
    """Return how many moves there were, what was lost, and the longest silence, over all runs."""
    runs = _totals(result).values()
    moves, sent = sum(run.moves for run in runs), [run.sent for run in runs]
    several = len(runs) > 1
    take_overs = sum(_take_overs(run) for run in result.runs.values())
    planned = moves - take_overs
    made = f"{things(planned, 'move')}." if planned else "No VM moved." if not take_overs else ""
    if take_overs:
        made += f" {things(take_overs, 'take-over')} by standbys."
    if tasks := _task_moves(result):
        made = f"{made} {things(tasks, 'move')} of tasks." if moves else _of_tasks(tasks)
    said = [f"{things(len(runs), 'run')}." if several else "", made.strip()]
    if not sum(sent):
        told = _about_tasks(result) or "There were no probes, so traffic was not measured."
        if undone := _task_moves(result, completed=False):
            told += f" {things(undone, 'move')} did not complete."
        return " ".join([*filter(None, said), told])
    lost = [run.lost for run in runs]
    per_run = " per run" if several else ""
    said.append(
        f"Of {counts(min(sent), max(sent))} packets{per_run}, {counts(min(lost), max(lost))} "
        f"{'was' if max(lost) == 1 else 'were'} lost."
    )
    silence = [run.blackout_max_ms for run in runs if run.blackout_max_ms is not None]
    if moves and silence:
        said.append(f"The longest silence{per_run} was {span(min(silence), max(silence))}.")
    pauses = [run.pause_max_ms for run in runs if run.pause_max_ms is not None]
    if moves and pauses:
        said.append(f"The longest pause of a VM was {span(min(pauses), max(pauses))}.")
    if lost_state := _lost_state(result):
        said.append(lost_state)
    undone = moves - sum(run.completed for run in runs)
    if undone:
        said.append(f"{things(undone, 'move')} did not complete.")
    return " ".join(filter(None, said))


def _without_empty_columns(told: ReportTable) -> ReportTable:
    """Leave out what was measured in no run."""
    kept = [
        place
        for place in range(len(told.headings))
        if any(row[place] != MISSING for row in told.rows)
    ]
    rows = [tuple(row[place] for place in kept) for row in told.rows]
    return replace(told, headings=tuple(told.headings[place] for place in kept), rows=rows)


def table(result: Result) -> ReportTable:
    """Return a table with one row per run; without probes, of what clients of tasks noticed, or of
    the tasks' connections.
    """
    if not any(run.sent for run in _totals(result).values()):
        of_tasks = (of_visits(result), of_connections(result))
        if found := next((told for told in of_tasks if told.rows), None):
            return _without_empty_columns(found)
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
    taken = any(_take_overs(run) for run in result.runs.values())
    made = "moves and take-overs completed" if taken else "moves completed"
    headings = ("run", made, "packets", "lost", "duplicated", "out of order")
    worst = ("longest pause (ms)", "longest silence (ms)", "slowest recovery (ms)")
    return ReportTable("Every run in one line", (*headings, *worst), rows, text_columns=1)
