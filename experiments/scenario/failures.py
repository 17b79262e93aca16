"""What can fail while a VM moves, when, and the outcome that each failure must have.

The draft does not cover failures.  Here the following holds for every failure at every step of a
move: the VM is active at exactly one NVE; the move is completed, or rolled back with the VM running
at the source; an NVE that hears nothing new goes on forwarding by its last rules; and a part that
comes back is brought up to date without disturbing others.

Two steps of a move are final (`experiments.run.move_steps`):

    switch-over    the source NVE has been told where packets in flight go and is no longer needed.
                   If it dies before, the VM stays at the source.
    activation     the VM runs at the destination.  If the destination dies before, the VM goes on
                   at the source; if it dies later, the VM is lost until the destination is back.

A failure that leaves both servers alive does not roll the move back: requests are repeated until
they are answered, unless the failure lasts longer than the orchestrator's patience.

`OUTCOMES` has the outcome of each pair of failure and moment, for `hold: true`.  Without `hold` the
VM pauses before the switch-over: if the source dies in between, the move is rolled back.

The state of a VM with a `guest` has to come over the underlay before the VM can run at the
destination.  Until all of it has come, the move needs the source and the path between the two
servers: a transfer that makes no progress is given up, and the VM goes on at the source with its
own memory.  `TRANSFER_OUTCOMES` has the outcomes for a pre-copy and failures that last longer than
the transfer's patience.  In a post-copy the VM runs at the destination before its memory has come:
`POST_COPY_OUTCOMES`.
"""

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from experiments.overlays import FaultKind, OverlayKind
from experiments.scenario.parts import Part, no_such

SOURCE, DESTINATION, OTHER, ALL = "source", "destination", "another", "all"


class Moment(enum.StrEnum):
    """How far a move has come; with `hold`, in this order.

    A failure `during` a moment begins before the next step of the move.
    """

    REQUESTED = "requested"
    PREPARED = "prepared"
    COPYING = "copying"
    """A round of the transfer of the VM's state is over, and another one is under way."""
    REDIRECTED = "redirected"
    PAUSED = "paused"
    COPIED = "copied"
    """All of the VM's state is at the destination; the VM is suspended."""
    RESUMED = "resumed"
    ACTIVATED = "activated"
    CONVERGED = "converged"


OF_STATE: Final = frozenset({Moment.COPYING, Moment.COPIED})
"""The moments that a VM without state does not reach, or that are no separate moments for it."""
WITHOUT_STATE: Final = tuple(moment for moment in Moment if moment not in OF_STATE)


class FailureKind(enum.StrEnum):
    """What can fail in any data centre, and in any control network."""

    NVE_DIES = "nve-dies"
    CONTROL_CUT = "control-cut"
    CONTROL_SLOW = "control-slow"
    CONTROL_LOSSY = "control-lossy"
    UNDERLAY_PARTITION = "underlay-partition"
    UNDERLAY_LOSSY = "underlay-lossy"
    SERVER_FULL = "server-full"


SAYS: Final[Mapping[FailureKind, str]] = {
    FailureKind.NVE_DIES: "an NVE's switch is killed; nothing passes it, nobody is told",
    FailureKind.CONTROL_CUT: "no packet passes between the control node and one NVE, or all",
    FailureKind.CONTROL_SLOW: "packets between the control node and the NVEs take `delay_ms` "
    "longer",
    FailureKind.CONTROL_LOSSY: "`loss_pct` percent of the packets between the control node and "
    "one NVE, or all, are lost",
    FailureKind.UNDERLAY_PARTITION: "no packet passes between an NVE and the underlay",
    FailureKind.UNDERLAY_LOSSY: "`loss_pct` percent of the packets between an NVE and the underlay "
    "are lost: with 90, next to nothing of its bandwidth is left",
    FailureKind.SERVER_FULL: "the disk of an NVE's server is full, although there should be room "
    "there",
}
OF_ONE_NVE = frozenset(
    {
        *(FailureKind.NVE_DIES, FailureKind.UNDERLAY_PARTITION, FailureKind.UNDERLAY_LOSSY),
        FailureKind.SERVER_FULL,
    }
)
ONLY_OF_TRANSFERS = frozenset({FailureKind.SERVER_FULL})
"""The failures that a VM without state does not notice."""
LOSSY = frozenset({FailureKind.CONTROL_LOSSY, FailureKind.UNDERLAY_LOSSY})
OF_ONE_NVE_OR_ALL = frozenset({FailureKind.CONTROL_CUT, FailureKind.CONTROL_LOSSY})
OF_THE_CONTROL_NETWORK = frozenset(
    {FailureKind.CONTROL_CUT, FailureKind.CONTROL_SLOW, FailureKind.CONTROL_LOSSY}
)


