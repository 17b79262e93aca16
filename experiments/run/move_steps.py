"""A move as a table of steps.  It follows sections 4, 5 and 7 of the draft.

The table has three parts.  If a step of the first part fails, that step, which may be half done,
and those before it are undone, last to first; the VM goes on at the source.  From the second part
on, the destination has the VM, and nothing is undone.  The third part is done in the background,
and the VM's next move may begin meanwhile.

With `hold`, the overlay redirects while the VM runs at the source.  Packets that are on their way
to the VM by then are delivered to it, and later ones wait at the destination, so no packet reaches
a suspended VM.  Without `hold`, the overlay redirects after the VM has been suspended, because
packets that are redirected before the VM is at the destination would be lost.

In a cold move (R7.1) the VM is suspended first.  Then its NVE is told that the VM is not there, so
nothing is in flight.  Its state is sent like a file, and the VM is started at the destination.

A take-over is a cold move without its source, whose server has died: the standby goes on from the
last mirror (R7.2, R7.3).  The VM's old place remains, fenced, until the VM returns to it.

What a step works on is a move under way (`experiments.run.move_under_way`);
`experiments.run.interpreter` carries out a table.
"""

import enum
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from experiments.overlays import Overlay
from experiments.run.move_under_way import (
    MoveUnderWay,
    PauseOnly,
    control_plane_at,
    help_along,
    not_starved,
)
from experiments.scenario.failures import DESTINATION, SOURCE, Moment
from nve.hypervisor.realtime import realtime_priority
from nve.model import MoveMode, Rank
from nve.wire.announcement import NOTHING


class Patience(enum.StrEnum):
    """How long a request to an overlay that does not answer is repeated."""

    RUNNING = "long: the VM runs at the source"
    PAUSED = "short: the VM stands still"
    AFTERWARDS = "very long: the VM has arrived"


Do = Callable[[MoveUnderWay, float], None]
"""do(move, patience_s) carries a step out, or undoes it."""


@dataclass(frozen=True)
class Step:
    """One step.  With it, the move has reached `moment`, before the next step begins."""

    name: str
    do: Do
    undo: Do | None = None
    moment: Moment | None = None
    patience: Patience | None = None
    """How patient its request to the overlay is; None if it makes none."""
    needs: tuple[str, ...] = ()
    """The ends of the move whose server has to be alive."""

    @property
    def says(self) -> str:
        """What the step does, in a sentence."""
        return " ".join((self.do.__doc__ or "").split())


@dataclass(frozen=True)
class MoveTable:
    """All steps of a move, in order."""

    revocable: tuple[Step, ...]
    final: tuple[Step, ...]
    background: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        yield from (*self.revocable, *self.final, *self.background)


# -- what each step does ---------------------------------------------------------------------------


def _pre_associate(move: MoveUnderWay, _patience_s: float) -> None:
    """The destination's hypervisor makes a place for the VM (RFC 8394)."""
    move.hypervisor.pre_associate(
        move.edges[DESTINATION],
        move.asked.announcement,
        hold_outbound=move.overlay.can.last_packets is not None,
    )


def _take_place_away(move: MoveUnderWay, _patience_s: float) -> None:
    """The place is taken away."""
    move.hypervisor.de_associate(move.told.destination)


def _prepare(move: MoveUnderWay, patience_s: float) -> None:
    """The overlay makes the destination ready (R5.1)."""
    move.overlay.prepare(move.told, patience_s)


def _roll_back(move: MoveUnderWay, patience_s: float) -> None:
    """The overlay rolls the move back."""
    move.overlay.roll_back(move.told, patience_s)


def _pre_copy(move: MoveUnderWay, _patience_s: float) -> None:
    """State that can go ahead of the VM is brought over."""
    move.transfer.rounds(move)


def _abandon(move: MoveUnderWay, _patience_s: float) -> None:
    """The state that has come so far is discarded."""
    move.transfer.abandon(move)


def _hurry(move: MoveUnderWay, _patience_s: float) -> None:
    """From here on the move, and the processes that it waits for, have priority for a CPU."""
    help_along(move)
    move.without_delay.enter_context(realtime_priority())


def _take_time(move: MoveUnderWay, _patience_s: float) -> None:
    """The move and these processes have no priority any more."""
    move.without_delay.close()
    move.helped.close()


def _redirect(move: MoveUnderWay, patience_s: float) -> None:
    """The overlay redirects what still comes for the VM at the source (R4.1.4)."""
    move.overlay.redirect(move.told, patience_s)


