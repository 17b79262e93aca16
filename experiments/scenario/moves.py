"""Moves of a scenario: which VM goes where and when, and how its arrival is announced.

    - {at_s: 2, vm: vm1, to: nve2, pause_ms: 50, announce: both}
    - {at: {after: entry-pulled, of: nve3, s: 0.3}, vm: vm1, to: nve2}
    - {at_s: 2, vm: vm1, to: nve2, mode: cold}

A move begins a number of seconds after the traffic, or after an event of the trace.  A VM's next
move starts where its last move has taken it, once it has arrived.  While the VM is suspended in a
move, another one is refused; `expect: refused` says that this is intended.  Many moves may be
written as one series: `series`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experiments.measure.trace import KNOWN, TraceEvent
from experiments.scenario.parts import Name, Part, no_such
from experiments.scenario.transfers import TransferSpec, of_its_kind
from nve.resources import NO_RESOURCES, UNLIMITED, Capacity, Resources
from nve.wire.announcement import NOTHING, Announcement

GAP_S = 0.5
"""The time from the end of a move's pause until the VM's next move may begin: by then it has
arrived. Old entries and the in-flight tunnel of the first move may still exist; the overlay keeps
them apart."""


def _known_event(name: str) -> str:
    if name not in KNOWN:
        raise ValueError(no_such("event", name, sorted(KNOWN)))
    return name


def _listed(given: object) -> object:
    return [given] if isinstance(given, str) else given


class AfterEvent(Part):
    """A time `s` seconds after an event of the trace.

    The event is the first one of that name which happens `from_s` seconds after the traffic began
    or later, and which concerns all of these VMs and NVEs.  The overlay's own events are read up to
    0.2 s after they have happened: a move cannot begin sooner than that after one.
    """

    after: Annotated[str, AfterValidator(_known_event)]
    of: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = ()
    s: float = Field(0, ge=0, le=3600)
    from_s: float = Field(0, ge=0)

    def is_meant(self, event: TraceEvent, since_traffic_s: float) -> bool:
        """Return whether this is the event that is waited for."""
        concerned = {*event.subject.split(", "), *map(str, event.details.values())}
        return (
            event.name == self.after and since_traffic_s >= self.from_s and concerned >= {*self.of}
        )

    def __str__(self) -> str:
        of = f" of {' and '.join(self.of)}" if self.of else ""
        return f"{self.after}{of} from {self.from_s:g} s on"


class MoveSpec(Part):
    """One move, `at_s` seconds after the traffic began, or when `at` says."""

    at_s: float | None = Field(None, ge=0)
    at: AfterEvent | None = None
    vm: Name
    to: Name
    mode: Literal["hot", "cold"] = "hot"
    pause_ms: float = Field(50, ge=0, le=600_000)
    announce: Literal["garp", "garp-reply", "na", "na-solicited", "both", "rarp", "none"] = "both"
    announce_times: int = Field(default=1, ge=1, le=10)
    announcement_lost: bool = False
    expect: Literal["completed", "refused"] = "completed"
    transfer: Annotated[TransferSpec | None, BeforeValidator(of_its_kind)] = None
    """How its state is brought over, if it has any: then `pause_ms` has no effect."""

    @property
    def earliest_s(self) -> float:
        """The earliest time at which it may begin, in seconds after the traffic."""
        if self.at:
            return self.at.from_s + self.at.s
        assert self.at_s is not None
        return self.at_s

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if (self.at_s is None) == (self.at is None):
            raise ValueError("say when: either at_s or at: {after: an event}")
        if self.at and self.expect == "refused":
            raise ValueError("expect: refused needs at_s, a time within another move")
        return self

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.announce == NOTHING and (self.announce_times > 1 or self.announcement_lost):
            raise ValueError(
                "announce: none leaves nothing to repeat (announce_times) or to lose "
                "(announcement_lost); name a form, such as announce: garp"
            )
        return self

    def with_state(self) -> Self:
        """Return the same move for a VM that has state."""
        given = self.transfer or TransferSpec.model_validate({})
        if self.mode == "cold" and "kind" not in given.model_fields_set:
            given = given.model_copy(update={"kind": "stop-and-copy"})
        return self.model_copy(update={"transfer": given})

    @property
    def takes_s(self) -> float:
        """The longest time until the VM has arrived, not counting what its overlay does."""
        return 2 * self.transfer.max_time_s if self.transfer else self.pause_ms / 1000

    @property
    def announcement(self) -> Announcement:
        return Announcement(self.announce, self.announce_times, self.announcement_lost)


@dataclass(frozen=True)
class StandbyRoom:
    """What the standby of a VM takes of a server."""

    at: str
    takes: Resources
    reverse: bool = False
    """Whether the VM's former NVE has it when the VM was moved there."""


