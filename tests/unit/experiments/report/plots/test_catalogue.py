"""Every figure can be drawn from every kind of result, without a fault, and says what one sees."""

import re
import shutil
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from experiments.measure.results import ResultError, load
from experiments.report import plots
from experiments.report.plots import _moves, _runs, _style, _sweep, _throughput, closeup, knob
from experiments.report.plots._runs import groups_of, runs_of, title_of
from experiments.report.plots._style import PRESETS
from experiments.sweep import Sweep, cells
from tests.helpers import kinds_of_results, many_moves
from tests.helpers.data import DATA
from tests.helpers.figure_faults import of_drawing, text_of
from tests.helpers.packets import packets

OLD_SCHEMAS = sorted(DATA.glob("result-v*"))
COLUMN = PRESETS["column"]


def drawing_faults(subject, presets, names=(), of: str = "result") -> dict[tuple[str, str], list]:
    """By figure and preset, whatever is wrong."""
    return {
        (name, preset): found
        for name, plot in plots.suiting(subject, of).items()
        for preset in presets
        if (not names or name in names)
        and (found := of_drawing(partial(plot.draw, subject), PRESETS[preset]))
    }


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("column", []),
        ("page", ["sequence", "tcp"]),
        ("slide", ["timeline", "cut_off"]),
        ("screen", ["closeup", "delay_distribution"]),
    ],
)
@pytest.mark.parametrize("path", OLD_SCHEMAS, ids=lambda path: path.name)
def test_a_result_of_each_schema_is_drawn_for_every_medium(path, preset, names):
    """All figures for a column, which is the narrowest; two for each other medium."""
    result = load(path)
    without = {
        "pre_copy",
        "rounds",
        "state_size",
        "shared_path",
        "standbys",
        "standby_costs",
        "task_pauses",
        "task_sequence",
        "client_costs",
        "visits",
        "name_ttl",
    }
    assert list(plots.suiting(result)) == [each for each in plots.names() if each not in without]
    assert drawing_faults(result, [preset], names) == {}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("without_moves", ["data_centre", "timeline"]),
        ("without_packets", ["sequence"]),
        ("of_one_packet", ["timeline", "closeup", "delay_distribution"]),
        ("all_lost", ["closeup", "delay_distribution"]),
        ("of_many_moves", ["data_centre", "timeline"]),
        ("of_many_flows", ["data_centre", "timeline", "cut_off"]),
        ("not_completed", ["closeup", "sequence"]),
        ("only_refused", ["sequence", "cut_off"]),
        ("without_an_nva", ["sequence"]),
        ("with_state", ["pre_copy", "rounds", "state_size", "shared_path"]),
        ("with_standbys", ["standbys", "standby_costs"]),
        ("with_task_moves", ["task_sequence", "task_pauses"]),
        ("with_visits", ["visits", "client_costs"]),
        ("with_names", ["name_ttl"]),
        ("repeated", ["timeline", "cut_off", "delay_distribution"]),
        ("of_many_runs", ["timeline", "cut_off"]),
    ],
)
def test_every_kind_of_result_is_drawn(kind, names, tmp_path):
    kinds_of_results.RESULTS[kind](tmp_path / kind)
    result = load(tmp_path / kind)
    suiting = plots.suiting(result)
    assert set(names) <= set(suiting)
    assert drawing_faults(result, ["column"], names) == {}
    for name, plot in suiting.items():
        assert plot.caption(result).endswith("."), name
        assert plot.data(result).columns.size, name


@pytest.mark.thorough
@pytest.mark.parametrize("preset", ["page", "slide", "screen"])
def test_pooled_repeats_are_drawn_for_every_medium(preset, tmp_path):
    kinds_of_results.repeated(tmp_path / "r")
    names = ["timeline", "cut_off", "delay_distribution"]
    assert drawing_faults(load(tmp_path / "r"), [preset], names) == {}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", kinds_of_results.SWEEPS)
def test_every_kind_of_sweep_is_drawn(kind, tmp_path):
    kinds_of_results.SWEEPS[kind](tmp_path / kind)
    sweep = _sweep.SweepTables.read(tmp_path / kind)
    assert drawing_faults(sweep, ["column"], of="sweep") == {}
    for plot in plots.suiting(sweep, "sweep").values():
        assert plot.caption(sweep).endswith(".")
        plot.data(sweep)


