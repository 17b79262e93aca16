"""When what NVEs hold is compared, and what is said of it."""

import time
from collections.abc import Callable, Iterator

import pytest

from experiments.measure.event_log import EventLog
from experiments.overlays.nvo3.nva import NvaAway
from experiments.run import table_checks
from experiments.run.table_checks import TableChecks

SETTLED_S = 0.1
WRONG = ["nve3 holds 1 rule in another form than the NVA has asked for"]


class Tables:
    """Answers one after another; the last one from then on.  `meanwhile` happens at each."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def differences(self) -> Iterator[list[str]]:
        self.asked += 1
        self.meanwhile()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        yield answer


def checks(
    tables: Tables, *due_in_s: float, excused: bool = False, log: EventLog | None = None
) -> TableChecks:
    made = TableChecks(tables.differences, SETTLED_S, lambda: excused, log or EventLog())
    made.start([time.time_ns() + int(each * 1e9) for each in due_in_s])
    return made


def after_one_move(made: TableChecks) -> TableChecks:
    with made.move_under_way():
        pass
    made.move_completed(1, "vm1")
    made.finish()
    return made


def test_tables_that_agree_are_counted() -> None:
    log = EventLog()
    made = after_one_move(checks(Tables([]), log=log))

    assert (made.compared, made.completed, made.problems) == (1, 1, [])
    assert [(e.name, dict(e.details)) for e in log.after()] == [
        ("tables-compared", {"after": [1], "differences": []})
    ]


@pytest.mark.shows("R3.4", "R3.5")
def test_a_difference_that_stays_is_a_problem() -> None:
    made = after_one_move(checks(Tables(WRONG)))

    assert made.problems == [f"after move 1: {WRONG[0]}"]
    assert (made.compared, made.completed) == (1, 1)


@pytest.mark.parametrize("at_first", [WRONG, NvaAway("gone"), RuntimeError("nve1: dead")])
def test_what_is_on_its_way_or_dead_for_a_moment_is_no_difference(
    at_first: list[str] | Exception,
) -> None:
    made = after_one_move(checks(Tables(at_first, [])))

    assert (made.compared, made.problems) == (1, [])


def test_differences_that_come_and_go_are_not_said_to_stay() -> None:
    others = [[f"{WRONG[0]} {number}"] for number in range(12)]  # for twice as long
    made = after_one_move(checks(Tables(*others, [])))

    assert (made.compared, made.problems) == (1, [])


def test_what_follows_from_a_failure_is_left_to_the_end_of_the_run() -> None:
    made = after_one_move(checks(Tables(WRONG), excused=True))

    assert (made.compared, made.completed, made.problems) == (0, 1, [])


def test_nothing_is_read_while_a_vm_is_being_moved() -> None:
    tables = Tables([])
    made = checks(tables)
    with made.move_under_way():
        made.move_completed(1, "vm1")
        time.sleep(0.1)
        assert tables.asked == 0
    made.finish()

    assert made.compared == 1


def test_a_move_whose_vm_has_moved_on_meanwhile_has_no_turn() -> None:
    """What its next move has written anew says nothing of the one before; other VMs' does."""
    log = EventLog()
    made = checks(Tables([]), log=log)
    with made.move_under_way():
        made.move_completed(1, "vm1")
        made.move_completed(2, "vm2")
        made.move_completed(3, "vm1")
    made.finish()

    assert (made.compared, made.completed) == (2, 3)
    assert [event.details["after"] for event in log.after()] == [[2, 3]]


def test_what_was_read_while_a_move_was_requested_is_read_again() -> None:
    tables = Tables(WRONG, [])
    made = checks(tables)

    def request() -> None:
        if tables.asked == 1:
            with made.move_under_way():
                pass

    tables.meanwhile = request
    made.move_completed(1, "vm1")
    made.finish()

    assert (tables.asked, made.compared, made.problems) == (2, 1, [])


def test_of_what_no_nve_has_been_read_yet_nothing_is_when_a_move_is_requested() -> None:
    read: list[str] = []

    def nve_by_nve() -> Iterator[list[str]]:
        for nve in ("nve1", "nve2", "nve3"):
            read.append(nve)
            if len(read) == 2:
                with made.move_under_way():
                    pass
            yield []

    made = TableChecks(nve_by_nve, SETTLED_S, lambda: False, EventLog())
    made.start([])
    made.move_completed(1, "vm1")
    made.finish()

    assert read == ["nve1", "nve2", "nve1", "nve2", "nve3"]
    assert made.compared == 1


def test_a_difference_has_to_stay_while_no_move_is_requested() -> None:
    tables = Tables(*[WRONG] * 12, [])
    made = checks(tables)

    def request() -> None:
        with made.move_under_way():
            pass

    tables.meanwhile = request
    made.move_completed(1, "vm1")
    while tables.asked < 13:
        time.sleep(0.001)
    tables.meanwhile = lambda: None
    made.finish()

    assert (made.compared, made.problems) == (1, [])


def test_nothing_is_read_when_a_move_is_about_to_be_requested() -> None:
    tables = Tables([])
    made = checks(tables, 0.3)
    time.sleep(0.3 - table_checks.LEAD_S / 2)
    made.move_completed(1, "vm1")
    assert tables.asked == 0
    made.finish()

    assert (tables.asked, made.compared) == (1, 1)


def test_tables_that_nobody_can_read_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_checks, "PATIENCE_S", 0.1)
    made = after_one_move(checks(Tables(NvaAway("gone"))))

    assert (made.compared, made.completed, made.problems) == (0, 1, [])


def test_who_is_stopped_waits_for_no_move() -> None:
    tables = Tables([])
    made = checks(tables)
    with made.move_under_way():
        made.move_completed(1, "vm1")
        made.stop()

    assert (tables.asked, made.compared) == (0, 0)


def test_who_has_never_begun_can_be_stopped() -> None:
    TableChecks(Tables([]).differences, SETTLED_S, lambda: False, EventLog()).stop()


def test_a_complaint_is_a_sentence_and_its_details_are_elsewhere() -> None:
    rules = ", ".join(f"{number:016x}" for number in range(200))
    tables = Tables(
        [
            f"nve3 holds 200 rules that the NVA has not asked for: {rules}",
            "nve2 is not connected to the NVA",
        ]
    )
    made = after_one_move(checks(tables))

    assert made.problems == [
        "after move 1: nve3 holds 200 rules that the NVA has not asked for; nve2 is not connected "
        "to the NVA (table-differences.txt has every one)"
    ]
    assert (
        f"after move 1: nve3 holds 200 rules that the NVA has not asked for: {rules}"
        in made.details
    )
