"""A run of many moves in one line per flow: every packet counts once, whatever overlaps."""

import re
from io import StringIO
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments.measure import metrics, totals
from experiments.measure.attribution import windows
from experiments.measure.results import load
from experiments.measure.trace import TraceEvent, moves_of
from experiments.report import move_tables, narrative, plots, tables
from experiments.report.html import write_report
from experiments.report.text_table import drawn
from tests.helpers import many_moves
from tests.helpers.packets import MS, START_NS, packets

TO = "vm2>vm1/ipv4"


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return load(many_moves.write_result(tmp_path_factory.mktemp("harmless") / "many"))


@pytest.fixture(scope="module")
def harmful(tmp_path_factory):
    """Of 20 moves the 7th loses 4 packets (sent from 700 to 800 ms), the 12th 1."""
    lost = sorted({*range(710, 714), 1250})
    return load(many_moves.write_result(tmp_path_factory.mktemp("harmful") / "many", lost=lost))


def total(result, flow):
    [row] = result.totals[result.totals["flow"] == flow].to_dict("records")
    return row


def test_a_flow_in_one_line(harmless):
    row = total(harmless, many_moves.FLOWS[0])
    assert (row["sent"], row["lost"], row["duplicated"], row["reordered"]) == (2200, 0, 0, 0)
    assert (row["role"], row["moves"], row["lost_in_a_move_max"]) == ("to", 20, 0)
    assert total(harmless, many_moves.FLOWS[1])["role"] == "from"


def test_the_files_say_what_is_computed_anew(harmless):
    recorded = pd.read_csv(harmless.path / "flows.csv")
    assert list(recorded.columns) == totals.COLUMNS
    assert recorded["lost"].tolist() == harmless.totals["lost"].tolist()


def test_packets_lost_before_the_first_move_count_in_the_run_and_in_no_move():
    sent = packets([None] * 50 + [1.0] * 150)
    trace = [event(100, "move-requested", 1)]
    moves = metrics.table(sent, trace, {})
    assert moves["lost"].sum() == 0
    assert totals.table(sent, moves)["lost"].tolist() == [50]


def test_due_times_that_were_skipped_are_not_sent_and_not_lost():
    sent = packets([1.0] * 100)
    sent = sent[(sent["seq"] < 40) | (sent["seq"] >= 60)]
    [row] = totals.table(sent, metrics.table(sent, [], {})).to_dict("records")
    assert (row["sent"], row["not_sent"], row["lost"]) == (80, 20, 0)
    assert row["role"] == "reference"


def test_what_comes_after_the_waiting_time_is_lost_and_not_out_of_order():
    """RFC 4737: a packet that is lost has no place in the order of arrival."""
    sent = packets([1.0] * 50 + [500.0] + [1.0] * 600)
    [row] = totals.table(sent, metrics.table(sent, [], {}), 0.4).to_dict("records")
    assert (row["lost"], row["late"], row["reordered"]) == (1, 1, 0)


def event(at_ms, name, move, **details):
    return TraceEvent(START_NS + round(at_ms * MS), "nva", name, "vm1", {"move": move, **details})


def test_windows_of_moves_that_overlap_do_not(harmless):
    found = [window for _, window in windows(moves_of(harmless.events))]
    for window, following in pairwise(found):
        assert window.requested_ns <= window.settled_ns <= window.end_ns
        assert window.end_ns == following.requested_ns
        assert window.requested_ns <= following.before_ns <= following.requested_ns


@given(
    requests=st.lists(st.integers(0, 300), min_size=1, max_size=6, unique=True),
    refused=st.sets(st.integers(0, 5)),
    lost=st.sets(st.integers(0, 299)),
)
def test_a_packet_belongs_to_the_latest_move_that_was_not_refused(requests, refused, lost):
    times = sorted(requests)
    trace = [event(at_ms, "move-requested", n) for n, at_ms in enumerate(times)]
    trace += [event(times[n] + 1, "move-refused", n) for n in refused if n < len(times)]
    sent = packets([None if seq in lost else 1.0 for seq in range(300)])
    measured = metrics.table(sent, trace, {}).set_index("move")
    made = [n for n in range(len(times)) if n not in refused]
    owners = [max((n for n in made if times[n] <= seq), default=None) for seq in range(300)]
    for number in range(len(times)):
        assert measured["sent"].get(number, 0) == owners.count(number)
        assert measured["lost"].get(number, 0) == sum(owners[seq] == number for seq in lost)


