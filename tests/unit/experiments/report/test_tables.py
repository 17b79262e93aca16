"""Tables and sentences say what the numbers say."""

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from experiments.measure import metrics
from experiments.measure.recording import Recorder
from experiments.measure.results import load
from experiments.measure.trace import TraceEvent
from experiments.report import format as formats
from experiments.report import move_tables, narrative, tables
from experiments.report.text_table import drawn
from tests.helpers import synthetic
from tests.helpers.data import RECORDED


@pytest.fixture(scope="module")
def result():
    return load(RECORDED)


def test_the_runs_of_a_flow_are_neighbours(result):
    first, second = move_tables.of_flows(result)
    assert first.title.startswith("Move 1: vm1 nve1→nve2")
    assert [row[:3] for row in first.rows[:2]] == [
        ("nve1", "vm2>vm1/ipv4", "drop"),
        ("nve1", "vm2>vm1/ipv4", "tunnel"),
    ]
    assert len(first.rows) == len(second.rows) == 12


def test_every_row_fits_its_headings(result):
    for table in (*move_tables.of_flows(result), move_tables.of_moves(result)):
        assert {len(row) for row in table.rows} == {len(table.headings)}


@pytest.mark.parametrize(("probed", "moved"), [(False, True), (True, False), (False, False)])
def test_runs_without_probes_or_without_moves(tmp_path, probed, moved):
    with Recorder.create(tmp_path / "r") as recorder:
        synthetic.record(recorder.run(), "drop", 10, probed=probed, moved=moved)
    result = load(tmp_path / "r")
    titles = [table.title.split(" (")[0] for table in tables.tables(result)]
    told = " ".join([*narrative.headlines(result), *narrative.what_happened(result)])

    assert result.moves["outcome"].tolist() == ["completed"] * 2 * moved * (6 if probed else 1)
    if moved:
        assert titles == ["What each move took"]
        assert "2 moves, 2 completed; there were no probes" in told
        assert "vm1 moved from nve1 to nve2 and was paused for 50.0 ms." in told
        assert result.moves[["flow", "role"]].isna().all(axis=None)
        assert result.moves["lost"].tolist() == [0, 0]
    elif probed:
        assert titles == ["What became of all packets"]
        assert told == "0 moves, 660 packets in 6 flows: 112 lost, 0 duplicated, 0 out of order."
    else:
        assert (titles, told) == ([], "")


def test_a_move_that_no_flow_feels_has_a_row(result):
    run = result.runs["drop"]
    other = [
        replace(event, subject="vm9", details={**event.details, "move": 9})
        for event in run.events
        if event.details.get("move") == 1
    ]
    flows = metrics.table(run.packets, [*run.events, *other], run.homes)
    assert flows[flows["move"] == 9]["vm"].tolist() == ["vm9"]
    assert flows["lost"].dtype.kind == "i"


def test_runs_that_differ_in_who_forwards_say_so(result):
    assert tables.of_unlike_runs(result) == []

    def run(overlay: str, datapath: str) -> SimpleNamespace:
        manifest = {"datapath": datapath, "link_emulator": "netem"}
        return SimpleNamespace(scenario={"overlay": {"kind": overlay}}, manifest=manifest)

    alike: Any = SimpleNamespace(runs={"a": run("nvo3", "netdev"), "b": run("nvo3", "netdev")})
    assert tables.of_unlike_runs(alike) == []
    unlike: Any = SimpleNamespace(
        runs={"a": run("nvo3", "netdev"), "b": run("flood-and-learn", "linux-bridge")}
    )
    (table,) = tables.of_unlike_runs(unlike)

    assert table.rows == [
        ("a", "nvo3", "netdev", "netem"),
        ("b", "flood-and-learn", "linux-bridge", "netem"),
    ]


def test_failures_are_listed_with_the_end_of_their_move(result):
    assert tables.of_failures(result) == []

    dead = {"failure": 1, "kind": "nve-dies", "move": 1, "during": "paused"}
    late = {"failure": 2, "kind": "nva-dies"}
    events = [
        TraceEvent(1_000_000_000, "runner", "move-requested", "vm1", {"move": 1}),
        TraceEvent(2_000_000_000, "runner", "failure-injected", "nve2", dead),
        TraceEvent(2_100_000_000, "runner", "move-undone", "vm1", {"move": 1}),
        TraceEvent(4_500_000_000, "runner", "failure-ended", "nve2", dead),
        TraceEvent(5_000_000_000, "runner", "failure-injected", "nva", late),
    ]
    broken: Any = SimpleNamespace(runs={"a run": SimpleNamespace(events=events)})
    (table,) = tables.of_failures(broken)

    assert table.rows == [
        ("nve-dies", "nve2", "paused", "a run", "2.5", "rolled back"),
        ("nva-dies", "nva", formats.MISSING, "a run", "to the end", formats.MISSING),
    ]