def axes_of_sweep(out: Path, varied: dict, preset: str = "column") -> list[Axes]:
    """The panels of the figure of a sweep, each cell of which is the same result."""
    sweep = Sweep.begin(out, cells(varied), {"vary": varied})
    for cell in sweep.cells:
        many_moves.write_result(sweep.place_of(cell), moves=2, lost=[210])
    sweep.aggregate()
    with _style.applied(PRESETS[preset]):
        return knob.draw(_sweep.SweepTables.read(out), PRESETS[preset]).axes


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("values", "scale", "places"),
    [
        ([200, 0, 50], "linear", [0, 50, 200]),
        ([1, 10, 1000], "log", [1, 10, 1000]),
        ([1, 10, 100], "linear", [1, 10, 100]),
        (["push", "pull"], "linear", [0, 1]),
        ([True, False], "linear", [0, 1]),
    ],
)
def test_numbers_have_a_numeric_axis(values, scale, places, tmp_path):
    axes = axes_of_sweep(tmp_path / "s", {"moves.0.pause_ms": values})[0]
    assert axes.get_xscale() == scale
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == places
    assert axes.get_xlabel() == "pause asked for (ms)"


@pytest.mark.thorough
def test_a_map_has_its_values_in_order_and_named(tmp_path):
    values = [30, 4, 200, 1, 10, 2]
    varied = {"moves.0.pause_ms": [5, 100, 20, 0, 1, 2, 3], "topology.link.delay_ms": values}
    axes = axes_of_sweep(tmp_path / "s", varied, "screen")[0]
    written = [label.get_text() for label in axes.get_yticklabels()]
    assert written == ["1", "2", "4", "10", "30", "200"]
    assert axes.get_ylabel() == "one-way delay of each link (ms)"
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["0", "1"]


def test_a_sweep_of_which_nothing_is_there_is_a_sentence(tmp_path):
    kinds_of_results.empty_sweep(tmp_path / "s")
    (tmp_path / "s" / "summary.csv").unlink()
    with pytest.raises(ResultError, match="no combination is finished"):
        plots.draw_all(tmp_path / "s")


def test_an_unknown_figure_is_a_sentence():
    with pytest.raises(ResultError, match=r"no figure 'x'; there are data_centre, .*, knob"):
        plots.chosen(["timeline", "x"])


def test_a_figure_that_a_result_has_nothing_for_is_told(tmp_path):
    kinds_of_results.without_moves(tmp_path / "r")
    (said,) = plots.missing(tmp_path / "r", ["timeline", "closeup"])
    assert "nothing to draw closeup from" in said


@pytest.mark.thorough
@pytest.mark.shows("T5")
def test_files_are_named_after_figure_and_medium(tmp_path):
    result = Path(shutil.copytree(OLD_SCHEMAS[-1], tmp_path / "r"))
    drawn = plots.draw_all(
        result, preset="column", formats=["svg", "png", "pdf"], only=["cut_off"], data=True
    )
    files = {file.name: file.read_bytes() for file in drawn}
    assert list(files) == [
        *(f"cut_off-column.{each}" for each in ("svg", "png", "pdf")),
        "cut_off.csv",
    ]
    assert "longest silence" in "".join(
        ElementTree.fromstring(files["cut_off-column.svg"]).itertext()
    )
    assert files["cut_off-column.png"].startswith(b"\x89PNG")
    assert b"/FontFile2" in files["cut_off-column.pdf"]  # TrueType, embedded
    assert b"/Type3" not in files["cut_off-column.pdf"]
    assert files["cut_off.csv"].startswith(b"move,vm,outcome")


@pytest.mark.thorough
def test_the_same_figure_is_the_same_file():
    result, plot = load(OLD_SCHEMAS[-1]), plots.get("tcp")
    assert plots.as_svg(result, plot, "screen") == plots.as_svg(result, plot, "screen")


def test_the_catalogue_is_the_folder():
    folder = Path(plots.__file__).parent
    files = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert {*plots.names(), *plots.names("sweep")} == files
    assert all(plots.get(name).QUESTION.endswith("?") for name in files)
    assert set(plots.PRESET_NAMES) == set(PRESETS)


def test_captions_answer_with_numbers():
    result = load(OLD_SCHEMAS[-1])
    for name, plot in plots.suiting(result).items():
        assert "drop" in plot.caption(result), name
    assert "lost, most of them" in plots.get("timeline").caption(result)


