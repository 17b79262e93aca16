"""The life of one move, as a table.

A move is asked for by an orchestrator, carried out by two hypervisors and two NVEs, and led by the
NVA.  This file is the whole of its logic: which phase follows which, on what event, and what has to
be done at that step.  It knows neither rules nor messages; `controller.core.authority` interprets
the steps.  Time appears only as `TIMED_OUT`, which the authority derives from the `now` it is
given.

    PREPARING    the destination NVE is getting its port and its side of the tunnel (R5.1, R5.2)
    PREPARED     it has confirmed; the VM still runs at the source, nothing is different for anybody
    REDIRECTING  the source NVE is being told to treat packets for the VM as in flight
    REDIRECTED   it has confirmed: the VM may stop now, be moved, and start at the destination.  Its
                 agent says so to the hypervisor as well (`nve.ovs.agent`), which does not wait for
                 the NVA: the VM may have arrived before the NVA hears the confirmation
    ACTIVATED    the destination announced or activated the VM: the mapping names the destination,
                 the source tunnels what still comes on old entries (R4.1.4), others learn (R4.1.3)
    CONVERGED    no NVE holds an old entry any more; the in-flight tunnel waits to fall silent
    DRAINED      the in-flight tunnel ended first; some NVE still holds an old, unused entry
    COMPLETED    both: nothing is left of the move (R3.4, R3.5)
    ROLLED_BACK  given up before arrival: the VM is active at the source, as if never asked

Moves interfere.  Once its VM has arrived, another move may begin, although old entries and the
in-flight tunnel of the earlier one still live.  A VM that goes on (A, B, C) leaves a chain of
tunnels behind it, each of which ends by itself.  A VM that comes back (A, B, A) ends the tunnel
that led away from there the moment it arrives: the earlier move's tunnel is *superseded*, for what
reaches A now is where it belongs.  Until then frames come round to A by the source NVE of the
latest move, in order, and A tells them from others by that (`nve.pipeline.compiler`).  What nobody
may do is begin a second move before the first has arrived; an announcement belongs to the youngest.

The NVA may be killed in any phase, and an NVE be cut off.  `AFTER_RESTART` says how each phase goes
on, `AWAITED` whose confirmation it needs.  A deadline counts anew from a restart, for callers could
not be heard meanwhile.  An NVE that has been out of reach for longer than `GIVE_UP_S` is no longer
waited for by a move that has arrived: the move ends without it, and the trace names it.

Who is wrong?  A caller that asks for something out of turn gets `OutOfTurn` and nothing changes.
A peer that repeats itself (an announcement sent twice, a late confirmation) is expected: those
pairs are listed in `REPEATS` and leave the phase as it is.
"""

import enum
from collections.abc import Mapping
from typing import Final


class Phase(enum.StrEnum):
    """The phase of a move."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    REDIRECTING = "redirecting"
    REDIRECTED = "redirected"
    ACTIVATED = "activated"
    CONVERGED = "converged"
    DRAINED = "drained"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled-back"


class MoveEvent(enum.StrEnum):
    """An event that can happen to a move."""

    CONFIRMED = "confirmed"
    REDIRECT_ASKED = "redirect-asked"
    ANNOUNCED = "announced"
    """By the VM, at the destination NVE."""
    ACTIVATED = "activated"
    """So says the caller."""
    LAST_ENTRY_GONE = "last-entry-gone"
    TUNNEL_ENDED = "tunnel-ended"
    ROLL_BACK_ASKED = "roll-back-asked"
    TIMED_OUT = "timed-out"


class MoveAction(enum.StrEnum):
    """The action to take on a transition."""

    NOTHING = "nothing"
    REDIRECT = "redirect"
    ACTIVATE = "activate"
    ROLL_BACK = "roll-back"


class OutOfTurn(Exception):
    """The event is not allowed in the move's phase; the move is unchanged."""

    def __init__(self, phase: Phase, event: MoveEvent) -> None:
        super().__init__(f"a move that is {phase} cannot take the event {event}")
        self.phase = phase
        self.event = event


P, E, S = Phase, MoveEvent, MoveAction
BEFORE_ACTIVATION: Final[tuple[Phase, ...]] = (P.PREPARING, P.PREPARED, P.REDIRECTING, P.REDIRECTED)
"""The phases before the VM has arrived: the move can be given up, and no other may begin."""