class Failure(Part):
    """One failure of a part, `during` a move or `at_s` seconds after the traffic began."""

    kind: str
    """A `FailureKind`, or one of the overlay's own."""
    nve: str | None = None
    during: Moment | None = None
    move: int = Field(1, ge=1)
    at_s: float | None = Field(None, ge=0)
    for_s: float | None = Field(None, gt=0, le=3600)
    delay_ms: float | None = Field(None, gt=0, le=10_000)
    loss_pct: float | None = Field(None, gt=0, le=100)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for complaint in self._complaints():
            raise ValueError(complaint)
        return self

    def _complaints(self) -> Iterator[str]:
        if (self.during is None) == (self.at_s is None):
            yield "say when: either during: a moment of a move, or at_s"
        if self.for_s is None and self.kind != FailureKind.NVE_DIES:
            yield (
                f"say how long it lasts: for_s; only {FailureKind.NVE_DIES} may last until the end"
            )
        if self.kind in OF_ONE_NVE and self.nve in (None, ALL):
            yield f"say which NVE it concerns: nve: {SOURCE}, {DESTINATION} or a name"
        if self.kind not in OF_ONE_NVE | OF_ONE_NVE_OR_ALL and self.nve not in (None, ALL):
            yield f"{self.kind} concerns all NVEs; leave nve out"
        if self.nve in (SOURCE, DESTINATION) and self.during is None:
            yield f"nve: {self.nve} means that of a move; say during which moment, or name the NVE"
        for key, value, kinds in (
            ("delay_ms", self.delay_ms, {FailureKind.CONTROL_SLOW}),
            ("loss_pct", self.loss_pct, LOSSY),
        ):
            if value is not None and self.kind not in kinds:
                yield f"{key} is of {' and '.join(sorted(kinds))}; leave it out"
            if value is None and self.kind in kinds:
                yield f"say how much: {key}"

    def concerned(self, nves: Sequence[str], source: str = "", destination: str = "") -> list[str]:
        """Return the NVEs that it concerns; `source` and `destination` are those of its move."""
        if self.nve in (None, ALL):
            return list(nves)
        return [{SOURCE: source, DESTINATION: destination}.get(str(self.nve), str(self.nve))]


def contradictions(
    failures: Sequence[Failure],
    nves: Sequence[str],
    *,
    overlay: OverlayKind,
    moves: int,
    duration_s: float,
    control_delays: bool,
    transfers: Collection[int] = (),
) -> Iterator[tuple[str, str]]:
    """Yield where failures do not fit the rest of their scenario: (field, complaint).

    `transfers` are the numbers of the moves that bring state over.
    """
    possible = set(FailureKind) - (OF_THE_CONTROL_NETWORK if not overlay.control_node else set())
    known = sorted({*possible, *overlay.faults})
    for number, failure in enumerate(failures):
        place = f"failures.{number}"
        if failure.kind not in known:
            yield f"{place}.kind", no_such(f"failure of {overlay.kind}", failure.kind, known)
            continue
        if failure.nve is not None and failure.nve not in (SOURCE, DESTINATION, ALL, *nves):
            yield f"{place}.nve", no_such("NVE", failure.nve, nves)
        if failure.during and failure.move > moves:
            yield f"{place}.move", f"there is no move {failure.move}; there are {moves}"
        elif failure.during in OF_STATE and failure.move not in transfers:
            yield (
                f"{place}.during",
                f"move {failure.move} brings no state over; give its VM a guest, or name another "
                "moment",
            )
        if failure.at_s is not None and failure.at_s >= duration_s:
            yield (
                f"{place}.at_s",
                f"this is after the end; raise duration_s above {failure.at_s:g}",
            )
        if failure.kind == FailureKind.CONTROL_SLOW and not control_delays:
            yield (
                f"{place}.kind",
                "only a control network that delays can become slower; "
                "say for example control: {delay_ms: 1}",
            )


