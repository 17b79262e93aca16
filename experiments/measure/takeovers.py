"""What a standby's take-over has cost, as the clients of the VM's service have seen it.

Each request is answered with the next number out of the guest's memory.  The standby continues from
a mirror, so that it answers with numbers that have been given before: those changes are lost.  The
loss of state is the number of these changes, and how long before the server's death the first of
them had been answered.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from experiments.measure.trace import MoveTrace, TraceEvent, moves_of

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class AnsweredRequest:
    """A request that was answered."""

    answered_ns: int
    counter: int


@dataclass(frozen=True)
class TakeOverMetrics:
    """The costs of one take-over.  None: the event that a value is computed from did not happen."""

    move: int | None
    vm: str
    kind: str
    interval_s: float
    from_nve: str
    to_nve: str
    outcome: str
    failed_ns: int
    detected_ms: float
    resumed_ms: float | None
    mirror: int | None
    mirror_age_ms: float | None
    counter_before: int | None
    counter_after: int | None
    lost_requests: int | None
    lost_age_ms: float | None
    silence_ms: float | None


COLUMNS = tuple(field.name for field in fields(TakeOverMetrics))


def rows(
    events: Iterable[TraceEvent], answers: Iterable[tuple[str, AnsweredRequest]]
) -> list[dict[str, Any]]:
    """Return the lines of takeovers.csv; `answers` holds the answers of each VM's service."""
    ordered = sorted(events, key=lambda event: event.t_ns)
    of_vm: dict[str, list[AnsweredRequest]] = {}
    for vm, answer in answers:
        of_vm.setdefault(vm, []).append(answer)
    return [asdict(each) for each in (*_take_overs(ordered, of_vm), *_alone(ordered, of_vm))]


def _take_overs(
    events: Sequence[TraceEvent], answers: dict[str, list[AnsweredRequest]]
) -> Iterator[TakeOverMetrics]:
    for move in moves_of(events):
        if not move.is_take_over:
            continue
        (*_, lost) = (
            event
            for event in events
            if event.name in ("server-lost", "server-cut-off")
            and event.subject == move.vm
            and event.t_ns <= move.requested_ns
        )
        yield _of(move, lost, answers.get(move.vm, []))


def _alone(
    events: Sequence[TraceEvent], answers: dict[str, list[AnsweredRequest]]
) -> Iterator[TakeOverMetrics]:
    """Instances of VMs with a hot standby that have gone on without the other one."""
    lost: dict[str, TraceEvent] = {}
    for event in events:
        if event.name in ("server-lost", "instance-cut-off"):
            lost[event.subject] = event
        elif event.name == "instance-alone" and event.subject in lost:
            why = lost[event.subject]
            given = answers.get(event.subject, [])
            yield TakeOverMetrics(
                move=None,
                vm=event.subject,
                kind=str(why.details["kind"]),
                interval_s=0.0,
                from_nve=str(event.details["lost"]),
                to_nve=str(event.details["nve"]),
                outcome="completed",
                failed_ns=int(why.details["since_ns"]),
                detected_ms=(why.t_ns - int(why.details["since_ns"])) / _NS_PER_MS,
                resumed_ms=(event.t_ns - int(why.details["since_ns"])) / _NS_PER_MS,
                mirror=None,
                mirror_age_ms=None,
                **_seen(given, int(why.details["since_ns"]), event.t_ns),
            )


def _of(move: MoveTrace, lost: TraceEvent, answers: Sequence[AnsweredRequest]) -> TakeOverMetrics:
    failed_ns, resumed_ns = int(lost.details["since_ns"]), move.time_of("vm-resumed")
    return TakeOverMetrics(
        move=move.number,
        vm=move.vm,
        kind=str(lost.details["kind"]),
        interval_s=float(lost.details["interval_s"]),
        from_nve=move.source_nve,
        to_nve=move.destination_nve,
        outcome=move.outcome,
        failed_ns=failed_ns,
        detected_ms=(lost.t_ns - failed_ns) / _NS_PER_MS,
        resumed_ms=None if resumed_ns is None else (resumed_ns - failed_ns) / _NS_PER_MS,
        mirror=move.detail("mirror"),
        mirror_age_ms=move.detail("mirror_age_ms"),
        **_seen(answers, failed_ns, resumed_ns),
    )


def _seen(
    answers: Sequence[AnsweredRequest], failed_ns: int, resumed_ns: int | None
) -> dict[str, Any]:
    """What the clients have seen of it: a part of `TakeOverMetrics`."""
    given = sorted(answers, key=lambda answer: answer.answered_ns)
    before = [each for each in given if resumed_ns is None or each.answered_ns < resumed_ns]
    after = given[len(before) :]
    highest = max((each.counter for each in before), default=None)
    first = after[0].counter if after else None
    requests, age_ms = None, None
    if highest is not None and first is not None:
        repeated = [each for each in before if each.counter >= first]
        requests = max(0, highest - first + 1)
        age_ms = (failed_ns - repeated[0].answered_ns) / _NS_PER_MS if repeated else 0.0
    silent = before and after
    return {
        "counter_before": highest,
        "counter_after": first,
        "lost_requests": requests,
        "lost_age_ms": None if age_ms is None else max(0.0, age_ms),
        "silence_ms": (
            (after[0].answered_ns - before[-1].answered_ns) / _NS_PER_MS if silent else None
        ),
    }
