"""The draft's overlay towards an NVA that dies before, or after, it has heard a request."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.core.move_fsm import Phase
from controller.storage.trace import Trace
from experiments.measure.event_log import EventLog
from experiments.overlays import Ground, MoveRefused, OverlayMove
from experiments.overlays.nvo3 import move_requests
from experiments.overlays.nvo3.move_requests import MoveRequests
from experiments.overlays.nvo3.nva import NvaAway, NvaError
from experiments.overlays.nvo3.overlay import Nvo3
from experiments.overlays.nvo3.settings import Settings
from experiments.overlays.nvo3.trace_feed import TraceFeed
from nve.messages import TraceRecord
from nve.model import vni
from nve.ovs.agent import Following
from nve.ovs.bridge import OvsInstance
from nve.pipeline.flow_dump import Row, words
from nve.pipeline.rules import PipelineTable, Purpose, Rule, Tunnel
from tests.helpers.lab import vm_spec
from tests.helpers.wait import wait_until

MOVE = OverlayMove(7, vm_spec(1, "nve1"), "nve1", "nve2", 11, 60.0)


@pytest.fixture(autouse=True)
def asks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """This NVA is back, or not, at any time."""
    monkeypatch.setattr(move_requests, "AGAIN_S", 0.005)


class FakeNva:
    """Carries moves on at once.  `dies` says at each request: not at all, before or after it has
    heard it."""

    def __init__(self, *dies: str) -> None:
        self._dies = list(dies)
        self.moves: dict[str, dict[str, Any]] = {}
        self.heard: list[str] = []
        self.connected = {"nve1": True, "nve2": True}
        self.refuses = 0
        self.rules: list[list[dict[str, Any]]] = []
        """What an NVE should hold, each time it is asked; the last one from then on."""

    def post(self, path: str, **_: object) -> Any:
        return self._living(lambda: self._changed(path))

    def put(self, path: str, body: Any, **_: object) -> Any:
        return self._living(lambda: self._asked(path, body))

    def delete(self, path: str) -> Any:
        return self._living(lambda: self.heard.append(f"delete {path}"))

    def get(self, path: str, **_: object) -> Any:
        if path == "health":
            return {"connected": self.connected}
        if path == "moves":
            return [{"key": key, **line} for key, line in self.moves.items()]
        if path.startswith("nves/"):
            return self.rules.pop(0) if len(self.rules) > 1 else self.rules[0]
        return self.moves[path.removeprefix("moves/")]

    def _living(self, act: Any) -> Any:
        fate = self._dies.pop(0) if self._dies else ""
        if fate == "before":
            raise NvaAway("gone")
        answer = act()
        if fate == "after":
            raise NvaAway("gone")
        return answer

    def _asked(self, path: str, body: Any) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NvaError("no")
        line = {"vm": body["vm"], "to": body["to"], "phase": Phase.PREPARED, "network_nves": []}
        self.moves.setdefault(path.removeprefix("moves/"), line)

    def _changed(self, path: str) -> dict[str, Any]:
        self.heard.append(path)
        _, which, verb = path.split("/")
        phases = {
            "redirect": Phase.REDIRECTED,
            "activate": Phase.ACTIVATED,
            "roll-back": Phase.ROLLED_BACK,
        }
        self.moves[which]["phase"] = phases[verb]
        return self.moves[which]


class FakeSwitch(OvsInstance):
    """Its answers, each time it is asked for its rows; the last one from then on."""

    alive = True

    def __init__(self, *held: list[Row]) -> None:
        self._held = list(held)

    def rows(self) -> list[Row]:
        return self._held.pop(0) if len(self._held) > 1 else self._held[0]

    def follow_rules_now(self, *, thoroughly: bool = False) -> None:
        """It has no cache."""

    def inlet(self, interface: str) -> None:
        """What comes is taken in at once."""


def overlay(nva: FakeNva, *held: list[Row]) -> Nvo3:
    nve = SimpleNamespace(edge=FakeSwitch(*held))
    session = SimpleNamespace(directory=Path("/nonexistent"))
    nowhere: Any = SimpleNamespace(session=session, nves={"nve1": nve}, control_node=None)
    ground = Ground(nowhere, EventLog(), lambda _system, _nve: None, lambda _: None)
    made = Nvo3(ground, Settings.model_validate({}))
    made.nva = cast(Any, nva)
    made._requests = MoveRequests(made.nva)
    return made


@pytest.mark.parametrize("dies", ["", "before", "after"])
def test_a_move_is_asked_for_once_whether_the_nva_had_heard_it_or_not(dies: str) -> None:
    nva = FakeNva(dies)
    overlay(nva).prepare(MOVE, patience_s=5)

    assert list(nva.moves) == ["7"]


@pytest.mark.parametrize("dies", ["", "before", "after"])
@pytest.mark.parametrize("verb", ["redirect", "activate", "roll-back"])
def test_a_move_is_taken_on_once_whether_the_nva_had_heard_it_or_not(verb: str, dies: str) -> None:
    nva = FakeNva("", dies)
    made = overlay(nva)
    made.prepare(MOVE, patience_s=5)
    match verb:
        case "redirect":
            made.redirect(MOVE, patience_s=5)
        case "activate":
            made.activate(MOVE, patience_s=5, announced=False)
        case "roll-back":
            made.roll_back(MOVE, patience_s=5)

    assert nva.heard == [f"moves/7/{verb}"]


def test_a_move_that_the_nva_never_had_needs_no_roll_back() -> None:
    nva = FakeNva()
    overlay(nva).roll_back(MOVE, patience_s=5)

    assert nva.heard == []


def test_a_request_without_an_answer_is_still_rolled_back() -> None:
    nva = FakeNva("after")
    made = overlay(nva)
    with pytest.raises(NvaAway):
        made.prepare(MOVE, patience_s=0)
    made.roll_back(MOVE, patience_s=5)

    assert [line["phase"] for line in nva.moves.values()] == [Phase.ROLLED_BACK]


def test_patience_ends() -> None:
    with pytest.raises(NvaAway):
        overlay(FakeNva(*["before"] * 1000)).prepare(MOVE, patience_s=0.2)


def test_a_refusal_is_a_refusal() -> None:
    nva = FakeNva()
    nva.refuses = 2
    with pytest.raises(MoveRefused, match="no"):
        overlay(nva).prepare(MOVE, patience_s=5)


def test_an_nve_that_has_just_come_back_is_no_refusal() -> None:
    nva = FakeNva()
    nva.refuses = 1
    overlay(nva).prepare(MOVE, patience_s=5)

    assert len(nva.moves) == 1


def test_a_move_that_the_nva_has_rolled_back_is_not_prepared() -> None:
    nva = FakeNva()
    made = overlay(nva)
    made.prepare(MOVE, patience_s=5)
    nva.moves["7"]["phase"] = Phase.ROLLED_BACK
    with pytest.raises(NvaError, match="has rolled back the move of vm1"):
        made._requests.reached(MOVE, Phase.REDIRECTED, 1)


# -- who knows first that the source redirects ---------------------------------------------------


class FakeAgent:
    """The agents of the source and of the destination; `follows`: the source's has its order."""

    def __init__(self, *, follows: bool) -> None:
        self._follows = follows

    def expect_last(self, _system: object, _number: int) -> None:
        """Nothing comes."""

    @contextmanager
    def following(self, _system: object) -> Iterator[Following]:
        following = Following()
        if self._follows:
            following.begins(("nve2", "nve3"))
        yield following
        following.close()