def test_what_follows_a_refused_request_belongs_to_the_move_that_goes_on():
    trace = [
        event(100, "move-requested", 1),
        event(110, "move-requested", 2),
        TraceEvent(START_NS + 111 * MS, "hypervisor", "vm-resumed", "vm1"),
        event(112, "move-refused", 2),
        event(150, "move-completed", 1),
    ]
    first, second = moves_of(trace)
    assert (first.outcome, second.outcome) == ("completed", "refused")
    assert first.time_of("vm-resumed") == START_NS + 111 * MS
    assert len(second.events) == 2


@pytest.mark.parametrize(("delay_ms", "late_ms"), [(1.0, 0), (20.0, 0), (1.0, 5)])
def test_recovery_excess_leaves_out_delay_and_the_senders_lateness(delay_ms, late_ms):
    """The VM resumes at 112 ms; a flow of 1 packet a ms that nothing holds up has none."""
    late = [late_ms * MS if seq >= 112 else 0 for seq in range(300)]
    lost = range(112 - int(delay_ms), 112)
    sent = packets([None if seq in lost else delay_ms for seq in range(300)], late_ns=late)
    trace = [event(100, "move-requested", 1), event(112, "vm-resumed", 1)]
    [row] = metrics.table(sent, trace, {}).to_dict("records")
    assert row["recovery_ms"] == pytest.approx(delay_ms - 1 + late_ms)
    assert row["recovery_excess_ms"] == 0


@pytest.mark.parametrize(
    ("sent_before_ms", "way_ms", "tunnelled", "excess_ms"),
    [
        *((10, 0, 7, 27), (10, 8, 7, 19), (10, 18, 7, 9), (10, 40, 7, 0), (4, 8, 7, 13)),
        *((10, 18, 0, 27), (4, 18, 0, 21)),
    ],
)
def test_recovery_excess_leaves_out_what_was_left_of_the_way_at_the_resume(
    sent_before_ms, way_ms, tunnelled, excess_ms
):
    """There 27 ms after the resume and the interval.  10 ms is usual before and after; what was in
    flight had those to the old place, and the way from there."""
    trace = [
        event(100, "move-requested", 1, underlay_delay_ms=way_ms),
        event(112, "vm-resumed", 1),
        event(150, "in-flight-ended", 1, packets=tunnelled, bytes=0, lifetime_ms=9.0),
    ]
    first = 112 - sent_before_ms
    held = [max(10.0, 140.0 - seq) for seq in range(first, 200)]
    sent = packets([*[10.0] * 102, *[None] * (first - 102), *held])
    [row] = metrics.table(sent, trace, {}).to_dict("records")
    assert row["recovery_excess_ms"] == pytest.approx(excess_ms)


def test_recovery_excess_shows_a_gate_that_opens_late():
    """The first packet has waited for 400 ms, and was to be let in at the resume; that others
    are still on their way is no excuse for it."""
    trace = [
        event(100, "move-requested", 1, underlay_delay_ms=18),
        event(512, "vm-resumed", 1),
        event(550, "in-flight-ended", 1, packets=400, bytes=0, lifetime_ms=9.0),
    ]
    held = [max(10.0, 521.0 - seq) for seq in range(112, 800)]
    [row] = metrics.table(packets([10.0] * 112 + held), trace, {}).to_dict("records")
    assert row["recovery_excess_ms"] == pytest.approx(521 - 512 - 1)


def test_recovery_excess_is_what_the_network_held_up():
    sent = packets([None if 80 <= seq < 130 else 10.0 for seq in range(300)])
    trace = [event(100, "move-requested", 1), event(112, "vm-resumed", 1)]
    [row] = metrics.table(sent, trace, {}).to_dict("records")
    assert row["recovery_ms"] == pytest.approx(140 - 112 - 1)
    assert row["recovery_excess_ms"] == pytest.approx(140 - 112 - 1 - 10)


def test_the_headline_says_that_nothing_was_harmed(harmless):
    [headline] = narrative.headlines(harmless)
    assert headline.startswith(
        "20 moves, 4,400 packets in 2 flows: 0 lost, 0 duplicated, 0 out of order. Recovery after"
    )
    assert narrative.what_happened(harmless) == []