def _redirect_in_pause(move: MoveUnderWay, patience_s: float) -> None:
    """The overlay redirects what still comes for the VM at the source (R4.1.4)."""
    began_s = time.monotonic()
    with control_plane_at(move, Rank.SERVER):  # the VM stands still until it has answered
        _redirect(move, patience_s)
    move.note("redirect-in-pause", took_ms=(time.monotonic() - began_s) * 1e3)


def _pause(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM is suspended: its pause begins."""
    move.hypervisor.pause()
    move.paused_at_s = time.monotonic()


def _resume(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM is resumed at the source."""
    move.hypervisor.resume()


def _lose_address(move: MoveUnderWay, _patience_s: float) -> None:
    """A VM without a disk loses its IPv4 address (R4.1.5)."""
    if move.diskless:
        move.hypervisor.lose_ipv4_address()


def _stop_and_copy(move: MoveUnderWay, _patience_s: float) -> None:
    """The rest of its state is brought over."""
    # Where that takes a while, what the VM has sent may arrive meanwhile.  Else to have it marked
    # would make the pause longer.
    if move.asked.pause_ms or not isinstance(move.transfer, PauseOnly):
        _mark(move, 0.0)
    move.transfer.final(move)


def _mark(move: MoveUnderWay, _patience_s: float) -> None:
    """A marker follows what the VM has sent last at the source, unless one does already."""
    last_packets = move.overlay.can.last_packets
    if last_packets and not move.marked:
        last_packets.mark(move.told)
        move.marked = True


def _pre_associate_cold(move: MoveUnderWay, _patience_s: float) -> None:
    """The destination's hypervisor makes a place for the VM (RFC 8394)."""
    move.hypervisor.pre_associate(move.edges[DESTINATION], move.asked.announcement)


def _make_room(move: MoveUnderWay, _patience_s: float) -> None:
    """The destination's server makes room for its state."""
    move.transfer.make_room(move)


def _suspend(move: MoveUnderWay, patience_s: float) -> None:
    """The source NVE accepts nothing from the VM's port any more, and delivers nothing (R7.1)."""
    move.overlay.redirect(move.told, patience_s)


def _copy(move: MoveUnderWay, _patience_s: float) -> None:
    """All of its state is brought over."""
    move.transfer.rounds(move)
    move.transfer.final(move)


def _let_out(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM's packets go out at once: nothing that it has sent before is on its way."""
    move.hypervisor.release()


def _flip(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM's NIC is plugged into the destination."""
    move.hypervisor.flip(move.told.destination)


def _announce(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM is announced there (R4.1.2, R4.1.6)."""
    move.hypervisor.announce()


def _take_over(move: MoveUnderWay, _patience_s: float) -> None:
    """The state at the destination replaces that at the source (R6.4)."""
    move.transfer.take_over(move)


def _thaw(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM is resumed: its pause ends."""
    move.hypervisor.thaw()


def _open(move: MoveUnderWay, _patience_s: float) -> None:
    """What waited for the VM is let through to it."""
    move.hypervisor.open()


def _settle(move: MoveUnderWay, _patience_s: float) -> None:
    """What served the pause alone ends; the control plane gets its turn."""
    move.hypervisor.settle()
    move.helped.enter_context(not_starved(move))


def _release(move: MoveUnderWay, _patience_s: float) -> None:
    """The VM's packets go out as soon as those that it has sent at the source have arrived."""
    # What it sends at the destination may have a shorter way, and is held there meanwhile.  That
    # costs order at most, so it is not held for long.
    last_packets, missing = move.overlay.can.last_packets, []
    try:
        if last_packets:
            missing = last_packets.wait(move.told)
    finally:
        move.hypervisor.release()
        move.without_delay.close()
    if missing:
        move.note("last-packets-not-awaited", nves=missing)


def _activate(move: MoveUnderWay, patience_s: float) -> None:
    """The overlay is told that the VM has arrived (RFC 8394)."""
    announced = move.asked.announce != NOTHING or move.diskless
    move.overlay.activate(move.told, patience_s, announced=announced)


def _deliver(move: MoveUnderWay, _patience_s: float) -> None:
    """The packets that were held to keep their order are delivered."""
    with move.helped:
        move.hypervisor.await_delivery(move.told.destination)


def _push(move: MoveUnderWay, _patience_s: float) -> None:
    """In a post-copy, the state that the VM was resumed without is brought over."""
    move.transfer.push(move)


def _verify(move: MoveUnderWay, _patience_s: float) -> None:
    """Both servers compare the digests of their state (R6.4)."""
    move.transfer.verify(move)


def _converge(move: MoveUnderWay, patience_s: float) -> None:
    """All NVEs have forgotten the VM's old place (R3.4)."""
    move.overlay.converge(move.told, patience_s)


def _complete(move: MoveUnderWay, patience_s: float) -> None:
    """Nothing is in flight any more (R3.5, R5.5)."""
    move.overlay.complete(move.told, patience_s)


def _de_associate(move: MoveUnderWay, patience_s: float) -> None:
    """The VM's place at the source is taken away, unless it is needed again."""
    with move.leaving() as free:
        if free:
            move.overlay.de_associate(move.told, patience_s)
            move.hypervisor.de_associate(move.told.source)


# -- the tables ------------------------------------------------------------------------------------

_PRE_ASSOCIATE = Step("pre-associate", _pre_associate, _take_place_away, needs=(DESTINATION,))
_PREPARE = Step("prepare", _prepare, _roll_back, Moment.PREPARED, Patience.RUNNING, (SOURCE,))
_PRE_COPY = Step("pre-copy", _pre_copy, _abandon, needs=(DESTINATION, SOURCE))
_HURRY = Step("hurry", _hurry, _take_time)
_REDIRECT = Step(
    "redirect", _redirect, None, Moment.REDIRECTED, Patience.RUNNING, (DESTINATION, SOURCE)
)
_REDIRECT_IN_PAUSE = replace(_REDIRECT, do=_redirect_in_pause, patience=Patience.PAUSED)
_PAUSE = Step("pause", _pause, _resume, Moment.PAUSED)
_LOSE_ADDRESS = Step("lose address", _lose_address)
_STOP_AND_COPY = Step("stop-and-copy", _stop_and_copy, moment=Moment.COPIED)

_FINAL = (
    Step("flip", _flip, needs=(DESTINATION,)),
    Step("announce", _announce),
    Step("take over", _take_over),
    Step("thaw", _thaw),
    Step("open", _open),
    Step("mark", _mark),
    Step("release", _release, moment=Moment.RESUMED),
    Step("settle", _settle),
    Step("activate", _activate, moment=Moment.ACTIVATED, patience=Patience.AFTERWARDS),
)
_RELEASE_COLD = Step("release", _let_out, moment=Moment.RESUMED)
_FINAL_COLD = tuple(
    _RELEASE_COLD if step.name == "release" else step for step in _FINAL if step.name != "mark"
)
_BACKGROUND = (
    Step("deliver", _deliver),
    Step("push", _push),
    Step("verify", _verify),
    Step("converge", _converge, moment=Moment.CONVERGED, patience=Patience.AFTERWARDS),
    Step("complete", _complete, patience=Patience.AFTERWARDS),
    Step("de-associate", _de_associate, patience=Patience.AFTERWARDS),
)

HOLDING = MoveTable(
    revocable=(
        *(_PRE_ASSOCIATE, _PREPARE, _PRE_COPY, _HURRY, _REDIRECT),
        *(_PAUSE, _LOSE_ADDRESS, _STOP_AND_COPY),
    ),
    final=_FINAL,
    background=_BACKGROUND,
)
PLAIN = MoveTable(
    revocable=(
        *(_PRE_ASSOCIATE, _PREPARE, _PRE_COPY, _HURRY),
        *(_PAUSE, _LOSE_ADDRESS, _REDIRECT_IN_PAUSE, _STOP_AND_COPY),
    ),
    final=_FINAL,
    background=_BACKGROUND,
)
COLD = MoveTable(
    revocable=(
        *(replace(_PRE_ASSOCIATE, do=_pre_associate_cold), _PREPARE),
        *(Step("make room", _make_room, _abandon), _PAUSE, _LOSE_ADDRESS),
        replace(_REDIRECT, name="suspend", do=_suspend, undo=_roll_back),
        Step("copy", _copy, moment=Moment.COPIED),
    ),
    final=_FINAL_COLD,
    background=_BACKGROUND,
)
TAKE_OVER = MoveTable(
    revocable=(
        *(replace(_PRE_ASSOCIATE, do=_pre_associate_cold), replace(_PREPARE, needs=())),
        # Before anything that takes a while: the source may come back meanwhile.
        replace(_REDIRECT, name="suspend", do=_suspend, undo=_roll_back, needs=(DESTINATION,)),
        *(Step("make room", _make_room, _abandon, Moment.COPIED), _PAUSE, _LOSE_ADDRESS),
    ),
    final=_FINAL_COLD,
    background=tuple(step for step in _BACKGROUND if step.name != "de-associate"),
)


def table_of(overlay: Overlay, mode: MoveMode) -> MoveTable:
    """Return the steps with which a VM moves in this overlay."""
    hot = PLAIN if overlay.can.hold is None else HOLDING
    return {"hot": hot, "cold": COLD, "take-over": TAKE_OVER}[mode]
