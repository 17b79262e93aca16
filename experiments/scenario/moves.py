"""Moves of a scenario: which VM goes where and when, and what its arrival is announced with.

    - {at_s: 2, vm: vm1, to: nve2, pause_ms: 50, announce: both}

A VM goes on from where its last move has taken it, once it has arrived.  While it stands still in
a move, another one is refused; `expect: refused` says that this is what one wants to see.  Many
moves may be written as one series: `series`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.scenario.parts import Name, Part, no_such
from nve.wire.announcement import NOTHING, Announcement

GAP_S = 0.5
"""From the end of a move's pause until the VM's next move may begin: by then it has arrived.  Old
entries and the in-flight tunnel of the first may still be there; the overlay knows whose they are.
"""


class MoveSpec(Part):
    """One move, `at_s` seconds after the traffic began."""

    at_s: float = Field(ge=0)
    vm: Name
    to: Name
    mode: Literal["hot"] = "hot"
    pause_ms: float = Field(50, ge=0, le=600_000)
    announce: Literal["garp", "garp-reply", "na", "na-solicited", "both", "rarp", "none"] = "both"
    announce_times: int = Field(default=1, ge=1, le=10)
    announcement_lost: bool = False
    expect: Literal["completed", "refused"] = "completed"

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.announce == NOTHING and (self.announce_times > 1 or self.announcement_lost):
            raise ValueError(
                "announce: none leaves nothing to repeat (announce_times) or to lose "
                "(announcement_lost); name a form, such as announce: garp"
            )
        return self

    @property
    def announcement(self) -> Announcement:
        return Announcement(self.announce, self.announce_times, self.announcement_lost)


def contradictions(
    moves: Sequence[MoveSpec], where: Mapping[str, str], nves: Sequence[str], *, duration_s: float
) -> Iterator[tuple[str, str]]:
    """What moves say that does not fit each other or the rest of their scenario, given `where` the
    VMs are at first: (field, complaint)."""
    here = dict(where)
    latest: dict[str, MoveSpec] = {}
    ordered = sorted(enumerate(moves), key=lambda item: item[1].at_s)
    for number, move in ordered:
        place = f"moves.{number}"
        if move.vm not in here:
            yield f"{place}.vm", no_such("VM", move.vm, here)
        if move.to not in nves:
            yield f"{place}.to", no_such("NVE", move.to, nves)
        if move.at_s >= duration_s:
            yield f"{place}.at_s", f"this is after the end; raise duration_s above {move.at_s:g}"
        before = latest.get(move.vm)
        resumes_s = before.at_s + before.pause_ms / 1000 if before else 0.0
        if move.expect == "refused":
            if before is None or not before.at_s < move.at_s < resumes_s:
                yield (
                    f"{place}.expect",
                    f"nothing refuses a move of {move.vm} at {move.at_s:g}; "
                    "ask while it stands still in another move (at_s to at_s + pause_ms)",
                )
            continue
        if here.get(move.vm) == move.to:
            yield f"{place}.to", f"{move.vm} is at {move.to} already; name another NVE"
        if before is not None and move.at_s < resumes_s + GAP_S:
            yield (
                f"{place}.at_s",
                f"{move.vm} is still being moved at {move.at_s:g}; the earliest is "
                f"{resumes_s + GAP_S:g} (pause of the move before, and {GAP_S:g} s to arrive), "
                "or say expect: refused",
            )
        here[move.vm] = move.to
        latest[move.vm] = move