# -- what has to come of it ------------------------------------------------------------------------


@dataclass(frozen=True)
class FailureOutcome:
    """How a move ends, and what else the VM's correspondents notice of the failure."""

    ending: Literal["completed", "rolled back", "lost"]
    felt: str


Case = tuple[str, str]
"""A failure and the NVE it concerns: of the move, another one, or all."""


def _outcomes(
    final: Moment | None,
    before: FailureOutcome,
    after: FailureOutcome,
    moments: Sequence[Moment] = WITHOUT_STATE,
) -> dict[Moment, FailureOutcome]:
    """Return `before` for moments until the move has come to `final`, and `after` from then on.

    If `final` is None, the outcome is always `after`.
    """
    first = moments.index(final) if final else 0
    return {each: before if place < first else after for place, each in enumerate(moments)}


def _always(felt: str) -> dict[Moment, FailureOutcome]:
    outcome = FailureOutcome("completed", felt)
    return _outcomes(None, outcome, outcome)


OUTCOMES: Final[Mapping[Case, Mapping[Moment, FailureOutcome]]] = {
    (FailureKind.NVE_DIES, SOURCE): _outcomes(
        Moment.REDIRECTED,
        FailureOutcome("rolled back", "the VM is unreachable until its NVE is back"),
        FailureOutcome("completed", "packets in flight are lost; others reach the VM"),
    ),
    (FailureKind.NVE_DIES, DESTINATION): _outcomes(
        Moment.RESUMED,
        FailureOutcome("rolled back", "packets held at the destination are lost"),
        FailureOutcome("completed", "the VM is unreachable until its NVE is back"),
    ),
    (FailureKind.NVE_DIES, OTHER): _always(
        "correspondents behind that NVE are cut off until it is back"
    ),
    (FailureKind.CONTROL_CUT, ALL): _always(
        "nothing; the move goes on when the NVEs are reachable again"
    ),
    (FailureKind.CONTROL_CUT, SOURCE): _always(
        "nothing; the move goes on when the NVE is reachable again"
    ),
    (FailureKind.CONTROL_CUT, DESTINATION): _always(
        "nothing; the move goes on when the NVE is reachable again"
    ),
    (FailureKind.CONTROL_SLOW, ALL): _always("nothing; the move takes longer"),
    (FailureKind.CONTROL_LOSSY, ALL): _always("nothing; the move takes longer"),
    (FailureKind.UNDERLAY_PARTITION, SOURCE): _always(
        "packets from and to the source NVE are lost while it lasts, packets in flight with them"
    ),
    (FailureKind.UNDERLAY_PARTITION, DESTINATION): _always(
        "packets from and to the destination NVE are lost while it lasts"
    ),
    (FailureKind.UNDERLAY_LOSSY, SOURCE): _always(
        "most packets from and to the source NVE are lost while it lasts"
    ),
    (FailureKind.UNDERLAY_LOSSY, DESTINATION): _always(
        "most packets from and to the destination NVE are lost while it lasts"
    ),
}


def _of_transfer(final: Moment, before: str, after: str) -> dict[Moment, FailureOutcome]:
    return _outcomes(
        final,
        FailureOutcome("rolled back", before),
        FailureOutcome("completed", after),
        tuple(Moment),
    )


