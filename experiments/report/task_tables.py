"""Tables of moves of tasks: what their clients noticed, and what became of their connections."""

from experiments.measure import visits
from experiments.measure.results import Result
from experiments.report.format import count, megabytes, milliseconds
from experiments.report.text_table import ReportTable


def of_visits(result: Result) -> ReportTable:
    """What clients of a task noticed of its move, one row per run."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        found = visits.visit(run.events, run.rows("fetch"), run.rows("ask"))
        if found is None:
            continue
        did = found.asked_of_the_client(visits.protocol_of(run.scenario))
        numbers = (found.silence_ms, found.wait_ms)
        rows.append(
            (
                *(run_name or result.name, did, *map(milliseconds, numbers)),
                *(megabytes(found.again), milliseconds(found.full_rate_ms)),
                *(count(found.connects), count(found.lookups)),
            )
        )
    headings = (
        *("run", "the client had to", "silence\nms", "answer\nms", "twice\nMB"),
        *("full rate\nafter ms", "recon-\nnects", "look-ups"),
    )
    title = (
        "What clients of the task noticed of its move "
        "(the longest silence of a download, the longest wait for an answer)"
    )
    return ReportTable(title, headings, rows, text_columns=2)


def of_connections(result: Result) -> ReportTable:
    """What became of a task's connections, one row per run and move of a task."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        if (table := run.connections) is None:
            continue
        for number, mine in table.groupby("move", sort=True):
            first = mine.iloc[0]
            move = f"{number}: {first['task']} {first['from_vm']}→{first['to_vm']}"
            kept = int((mine["fate"] == "migrated").sum())
            numbers = (first["freeze_ms"], mine["gap_ms"].max(), mine["ramp_up_ms"].max())
            rows.append(
                (
                    *(move, run_name or result.name, f"{kept} of {len(mine)}"),
                    *map(milliseconds, numbers),
                    count(mine["resets"].max()),
                )
            )
    headings = (
        *("move of a task", "run", "connections moved", "stood still\nms", "longest gap\nms"),
        *("full rate\nafter ms", "resets"),
    )
    return ReportTable("What became of a task's connections", headings, rows, text_columns=2)