class FakeRequest:
    """A request whose answer is there, or comes only when it is asked for; None: never."""

    def __init__(self, answer: Any, *, there: bool) -> None:
        self._answer = answer
        self._event = os.eventfd(int(there))

    def fileno(self) -> int:
        return self._event

    def answer(self) -> Any:
        os.close(self._event)
        if self._answer is None:
            raise NvaAway("gone")
        return self._answer


def following(nva: FakeNva, request: FakeRequest, *, follows: bool) -> Nvo3:
    """An overlay whose NVA is asked to redirect by this request."""
    made = overlay(nva)
    made._agents = cast(Any, dict.fromkeys(("nve1", "nve2"), FakeAgent(follows=follows)))
    nva.begin_post = lambda *_, **__: request  # type: ignore[attr-defined]
    made.prepare(MOVE, patience_s=5)
    return made


LINE = {"phase": Phase.REDIRECTED, "vm": "vm1", "network_nves": ["nve2"]}


def test_a_move_goes_on_when_the_source_redirects_before_the_nva_knows() -> None:
    nva = FakeNva()
    made = following(nva, FakeRequest(LINE, there=False), follows=True)
    made.redirect(MOVE, patience_s=5)
    assert made._leaving[MOVE.number].network_nves == ("nve2", "nve3")
    made.activate(MOVE, patience_s=5, announced=False)

    assert nva.heard == ["moves/7/activate"]
    assert made._leaving == {}


def test_a_move_goes_on_when_the_nva_says_so_and_the_source_does_not() -> None:
    made = following(FakeNva(), FakeRequest(LINE, there=True), follows=False)
    made.redirect(MOVE, patience_s=5)

    assert made._leaving[MOVE.number].network_nves == ["nve2"]


def test_a_move_that_the_nva_rolls_back_instead_does_not_go_on() -> None:
    rolled_back = LINE | {"phase": Phase.ROLLED_BACK}
    made = following(FakeNva(), FakeRequest(rolled_back, there=True), follows=False)
    with pytest.raises(NvaError, match="has rolled back the move of vm1"):
        made.redirect(MOVE, patience_s=5)


def test_an_nva_that_dies_after_the_source_has_its_order_is_awaited_before_the_activation() -> None:
    nva = FakeNva()
    made = following(nva, FakeRequest(None, there=False), follows=True)
    made.redirect(MOVE, patience_s=5)
    nva.moves["7"]["phase"] = Phase.ROLLED_BACK
    with pytest.raises(NvaError, match="has rolled back the move of vm1"):
        made.activate(MOVE, patience_s=5, announced=False)

    assert nva.heard == []