def contradictions(
    moves: Sequence[MoveSpec],
    where: Mapping[str, str],
    nves: Sequence[str],
    *,
    duration_s: float,
    guests: Collection[str] = (),
    migration_network: bool = False,
    takes: Mapping[str, Resources] | None = None,
    capacities: Mapping[str, Capacity] | None = None,
    standbys: Mapping[str, StandbyRoom] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield where moves do not fit each other or the rest of their scenario: (field, complaint).

    `where` is where the VMs are at first, `takes` what each VM takes of its server, `standbys` what
    the standbys of VMs take at first, and `capacities` what the servers have.
    """
    here, takes, capacities = dict(where), takes or {}, capacities or {}
    kept = dict(standbys or {})
    latest: dict[str, MoveSpec] = {}
    ordered = sorted(enumerate(moves), key=lambda item: item[1].earliest_s)
    for number, move in ordered:
        place = f"moves.{number}"
        if move.vm not in here:
            yield f"{place}.vm", no_such("VM", move.vm, here)
        if move.to not in nves:
            yield f"{place}.to", no_such("NVE", move.to, nves)
        for name in move.at.of if move.at else ():
            if name not in (*here, *nves):
                yield f"{place}.at.of", no_such("VM or NVE", name, (*here, *nves))
        when = f"{place}.at.from_s" if move.at else f"{place}.at_s"
        if move.earliest_s >= duration_s:
            yield when, f"this is after the end; raise duration_s above {move.earliest_s:g}"
        if move.transfer and move.vm not in guests:
            yield (
                f"{place}.transfer",
                f"{move.vm} has no state to bring over; give it a guest, or leave transfer out",
            )
        if move.transfer and move.transfer.network == "migration" and not migration_network:
            yield (
                f"{place}.transfer.network",
                "this topology has no migration network; say what each server's link to it is, "
                "topology.migration_network: {rate_mbit: 1000}, or leave network out",
            )
        if move.transfer and move.pause_ms != MoveSpec.model_fields["pause_ms"].default:
            yield (
                f"{place}.pause_ms",
                f"{move.vm} stands still for as long as its state needs; leave pause_ms out, and "
                "say transfer.downtime_limit_ms",
            )
        if move.mode == "cold" and move.transfer and move.transfer.kind != "stop-and-copy":
            yield (
                f"{place}.transfer.kind",
                "in a cold move all is brought over while the VM is suspended; leave kind out",
            )
        before = latest.get(move.vm)
        paused_s = 0.0 if before is None or before.transfer else before.pause_ms / 1000
        resumes_s = before.earliest_s + paused_s if before else 0.0
        others = [takes.get(vm, NO_RESOURCES) for vm, nve in here.items() if nve == move.to]
        for vm, standby in kept.items():
            in_place = vm == move.vm and standby.takes.memory_mb  # the VM goes on in that memory
            if standby.at == move.to and not in_place:
                others.append(standby.takes)
        free = capacities.get(move.to, UNLIMITED).without(others)
        shortage = free.shortage(takes.get(move.vm, NO_RESOURCES))
        if move.expect == "refused":
            if shortage:
                continue
            if before is None or not before.earliest_s < move.earliest_s < resumes_s:
                yield (
                    f"{place}.expect",
                    f"nothing refuses a move of {move.vm} at {move.earliest_s:g}; "
                    "ask while it stands still in another move (at_s to at_s + pause_ms), or for "
                    "a server that has no room",
                )
            continue
        if here.get(move.vm) == move.to:
            yield f"{place}.to", f"{move.vm} is at {move.to} already; name another NVE"
        elif shortage:
            yield (
                f"{place}.to",
                f"{move.to} has no room for {move.vm}: {shortage}; give topology.servers.{move.to} "
                "more, or say expect: refused",
            )
        if before is not None and move.earliest_s < resumes_s + GAP_S:
            yield (
                when,
                f"{move.vm} is still being moved at {move.earliest_s:g}; the earliest is "
                f"{resumes_s + GAP_S:g} (pause of the move before, and {GAP_S:g} s to arrive), "
                "or say expect: refused",
            )
        if move.vm in kept and kept[move.vm].at == move.to:
            ended = kept.pop(move.vm)
            if ended.reverse:
                kept[move.vm] = replace(ended, at=here.get(move.vm, move.to))
        here[move.vm] = move.to
        latest[move.vm] = move