TRANSITIONS: Final[dict[tuple[Phase, MoveEvent], tuple[Phase, MoveAction]]] = {
    (P.PREPARING, E.CONFIRMED): (P.PREPARED, S.NOTHING),
    (P.PREPARED, E.REDIRECT_ASKED): (P.REDIRECTING, S.REDIRECT),
    (P.REDIRECTING, E.CONFIRMED): (P.REDIRECTED, S.NOTHING),
    (P.REDIRECTED, E.ACTIVATED): (P.ACTIVATED, S.ACTIVATE),
    (P.REDIRECTED, E.ANNOUNCED): (P.ACTIVATED, S.ACTIVATE),
    # The VM has left, so the source NVE redirects; the NVA has yet to hear it.
    (P.REDIRECTING, E.ANNOUNCED): (P.ACTIVATED, S.ACTIVATE),
    (P.ACTIVATED, E.LAST_ENTRY_GONE): (P.CONVERGED, S.NOTHING),
    (P.ACTIVATED, E.TUNNEL_ENDED): (P.DRAINED, S.NOTHING),
    (P.CONVERGED, E.TUNNEL_ENDED): (P.COMPLETED, S.NOTHING),
    (P.DRAINED, E.LAST_ENTRY_GONE): (P.COMPLETED, S.NOTHING),
    # Giving up is possible until the VM has arrived; afterwards the way back is another move.
    **{
        (phase, event): (P.ROLLED_BACK, S.ROLL_BACK)
        for phase in BEFORE_ACTIVATION
        for event in (E.ROLL_BACK_ASKED, E.TIMED_OUT)
    },
}

REPEATS: Final[frozenset[tuple[Phase, MoveEvent]]] = frozenset(
    {
        (phase, event)
        for phase in (P.ACTIVATED, P.CONVERGED, P.DRAINED, P.COMPLETED)
        for event in (E.ANNOUNCED, E.ACTIVATED)
    }
    | {(phase, E.TIMED_OUT) for phase in (P.ACTIVATED, P.CONVERGED, P.DRAINED)}
    | {(phase, E.CONFIRMED) for phase in (P.ACTIVATED, P.CONVERGED, P.DRAINED)}
)

FINISHED: Final[frozenset[Phase]] = frozenset({P.COMPLETED, P.ROLLED_BACK})
GIVE_UP_S: Final = 60.0
"""How long a move whose VM has arrived waits for an NVE that is out of reach, in seconds."""


class Party(enum.Enum):
    """The NVEs whose confirmation a phase can wait for."""

    SOURCE = "the source NVE"
    DESTINATION = "the destination NVE"
    EVERYBODY = "every NVE"


AWAITED: Final[Mapping[Phase, Party]] = {
    P.PREPARING: Party.DESTINATION,
    P.REDIRECTING: Party.SOURCE,
    P.ACTIVATED: Party.EVERYBODY,
    P.DRAINED: Party.EVERYBODY,
    # The destination keeps its place until nothing is sent there any more.
    P.ROLLED_BACK: Party.SOURCE,
}
"""The NVEs whose confirmation a phase waits for, also after a restart or a reconnection."""

AFTER_RESTART: Final[Mapping[Phase, str]] = {
    P.PREPARING: "goes on when the destination NVE is back and has confirmed its rules",
    P.PREPARED: "waits to be redirected; rolled back at the new deadline",
    P.REDIRECTING: "goes on when the source NVE is back and has confirmed its rules",
    P.REDIRECTED: "waits for the activation, which the orchestrator has to repeat if it was not "
    "heard; rolled back at the new deadline",
    P.ACTIVATED: "every NVE gets its rules of now and confirms them; entries with a lifetime are "
    "replaced by those of now, kept ones by a handover; the in-flight rule is told "
    "again and ends by itself again",
    P.CONVERGED: "the in-flight rule is told again and ends by itself again",
    P.DRAINED: "as activated, without the in-flight rule",
    P.COMPLETED: "stays; nothing was left of it",
    P.ROLLED_BACK: "stays; the destination's place goes when the source NVE has confirmed",
}
"""How a move in each phase continues when the NVA starts again."""


def advance(phase: Phase, event: MoveEvent) -> tuple[Phase, MoveAction]:
    """Return the phase that follows and the action to take.

    Raises OutOfTurn, and then nothing changes.
    """
    if (phase, event) in REPEATS:
        return phase, MoveAction.NOTHING
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise OutOfTurn(phase, event) from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {P.PREPARING}"]
    for (phase, event), (successor, action) in TRANSITIONS.items():
        done = "" if action is S.NOTHING else f" / {action}"
        lines.append(f"    {_node(phase)} --> {_node(successor)}: {event}{done}")
    lines += [f"    {_node(phase)} --> [*]" for phase in sorted(FINISHED)]
    return "\n".join(lines) + "\n"


def _node(phase: Phase) -> str:
    return phase.value.replace("-", "_")