def test_repeats_are_pooled_and_single_ones_named_by_their_seed(tmp_path):
    kinds_of_results.repeated(tmp_path / "r")
    result = load(tmp_path / "r")
    (group,) = groups_of(result)
    assert group.title == "repeated: 8 runs pooled"
    assert title_of(result, runs_of(result)["7"]) == "run 7 (seed 7)"
    assert "8 runs of" in plots.get("timeline").caption(result)


def test_the_last_part_of_an_interval_is_no_spike(tmp_path):
    result = load(OLD_SCHEMAS[-1]).runs["drop"]
    told = result.throughput
    assert told is not None
    spike = told.tail(1).assign(t_ns=told["t_ns"].max() + 3_000_000, bits_per_second=9e9)
    result.throughput = pd.concat([told, spike], ignore_index=True)
    table = _throughput.of_run(runs_of(result)[result.name])
    assert table is not None
    assert table["mbit_per_s"].max() < 100
    assert len(table) == len(told)


def test_a_short_interval_between_others_is_no_spike(tmp_path):
    """What came while iperf3 waited for a processor is counted in the few milliseconds after."""
    result = load(OLD_SCHEMAS[-1]).runs["drop"]
    told = result.throughput
    assert told is not None
    before = _throughput.of_run(runs_of(result)[result.name])
    middle = told["t_ns"].iloc[len(told) // 2]
    spike = told.head(1).assign(t_ns=middle + 1_000_000, bits_per_second=9e8, retransmits=2)
    result.throughput = pd.concat([told, spike], ignore_index=True)
    after = _throughput.of_run(runs_of(result)[result.name])
    assert before is not None
    assert after is not None
    assert after["mbit_per_s"].max() < before["mbit_per_s"].max() + 20
    assert after["retransmits"].sum() == before["retransmits"].sum() + 2


def test_the_data_of_a_time_line_are_every_packet(monkeypatch):
    monkeypatch.setattr(_runs, "MOST_POINTS", 100)  # of which the figure draws a part
    result = load(OLD_SCHEMAS[-1])
    table = plots.get("timeline").data(result)
    assert len(table) == sum(len(run.packets) for run in result.runs.values())
    lost = sum(int(mask.sum()) for run in runs_of(result).values() for mask in run.lost.values())
    assert table["delay_ms"].isna().sum() == lost > 0


@pytest.mark.thorough
def test_what_is_always_zero_in_a_sweep_is_a_sentence(tmp_path):
    kinds_of_results.sweep_as_a_map(tmp_path / "s")
    sweep = _sweep.SweepTables.read(tmp_path / "s")
    assert re.search(
        r"In every combination, .*packets lost per move and flow.* 0\.", knob.caption(sweep)
    )
    with _style.applied(COLUMN):
        titles = [axes.get_title(loc="left") for axes in knob.draw(sweep, COLUMN).axes]
    assert "convergence (ms)" in titles
    assert "packets lost per move and flow" not in titles


@pytest.mark.thorough
def test_tcp_without_a_retransmission_is_drawn():
    result = load(OLD_SCHEMAS[-1])
    for run in result.runs.values():
        assert run.throughput is not None
        run.throughput = run.throughput.assign(retransmits=0)
    assert drawing_faults(result, ["column"], ["tcp"]) == {}


@pytest.mark.thorough
def test_moves_of_which_none_was_forced_are_drawn(tmp_path):
    kinds_of_results.with_state(tmp_path / "r")
    result = load(tmp_path / "r")
    result.metrics["transfer_end"] = "converged"
    assert drawing_faults(result, ["column"], ["pre_copy"]) == {}


def test_moves_of_vms_of_several_sizes_say_nothing_about_the_rate_of_writing(tmp_path):
    kinds_of_results.with_state(tmp_path / "r")
    result = load(tmp_path / "r")
    assert "pre_copy" in plots.suiting(result)
    result.scenario["tenants"][0]["vms"]["vm1"]["guest"]["memory_mb"] = 8
    assert "pre_copy" not in plots.suiting(result)


@pytest.mark.thorough
def test_a_close_up_of_a_move_that_was_long_prepared_is_about_its_pause(tmp_path):
    at, requested = kinds_of_results.at, kinds_of_results.requested
    events = [
        requested(10),
        at(5000, "vm-paused"),
        at(5020, "vm-resumed"),
        at(5030, "paths-changed"),
    ]
    kinds_of_results.single(tmp_path / "r", packets([1.0] * 6000), events)
    (run,) = runs_of(load(tmp_path / "r")).values()
    begin_s, end_s = closeup._window(run, run.moves[0])
    paused_s = run.seconds(run.moves[0].time_of("vm-paused") or 0)
    assert paused_s - 1 < begin_s < paused_s < end_s < paused_s + 1
    drawn = text_of(closeup.draw(load(tmp_path / "r"), COLUMN))
    assert "earlier than is drawn:" in drawn


@pytest.mark.thorough
def test_a_phase_in_which_nothing_was_sent_says_so(tmp_path):
    at, requested = kinds_of_results.at, kinds_of_results.requested
    events = [requested(10), at(20, "vm-paused"), at(30, "vm-resumed"), at(900, "move-converged")]
    kinds_of_results.single(tmp_path / "r", packets([1.0] * 60), events)
    with _style.applied(COLUMN):
        figure = plots.get("delay_distribution").draw(load(tmp_path / "r"), COLUMN)
    empty = [bool(axes.texts) for axes in figure.axes]
    assert empty == [False, False, True] * 2


@pytest.mark.thorough
def test_a_pause_that_is_shorter_than_all_silences_is_on_the_axis():
    result = load(OLD_SCHEMAS[-1])
    for run in result.runs.values():
        run.metrics["pause_ms"] = 2.0
    with _style.applied(COLUMN):
        axes = plots.get("cut_off").draw(result, COLUMN).axes[0]
    assert axes.get_xscale() == "log"
    assert 0 < axes.get_xlim()[0] < 2.0


@pytest.mark.thorough
def test_runs_beside_each_other_have_one_scale_for_tcp():
    result = load(OLD_SCHEMAS[-1])
    slower = result.runs["tunnel"]
    assert slower.throughput is not None
    slower.throughput = slower.throughput.assign(bits_per_second=1e5)
    with _style.applied(PRESETS["slide"]):
        drawn = plots.get("timeline").draw(result, PRESETS["slide"])
    limits = {axes.get_ylim() for axes in drawn.axes[-2:]}
    assert len(limits) == 1
    assert limits.pop()[1] > 1


def test_a_legend_names_the_phases_that_there_are():
    run = runs_of(load(OLD_SCHEMAS[-1]))["drop"]
    named = [each.get_label() for each in _moves.phase_handles(run.moves)]
    assert named == ["being prepared", "VM paused", "until converged"]
    assert _moves.phase_handles([]) == []


def test_a_legend_says_what_the_line_of_a_refused_move_is(tmp_path):
    kinds_of_results.only_refused(tmp_path / "r")
    (run,) = runs_of(load(tmp_path / "r")).values()
    assert [each.get_label() for each in _moves.phase_handles(run.moves)] == ["move refused"]


def test_numbers_that_would_cover_each_other_are_the_first_and_the_last():
    asked = [(2.0, 3), (2.0, 1), (2.01, 2), (4.0, 4), (9.0, 5)]
    assert _moves.bunched(asked, 0.3) == [(2.0, "1–3"), (4.0, "4"), (9.0, "5")]
    assert _moves.bunched(asked, 0.6) == [(2.0, "1–4"), (9.0, "5")]


def test_numbers_are_moved_apart_as_little_as_is_needed():
    assert _moves.numbers_apart([0.1, 0.5], 0.05) == [0.1, 0.5]
    assert _moves.numbers_apart([0.5, 0.51], 0.05) == pytest.approx([0.48, 0.53])
    assert _moves.numbers_apart([0.98, 0.99, 1.0], 0.1) == pytest.approx([0.8, 0.9, 1.0])


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0.9, 11, 5, [1, 2, 5, 10]),
        (0.9, 110, 5, [1, 3, 10, 30, 100]),
        (0.9, 1.1e6, 4, [1, 100, 1e4, 1e6]),
        (2.1, 2.4, 4, [2.1, 2.4]),
    ],
)
def test_logarithmic_labels_are_as_dense_as_there_is_room_for(low, high, most, ticks):
    assert _style.log_ticks(low, high, most) == pytest.approx(ticks)


def test_what_clients_of_a_task_had_to_do_is_said(tmp_path):
    kinds_of_results.with_visits(tmp_path / "r")
    result = load(tmp_path / "r")
    told = plots.get("client_costs").caption(result)
    assert "nothing came twice; the client had to do nothing" in told
    assert "connected again" in told
    assert "In migrate, the download went on" in plots.get("visits").caption(result)
    table = plots.get("client_costs").data(result)
    assert list(table["client_had_to"]) == ["nothing", "reconnect"]
