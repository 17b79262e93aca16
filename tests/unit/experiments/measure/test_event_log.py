"""The trace while it grows: nobody loses, doubles or overtakes an event."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent

WRITERS, EACH = 8, 500


def event(t_ns: int, name: str = "vm-paused") -> TraceEvent:
    return TraceEvent(t_ns, "runner", name, "vm1")


def test_what_was_told_can_be_read_from_any_position() -> None:
    log = EventLog()
    for t_ns in (5, 3, 4):
        log.append(event(t_ns))

    assert [each.t_ns for each in log.after()] == [5, 3, 4]
    assert [each.t_ns for each in log.after(2)] == [4]
    assert log.after(log.position) == []


def test_what_happens_now_is_noted_with_the_time_and_any_details() -> None:
    log = EventLog()
    log.note("runner", "move-failed", "vm1", name="x", subject="y", move=1)

    [noted] = log.after()
    assert (noted.source, noted.name, noted.subject) == ("runner", "move-failed", "vm1")
    assert noted.details == {"name": "x", "subject": "y", "move": 1}
    assert noted.t_ns > 0


def test_a_listener_hears_what_was_and_what_comes_until_it_ends_that() -> None:
    log, heard = EventLog(), list[TraceEvent]()
    log.append(event(1))
    log.append(event(2))
    unsubscribe = log.subscribe(heard.append, position=1)
    log.append(event(3))
    unsubscribe()
    log.append(event(4))

    assert [each.t_ns for each in heard] == [2, 3]


def test_many_writers_lose_nothing_and_every_listener_hears_the_order_of_the_log() -> None:
    log, together = EventLog(), threading.Barrier(WRITERS + 1)
    heard: list[queue.SimpleQueue[TraceEvent]] = [queue.SimpleQueue(), queue.SimpleQueue()]

    def write(writer: int) -> None:
        together.wait()
        for number in range(EACH):
            log.append(event(writer * EACH + number))

    log.subscribe(heard[0].put)
    with ThreadPoolExecutor(WRITERS) as writers:
        done = [writers.submit(write, writer) for writer in range(WRITERS)]
        together.wait()
        log.subscribe(heard[1].put)  # while others write
        for each in done:
            each.result()

    told = log.after()
    assert sorted(each.t_ns for each in told) == list(range(WRITERS * EACH))
    for listened in heard:
        assert [listened.get_nowait() for _ in told] == told
        assert listened.empty()