# -- what the NVA tells --------------------------------------------------------------------------


def record(number: int) -> TraceRecord:
    return TraceRecord(number, "entry-pulled", "vm1", {"move": "7", "nve": f"nve{number}"})


def times_in(log: EventLog) -> list[int]:
    return [event.t_ns for event in log.after()]


def test_a_line_is_in_the_log_when_its_decision_was_taken(tmp_path: Path) -> None:
    trace, log = Trace(tmp_path / "trace", None), EventLog()
    feed = TraceFeed(tmp_path / "trace", log)
    feed.start()
    trace.write([record(1)])
    feed.catch_up()
    assert times_in(log) == []

    trace.confirm()
    wait_until(lambda: None if times_in(log) == [1] else f"it has {times_in(log)}")
    feed.close()
    assert times_in(log) == [1]


@pytest.mark.parametrize("looks", [*itertools.product([False, True], repeat=3)])
@pytest.mark.parametrize("dies_after", ["trace", "journal", "mark"])
def test_no_line_is_lost_or_doubled_when_the_nva_dies(
    tmp_path: Path, dies_after: str, looks: tuple[bool, ...]
) -> None:
    """Whenever it is looked at, and whatever of a decision was written when it died."""
    path, log = tmp_path / "trace", EventLog()
    feed = TraceFeed(path, log)

    def may_look(step: int) -> None:
        if looks[step]:
            feed.catch_up()

    before = Trace(path, None)
    before.write([record(1)])
    before.confirm()
    in_journal = before.bytes
    may_look(0)
    before.write([record(2), record(3)])
    may_look(1)
    if dies_after != "trace":
        in_journal = before.bytes
    if dies_after == "mark":
        before.confirm()
    after = Trace(path, in_journal)
    may_look(2)
    if dies_after == "trace":  # the decision has not been taken: it is now, and differs a little
        after.write([record(2)])
    after.write([record(4)])
    after.confirm()
    feed.close()

    assert times_in(log) == [line.t_ns for line in after.records]
    assert times_in(log) == ([1, 2, 4] if dies_after == "trace" else [1, 2, 3, 4])


def test_what_a_dead_nva_has_left_comes_at_the_end_without_a_torn_line(tmp_path: Path) -> None:
    log = EventLog()
    Trace(tmp_path / "trace", None).write([record(1)])
    with (tmp_path / "trace").open("ab") as file:
        file.write(b'{"t_ns": 2, "eve')
    TraceFeed(tmp_path / "trace", log).close()

    assert times_in(log) == [1]


@pytest.mark.parametrize(("key", "number"), [("7", 7), ("by-hand", "by-hand")])
def test_the_key_of_a_move_is_its_number_in_the_run(
    tmp_path: Path, key: str, number: int | str
) -> None:
    """A key that somebody else has chosen is not a number."""
    log = EventLog()
    Trace(tmp_path / "trace", None).write([TraceRecord(1, "entry-pulled", "vm1", {"move": key})])
    TraceFeed(tmp_path / "trace", log).close()

    assert [event.details["move"] for event in log.after()] == [number]


# -- what NVEs hold --------------------------------------------------------------------------------


def entry(to: int) -> Rule:
    tunnel = Tunnel(vni(5000), IPv4Address(f"10.1.0.{to}"))
    return Rule(PipelineTable.FORWARD, 10, (), (tunnel,), Purpose.FORWARD)


def told(*rules: Rule) -> list[dict[str, Any]]:
    """As the northbound interface has it."""
    return [
        {
            "table": rule.table.name.lower(),
            "priority": rule.priority,
            "idle_s": rule.idle_s,
            "hard_s": rule.hard_s,
            "reports_end": rule.reports_end,
            "ovs": list(words(rule)),
            "cookie": f"{rule.cookie:016x}",
        }
        for rule in rules
    ]


def differences(nva: FakeNva, *held: list[Row]) -> list[str]:
    return overlay(nva, *held).differences()


@pytest.mark.shows("R3.4", "R3.5")
def test_an_entry_that_leads_to_the_old_place_is_a_difference() -> None:
    nva = FakeNva()
    nva.rules = [told(entry(to=2))]

    assert differences(nva, [Row.of(entry(to=2))]) == []
    (difference,) = differences(nva, [Row.of(entry(to=1))])
    assert difference.startswith("nve1 holds 1 rule in another form than the NVA has asked for: ")


def test_what_is_held_is_compared_with_what_should_be_held_at_the_same_time() -> None:
    """The entry changed while the NVE was read."""
    nva = FakeNva()
    nva.rules = [told(entry(to=1)), told(entry(to=2))]

    assert differences(nva, [Row.of(entry(to=1))], [Row.of(entry(to=2))]) == []


def test_what_never_stays_the_same_is_a_difference() -> None:
    nva = FakeNva()
    nva.rules = [told(entry(to=number)) for number in range(1, 20)]

    (difference,) = differences(nva, [Row.of(entry(to=1))])
    assert difference.startswith("nve1 was given new rules each time")