def test_the_headline_says_after_how_many_moves_tables_were_compared(harmless, monkeypatch):
    assert "rules were compared" not in narrative.headlines(harmless)[0]
    compared = {"moves": 18, "of": 20}
    monkeypatch.setitem(harmless.manifest, "tables_compared", compared)
    [headline] = narrative.headlines(harmless)
    assert headline.endswith(
        " After 18 of 20 completed moves, every NVE's rules were compared with the expected ones."
    )


COUNTED = {
    "all": ([0, 0, 0], 3, 0, "0 (counted in 3 of 3 moves)"),
    "some": ([None, 2, 0], 2, 2, "2 (counted in 2 of 3 moves)"),
    "none": ([None, None, None], 0, None, "– (counted in 0 of 3 moves)"),
}


@pytest.mark.shows("R3.4")
@pytest.mark.parametrize(("counts", "moves", "total", "said"), COUNTED.values(), ids=COUNTED)
def test_what_was_never_counted_is_not_zero(counts, moves, total, said):
    """The NVE, or the NVA, did not answer, or the VM's next move began before convergence."""
    trace = [event(100 * n, "move-requested", n) for n in (1, 2, 3)]
    trace += [
        event(100 * n + 50, "move-completed", n, packets_via_source_after_convergence=packets)
        for n, packets in enumerate(counts, start=1)
        if packets is not None
    ]
    sent = packets([1.0] * 400)
    measured = metrics.table(sent, trace, {})
    run = totals.of_run(totals.table(sent, measured), measured)
    assert (run.via_source_counted, run.packets_via_source_after_convergence) == (moves, total)
    assert narrative._about_run(run).endswith(f"via source NVEs after convergence: {said}.")


def test_the_headline_says_what_was_lost(harmful):
    [headline] = narrative.headlines(harmful)
    assert "in 2 flows: 5 lost, 0 duplicated, 0 out of order." in headline
    told = narrative.what_happened(harmful)
    assert [re.findall(r"\(move \d+\)", sentence) for sentence in told] == [
        ["(move 7)"],
        ["(move 12)"],
    ]


def test_the_headline_tells_late_from_never():
    sent = packets([1.0] * 50 + [3000.0, None] + [1.0] * 50)
    trace = [event(40, "move-requested", 1), event(42, "move-completed", 1)]
    moves = metrics.table(sent, trace, {})
    run = totals.of_run(totals.table(sent, moves), moves)
    assert "2 lost" in narrative._about_run(run)
    assert "Of these, 1 came after the waiting time" in narrative._about_run(run)


def test_the_worst_moves_come_first(harmful):
    assert totals.worst(harmful.metrics, 2) == [7, 12]


def test_many_moves_have_three_tables(harmful):
    of_totals, of_worst, of_moves = tables.tables(harmful)
    assert [row[0] for row in of_totals.rows] == sorted(many_moves.FLOWS)
    assert of_worst.rows[0][0].startswith("7: vm1 nve1→nve2")
    assert of_worst.rows[0][of_worst.headings.index("lost")] == "4"
    pause = next(row for row in of_moves.rows if "asked" in row[1])
    assert pause[2:] == ("20", "0.00", "0.00", "0.00")
    for table in (of_totals, of_worst, of_moves):
        assert {len(row) for row in table.rows} == {len(table.headings)}


def test_the_tables_fit_an_80_column_screen(harmful):
    screen = StringIO()
    Console(width=80, file=screen).print(drawn(tables.tables(harmful)))
    assert "…" not in screen.getvalue()


def test_the_report_can_show_many_moves(harmful, monkeypatch):
    monkeypatch.setattr(plots, "as_svg", lambda *_: b"<svg/>")  # laying it out takes long
    (harmful.path / "plots").mkdir()
    for name, plot in plots.suiting(harmful).items():
        assert plot.caption(harmful)
        plots.file_of(harmful.path, name).write_text("<svg/>")
    page = write_report(harmful.path).read_text()
    assert "5 lost" in page
    assert "move 7: vm1 nve1→nve2" in page
    assert page.count("<details") == move_tables.WORST_MOVES + 7, (
        "the worst moves, and what is folded"
    )
