"""What happened besides moves, in words and marks: failures, and standbys that take over."""

from dataclasses import replace

import pytest

from experiments import overlays
from experiments.measure.results import load
from experiments.report import interactive, plots
from experiments.report.plots import _incidents, _moves, _style, closeup
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import PRESETS
from experiments.scenario.failures import FailureKind
from tests.helpers import kinds_of_results
from tests.helpers.examples import some_of
from tests.helpers.figure_faults import text_of
from tests.helpers.packets import packets

COLUMN = PRESETS["column"]
ALL_FAILURES = {
    *FailureKind,
    *(name for kind in overlays.names() for name in overlays.get(kind).faults),
}
FAILURES = [
    *((kind, *words) for kind, words in _incidents.WORDS.items()),
    *((kind, *_incidents.DIES) for kind in sorted(ALL_FAILURES) if kind.endswith("-dies")),
    ("something-else", "something-else begins ({part})", "something-else over ({part})"),
]


def failure(kind, directory):
    at, requested = kinds_of_results.at, kinds_of_results.requested
    began_ns = at(24, "x").t_ns
    failed = replace(
        at(25, "failure-injected", kind=kind, failure=1, began_ns=began_ns), subject="nve1"
    )
    ended = replace(at(35, "failure-ended", kind=kind, failure=1), subject="nve1")
    events = [requested(10), at(20, "vm-paused"), failed, at(30, "vm-resumed"), ended]
    kinds_of_results.single(directory, packets([1.0] * 60), events)
    return load(directory), began_ns


@pytest.mark.parametrize(("kind", "begin", "end"), FAILURES)
def test_each_kind_of_failure_has_its_words(kind, begin, end, tmp_path):
    result, began_ns = failure(kind, tmp_path / "r")
    (run,) = runs_of(result).values()
    told = [each.words for each in _incidents.of_run(run)]
    assert told == [begin.format(part="nve1"), end.format(part="nve1")]
    assert _incidents.of_run(run)[0].t_ns == began_ns
    (data,) = interactive.time_line(result)
    assert [mark[1:] for mark in data["marks"]] == [["A", told[0]], ["B", told[1]]]


@pytest.mark.parametrize(("kind", "begin", "end"), some_of(FAILURES, every=len(FAILURES)))
def test_each_kind_of_failure_is_named_once_in_a_figure(kind, begin, end, tmp_path):
    result, _ = failure(kind, tmp_path / "r")
    told = [words.format(part="nve1") for words in (begin, end)]
    for name in ("timeline", "closeup"):
        with _style.applied(COLUMN):
            drawn = text_of(plots.get(name).draw(result, COLUMN))
        assert [drawn.count(words) for words in told] == [1, 1], name


def test_all_kinds_of_failure_have_words():
    assert {kind for kind in ALL_FAILURES if not kind.endswith("-dies")} == set(_incidents.WORDS)


def test_a_take_over_is_marked_and_is_no_pause(tmp_path):
    at = kinds_of_results.at
    lost = replace(
        at(20, "server-lost", kind="warm", interval_s=1.0, nve="nve1", since_ns=at(5, "x").t_ns),
        subject="vm1",
    )
    events = [
        replace(at(5, "failure-injected", kind="nve-dies", failure=1), subject="nve1"),
        lost,
        kinds_of_results.requested(21, mode="take-over"),
        at(30, "vm-paused"),
        at(40, "vm-resumed"),
        at(50, "move-completed"),
    ]
    kinds_of_results.single(tmp_path / "r", packets([1.0] * 90), events)
    result = load(tmp_path / "r")
    (run,) = runs_of(result).values()
    assert [each.words for each in _incidents.of_run(run)] == ["nve1 dies", "a standby takes over"]
    assert _style.PAUSED not in {colour for _, _, colour in _moves.phases(run.moves[0])}
    assert run.result.metrics["pause_ms"].isna().all()
    with _style.applied(COLUMN):
        drawn = text_of(closeup.draw(result, COLUMN))
    assert "nve1 dies\nnve1 is taken for dead\nrequested\nstandby takes over" in drawn


def test_failures_beyond_what_can_be_told_apart_share_a_letter(tmp_path):
    at = kinds_of_results.at
    failures = [
        replace(at(n, "failure-injected", kind="nve-dies", failure=n), subject=f"nve{n}")
        for n in range(1, 13)
    ]
    kinds_of_results.single(tmp_path / "r", packets([1.0] * 60), failures)
    (run,) = runs_of(load(tmp_path / "r")).values()
    named = _incidents.handles([run])
    assert len(named) == _incidents.MOST
    assert str(named[-1].get_label()).endswith(_incidents.REST)
