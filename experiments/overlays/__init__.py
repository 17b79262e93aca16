"""What an overlay is to an experiment: the few things that one can ask of any of them.

The orchestrator, the probes and the clock do not know which overlay carries the traffic.  Each
overlay is one file here, with a class that offers this interface; `nvo3` is the draft's.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from experiments.measure.trace import TraceEvent
from nve.model import VmSpec


@dataclass(frozen=True)
class OverlayMove:
    """One move as an overlay sees it.  `port` is the VM's port number at both NVEs.

    Until it is `deadline_s` old it is the orchestrator's to give up; then it has been forgotten.
    """

    number: int
    vm: VmSpec
    source: str
    destination: str
    port: int
    deadline_s: float


class MoveRefused(Exception):
    """The overlay does not accept the move; the message is its own, and nothing has changed."""


class Overlay(Protocol):
    """An overlay that stands on the data centre it was made with.

    Where `patience_s` is given, a control plane that does not answer is asked again until then.
    """

    def start(self) -> None:
        """Make the NVEs an overlay."""

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """A VM starts behind an NVE."""

    def begin(self) -> None:
        """The experiment begins now: forget what warming up has taught."""

    def prepare(self, move: OverlayMove, patience_s: float) -> None:
        """Make the destination ready; the VM runs at the source and notices nothing.

        Raises Refused.
        """

    def redirect(self, move: OverlayMove, patience_s: float) -> None:
        """The VM is about to stop at the source."""

    def await_last_packets(self, move: OverlayMove) -> list[str]:
        """The VM stands still: wait for what it has sent to arrive, but not for long.

        Returns the NVEs that it may still be on the way to.
        """

    def activate(self, move: OverlayMove, patience_s: float, *, announced: bool) -> None:
        """The VM runs at the destination, and has announced itself there or not."""

    def converge(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until nobody knows the VM's old place any more."""

    def complete(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until nothing is left of the move."""

    def de_associate(self, move: OverlayMove, patience_s: float) -> None:
        """The VM's place at the source is gone."""

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        """Give the move up: the VM runs at the source."""

    def where(self) -> dict[str, str]:
        """The NVE of each VM, as the overlay believes."""

    def differences(self) -> list[str]:
        """Where an NVE holds something else than it should, a sentence each."""

    def events(self) -> list[TraceEvent]:
        """What the overlay itself has to say about what happened."""

    def refused(self) -> list[dict[str, Any]]:
        """What was dropped or refused as forged, unknown or too much, and whose it was: rows with
        the columns of refused.csv (results/README.md)."""

    def stop(self) -> None:
        """End what `start` started."""