_NOT_VERIFIED = "digests that were not compared yet cannot be, which the trace says"
_GOES_ON = "the VM goes on at the source; it stands still for the transfer's `patience_s`"
TRANSFER_OUTCOMES: Final[Mapping[Case, Mapping[Moment, FailureOutcome]]] = {
    (FailureKind.NVE_DIES, SOURCE): _of_transfer(
        Moment.COPIED,
        "the VM goes on at the source, and is unreachable until its NVE is back",
        f"packets in flight are lost; {_NOT_VERIFIED}",
    ),
    (FailureKind.NVE_DIES, DESTINATION): _of_transfer(
        Moment.RESUMED,
        _GOES_ON,
        f"the VM is unreachable until its NVE is back; {_NOT_VERIFIED}",
    ),
    **{
        (kind, place): _of_transfer(
            Moment.COPIED,
            f"{_GOES_ON}; packets from and to the {place} NVE are lost while it lasts",
            f"packets from and to the {place} NVE are lost while it lasts; {_NOT_VERIFIED}",
        )
        for kind in (FailureKind.UNDERLAY_PARTITION, FailureKind.UNDERLAY_LOSSY)
        for place in (SOURCE, DESTINATION)
    },
    (FailureKind.SERVER_FULL, DESTINATION): _of_transfer(
        Moment.COPYING,
        "the VM goes on at the source, and nothing of it was sent",
        "nothing: all of its disk was set aside before anything was sent",
    ),
}


_LOST = FailureOutcome(
    "lost", "neither server has all of the VM's memory: it answers no more, and the trace says so"
)
POST_COPY: Final = (Moment.COPIED, Moment.RESUMED, Moment.ACTIVATED)
"""The moments at which it matters that a VM runs before its memory has come: pages are missing
until some time after the activation."""
POST_COPY_OUTCOMES: Final[Mapping[Case, Mapping[Moment, FailureOutcome]]] = {
    (FailureKind.NVE_DIES, SOURCE): dict.fromkeys(POST_COPY, _LOST),
    (FailureKind.NVE_DIES, DESTINATION): {
        **dict.fromkeys(POST_COPY, _LOST),
        Moment.COPIED: FailureOutcome("rolled back", _GOES_ON),
    },
    (FailureKind.UNDERLAY_PARTITION, SOURCE): dict.fromkeys(POST_COPY, _LOST),
    (FailureKind.UNDERLAY_PARTITION, DESTINATION): dict.fromkeys(POST_COPY, _LOST),
    (FailureKind.UNDERLAY_LOSSY, SOURCE): dict.fromkeys(POST_COPY, _LOST),
    (FailureKind.UNDERLAY_LOSSY, DESTINATION): dict.fromkeys(POST_COPY, _LOST),
}


def post_copy_outcomes_with(
    faults: Mapping[str, FaultKind],
) -> Mapping[Case, Mapping[Moment, FailureOutcome]]:
    """Return `POST_COPY_OUTCOMES`, and those of an overlay's own failures."""
    whole = {
        (name, ALL): dict.fromkeys(POST_COPY, FailureOutcome("completed", fault.felt))
        for name, fault in faults.items()
    }
    return {**POST_COPY_OUTCOMES, **whole}


def transfer_outcomes_with(
    faults: Mapping[str, FaultKind],
) -> Mapping[Case, Mapping[Moment, FailureOutcome]]:
    """Return `TRANSFER_OUTCOMES`, and those of an overlay's own failures.

    No state goes through what fails then.  But where the move waits for it between the rounds and
    the pause, what the VM writes meanwhile is sent in the pause.
    """
    longer = "the VM's pause is longer by what it has written while the move waited"
    whole = {
        (name, ALL): dict.fromkeys(Moment, FailureOutcome("completed", f"{fault.felt}; {longer}"))
        for name, fault in faults.items()
    }
    return {**TRANSFER_OUTCOMES, **whole}


def outcomes_with(
    faults: Mapping[str, FaultKind],
) -> Mapping[Case, Mapping[Moment, FailureOutcome]]:
    """Return `OUTCOMES`, and those of an overlay's own failures: its moves are completed all the
    same.
    """
    return {**OUTCOMES, **{(name, ALL): _always(fault.felt) for name, fault in faults.items()}}
