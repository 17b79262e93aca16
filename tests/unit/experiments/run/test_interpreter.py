"""A table of steps carried out and undone; and the tables that there are.

A step that fails is undone with all before it, last to first, until the destination has the VM.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.overlays import Capabilities, MoveRefused, OverlayMove
from experiments.run.interpreter import Interpreter, MoveUndone
from experiments.run.move_steps import (
    COLD,
    HOLDING,
    PLAIN,
    TAKE_OVER,
    MoveTable,
    Patience,
    Step,
    table_of,
)
from experiments.run.move_under_way import MoveUnderWay, PauseOnly
from experiments.scenario.failures import DESTINATION, SOURCE, Moment
from experiments.scenario.moves import MoveSpec
from nve.model import Bounds, Rank
from tests.helpers.lab import vm_spec
from tests.helpers.wait import wait_until

PATIENCE_S = {Patience.RUNNING: 3.0, Patience.PAUSED: 2.0, Patience.AFTERWARDS: 9.0}
TABLES = {"holding": HOLDING, "plain": PLAIN, "cold": COLD, "take-over": TAKE_OVER}


class Story:
    """What was done, undone, told and reached, in order."""

    def __init__(self, breaks: str = "", error: Exception | None = None) -> None:
        self.lines: list[str] = []
        self._breaks = breaks
        self._error = error or RuntimeError("no power")
        self.edges: Any = {
            end: SimpleNamespace(name=end, alive=True) for end in (SOURCE, DESTINATION)
        }

    def step(self, name: str, *, undone: bool = True, **more: Any) -> Step:
        def do(_move: MoveUnderWay, patience_s: float) -> None:
            self.lines.append(f"{name} {patience_s:g}")
            if name == self._breaks:
                raise self._error

        def undo(_move: MoveUnderWay, _patience_s: float) -> None:
            self.lines.append(f"undo {name}")
            if f"undo {name}" == self._breaks.removeprefix("last, "):
                raise self._error

        return Step(name, do, undo if undone else None, **more)

    def carry_out(self, table: MoveTable) -> None:
        interpreter = Interpreter(
            lambda _mode: table,
            PATIENCE_S.__getitem__,
            lambda moment, _: self.lines.append(f"now {moment}"),
        )
        move = self.move()
        interpreter.bring_over(move)
        interpreter.clear_away(move)

    def move(self, **asked: Any) -> MoveUnderWay:
        nobody: Any = None
        log: Any = SimpleNamespace(note=lambda _source, event, *_, **__: self.lines.append(event))
        spec = MoveSpec.model_validate({"at_s": 0, "vm": "vm1", "to": "nve2", **asked})
        told = OverlayMove(1, vm_spec(1, "nve1"), "nve1", "nve2", 11, 60.0)
        return MoveUnderWay(spec, told, nobody, nobody, self.edges, log, lambda: nullcontext(True))


def table(story: Story) -> MoveTable:
    return MoveTable(
        revocable=(
            story.step("make", patience=Patience.RUNNING, needs=(DESTINATION,)),
            story.step("turn", undone=False, moment=Moment.REDIRECTED),
            story.step("stop", patience=Patience.PAUSED),
        ),
        final=(story.step("go", undone=False, needs=(DESTINATION,)),),
        background=(story.step("clear", undone=False, patience=Patience.AFTERWARDS),),
    )


def test_steps_are_done_in_order_each_with_its_patience_and_moment() -> None:
    story = Story()
    story.carry_out(table(story))

    assert story.lines == [
        "now requested",
        *("make 3", "turn 0", "now redirected", "stop 2"),
        *("go 0", "clear 9"),
    ]


@pytest.mark.parametrize(
    ("breaks", "undone"),
    [
        ("make", ["undo make"]),
        ("turn", ["undo make"]),
        ("stop", ["undo stop", "undo make"]),
    ],
)
def test_a_step_that_fails_is_undone_with_those_before_it(breaks: str, undone: list[str]) -> None:
    story = Story(breaks)
    with pytest.raises(MoveUndone, match="no power"):
        story.carry_out(table(story))

    failed = story.lines.index("move-failed")
    assert story.lines[failed - 1].startswith(breaks)
    assert story.lines[failed + 1 :] == [*undone, "move-undone"]


def test_what_cannot_be_undone_does_not_keep_the_rest() -> None:
    story = Story("stop")
    breaking = table(story)
    story._breaks = "undo stop"
    (make, turn, stop) = breaking.revocable

    def fail(move: MoveUnderWay, patience_s: float) -> None:
        raise RuntimeError("no power")

    broken = MoveTable((make, turn, stop, Step("fail", fail)), breaking.final, ())
    with pytest.raises(RuntimeError, match="no power") as failed:
        story.carry_out(broken)

    assert not isinstance(failed.value, MoveUndone)
    assert story.lines[-4:] == ["move-failed", "undo stop", "not-undone", "undo make"]


def test_a_refusal_undoes_and_is_no_failure() -> None:
    story = Story("turn", MoveRefused("busy"))
    with pytest.raises(MoveRefused):
        story.carry_out(table(story))

    assert story.lines[-3:] == ["undo make", "move-undone", "move-refused"]
    assert "move-failed" not in story.lines


def test_nothing_is_undone_when_the_destination_has_the_vm() -> None:
    story = Story("go")
    with pytest.raises(RuntimeError, match="no power") as failed:
        story.carry_out(table(story))

    assert not isinstance(failed.value, MoveUndone)
    assert story.lines[-2:] == ["go 0", "move-failed"]


def test_a_destination_that_is_dead_does_not_get_the_vm() -> None:
    story = Story()

    def dies(_move: MoveUnderWay, _patience_s: float) -> None:
        story.edges[DESTINATION].alive = False

    whole = table(story)
    dying = MoveTable((*whole.revocable, Step("dies", dies)), whole.final, ())
    with pytest.raises(MoveUndone, match="the server of destination does not answer"):
        story.carry_out(dying)

    assert story.lines[-4:] == ["move-failed", "undo stop", "undo make", "move-undone"]


@pytest.mark.parametrize(
    ("breaks", "done"), [("compare", ["compare 0", "clear 9", "end 9"]), ("clear", ["clear 9"])]
)
def test_servers_that_cannot_compare_what_they_have_do_not_keep_the_overlay_from_its_steps(
    breaks: str, done: list[str]
) -> None:
    story = Story(breaks)
    compare = story.step("compare", undone=False)
    clear, end = (
        story.step(name, undone=False, patience=Patience.AFTERWARDS) for name in ("clear", "end")
    )
    whole = table(story)
    with pytest.raises(RuntimeError, match="no power"):
        story.carry_out(MoveTable(whole.revocable, whole.final, (compare, clear, end)))

    assert story.lines[-len(done) :] == done


# -- the tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", TABLES.values(), ids=TABLES)
def test_every_moment_is_reached_once_and_every_step_says_what_it_does(which: MoveTable) -> None:
    reached = [step.moment for step in which if step.moment]

    # The transfer says itself when it is copying.
    assert sorted(reached) == sorted(set(Moment) - {Moment.REQUESTED, Moment.COPYING})
    assert all(step.says.endswith(".") for step in which)
    assert len({step.name for step in which}) == len(list(which))
    assert not any(step.undo for step in (*which.final, *which.background))


@pytest.mark.parametrize("which", TABLES.values(), ids=TABLES)
def test_whoever_gets_the_vm_is_asked_for_before_it(which: MoveTable) -> None:
    assert DESTINATION in which.final[0].needs


def test_who_may_hold_redirects_while_the_vm_runs() -> None:
    names = {which: [step.name for step in TABLES[which].revocable] for which in TABLES}

    assert names["holding"].index("redirect") < names["holding"].index("pause")
    assert names["plain"].index("pause") < names["plain"].index("redirect")
    cold = names["cold"]
    assert cold.index("pause") < cold.index("suspend") < cold.index("copy")
    holding: Any = SimpleNamespace(can=Capabilities(hold=Bounds(1, 1, 1)))
    assert table_of(holding, "hot") is HOLDING
    plain: Any = SimpleNamespace(can=Capabilities())
    assert table_of(plain, "hot") is PLAIN
    assert table_of(holding, "cold") is table_of(plain, "cold") is COLD


@pytest.mark.parametrize(
    ("pause_ms", "takes_s", "slept"),
    [(15, 0.0, [0.005]), (50, 0.0, [0.03, 0.01]), (5, 0.0, [0.0]), (50, 0.2, [0.0, 0.0])],
)
def test_the_simplest_transfer_is_a_pause(
    monkeypatch: pytest.MonkeyPatch, pause_ms: int, takes_s: float, slept: list[float]
) -> None:
    """Asked for 10 ms after it has begun.  Through a long one nobody needs to be helped along; to
    end the help may take longer than the pause.
    """
    now_s, sleeps, helped = [100.01], list[float](), list[float]()

    def sleep(for_s: float) -> None:
        sleeps.append(for_s)
        now_s[0] += for_s

    def end_the_help() -> None:
        now_s[0] += takes_s

    under_way = "experiments.run.move_under_way"
    monkeypatch.setattr(f"{under_way}.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr(f"{under_way}.time.sleep", sleep)
    monkeypatch.setattr(f"{under_way}.help_along", lambda _move: helped.append(now_s[0]))
    move = Story().move(pause_ms=pause_ms)
    move.helped.callback(end_the_help)
    move.paused_at_s = 100.0
    PauseOnly().rounds(move)
    PauseOnly().final(move)

    assert sleeps == pytest.approx(slept)
    assert helped == ([pytest.approx(max(100.04, 100.01 + takes_s))] if len(slept) > 1 else [])


def test_the_control_plane_goes_first_where_a_move_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Switches that are woken for each packet leave it next to nothing."""
    now: list[dict[int, Rank]] = []

    @contextmanager
    def first_in_line(_own: dict[int, Rank], services: dict[int, Rank]) -> Iterator[None]:
        now.append(services)
        yield
        now.remove(services)

    monkeypatch.setattr("experiments.run.move_under_way.first_in_line", first_in_line)
    seen: list[dict[int, Rank]] = []
    processes = {7: Rank.CONTROL, 8: Rank.PATH}
    overlay = SimpleNamespace(
        can=Capabilities(processes=lambda: processes),
        redirect=lambda *_: seen.extend(now),
    )
    move = Story().move()
    move.overlay = overlay  # type: ignore[assignment]
    move.hypervisor = SimpleNamespace(settle=lambda: None)  # type: ignore[assignment]
    done = {step.name: step.do for step in PLAIN}

    done["redirect"](move, 1.0)
    assert (seen, now) == ([{7: Rank.SERVER}], [])
    monkeypatch.setattr("experiments.run.move_under_way.STARVED_S", 60.0)
    done["settle"](move, 1.0)
    assert now == []  # not yet
    move.helped.close()
    assert now == []
    monkeypatch.setattr("experiments.run.move_under_way.STARVED_S", 0.0)
    done["settle"](move, 1.0)
    wait_until(lambda: None if now == [{7: Rank.PATH}] else f"{now}")
    move.helped.close()
    assert now == []