def test_what_is_dropped_is_not_tunnelled(result):
    table = move_tables.of_moves(result)
    place = table.headings.index("tun-\nnelled")
    cells = {row[1]: row[place : place + 2] for row in table.rows[:2]}
    assert cells == {"drop": ("0", "277"), "tunnel": ("277", "0")}


def test_the_terminal_shows_the_tables(result):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(drawn(tables.tables(result)))
    assert "vm4>vm1/ipv6" in console.export_text()


def test_sentences_name_the_correspondents_place_and_the_loss(result):
    sentences = narrative.what_happened(result)
    assert len(sentences) == 4
    assert sentences[0].startswith("drop: vm1 moved from nve1 to nve2 and was paused for 50.0 ms.")
    assert "behind nve3 lost 96 packets each; the longest silence was 1.92 s" in sentences[0]


def test_notes_tell_of_problems_lateness_and_overflow(result):
    notes = "\n".join(narrative.honest_notes(result))
    for expected in ("not valid: the packets are made up", "(p99)", "dropped 0 packets", "2 s"):
        assert expected in notes


def test_notes_tell_of_what_the_senders_could_not_do():
    flow = {"sent": 1, "skipped": 5, "slow_sends": 2, "send_errors": {"ENETUNREACH": 3}}
    notes = list(narrative._notes_of_senders({"vm2": {"flows": {"f": flow}}}))
    assert notes == [
        "the sender in vm2 skipped 5 packets while it could not run",
        "2 send calls in vm2 took over 1 ms: those delays are too long",
        "the kernel in vm2 refused 3 packets (ENETUNREACH)",
    ]


def test_notes_tell_of_waits_that_were_given_up():
    def event(name: str, **details: object) -> TraceEvent:
        return TraceEvent(1, "nva", name, "vm1", details)

    events = [
        event("not-run-dry", nve="nve1"),
        event("paths-changed", nves=["nve3"], without_marker=[]),
        event("paths-changed", nves=["nve3"], without_marker=["nve3"]),
        event("vm-paused"),
    ]
    notes = list(narrative._notes_of_patience(events))
    assert [note[note.index("(") :] for note in notes] == [
        "(1 time, `not-run-dry` in events.csv)",
        "(1 time, `paths-changed` in events.csv)",
    ]


@pytest.mark.parametrize(("in_the_move", "outside"), [(3, 4), (7, 0)])
def test_notes_tell_of_what_changed_order_without_a_move(in_the_move, outside):
    run: Any = SimpleNamespace(
        totals=pd.DataFrame({"flow": ["f", "other"], "reordered": [5, 2]}),
        metrics=pd.DataFrame(
            {"role": ["to", "reference"], "flow": ["f", "other"], "reordered": [in_the_move, 2]}
        ),
    )
    notes = [note.partition(" came")[0] for note in narrative._notes_of_order(run)]
    assert notes == ([f"{outside} packets"] if outside else [])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0.00"), (0.06, "0.06"), (50, "50.0"), (1920, "1,920")],
)
def test_milliseconds(value, text):
    assert formats.milliseconds(value) == text


def test_durations_and_ranges():
    assert formats.duration(1870) == "1.87 s"
    assert formats.duration(None) == "an unknown time"
    assert formats.span(50.01, 50.02) == "50.0 ms"
    assert formats.span(50, 1870) == "50.0 ms to 1.87 s"
    assert formats.counts(3, 3) == "3"
    assert formats.listing(["a", "b", "c"]) == "a, b and c"


def test_who_was_told_of_an_mtu_is_said_once_with_how_often() -> None:
    common = {"nve": "nve3", "port": 13, "to": "vm1", "octets": 1464}
    events = [
        TraceEvent(1, "nva", "packet-too-big", "vm4", {**common, "mtu": 1350, "answered": True}),
        TraceEvent(2, "nva", "packet-too-big", "vm4", {**common, "mtu": 1350, "answered": True}),
        TraceEvent(3, "nva", "packet-too-big", "vm4", {**common, "mtu": None, "answered": False}),
        TraceEvent(4, "nva", "nve-connected", "nve1", {}),
    ]
    assert list(narrative._about_mtus(events)) == [
        "nve3 told vm4 2 times that a packet to vm1 exceeds the 1,350 octets of the tunnel.",
        "nve3 could not answer 1 packet that exceeded a tunnel's MTU.",
    ]
