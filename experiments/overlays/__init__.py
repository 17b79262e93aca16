"""What an overlay is to an experiment: the few things that one can ask of any of them.

The orchestrator, the probes and the clock do not know which overlay carries the traffic.  Each
overlay is one file here, with a class that offers this interface; `nvo3` is the draft's.
"""

from dataclasses import dataclass
from typing import Protocol

from experiments.events import Event
from nve.model import VmSpec


@dataclass(frozen=True)
class Relocation:
    """One move as an overlay sees it.  `port` is the VM's port number at both NVEs."""

    number: int
    vm: VmSpec
    source: str
    destination: str
    port: int


class Overlay(Protocol):
    """An overlay that stands on the data centre it was made with."""

    def start(self) -> None:
        """Make the NVEs an overlay."""

    def attach(self, vm: VmSpec, nve: str, port: int) -> None:
        """A VM starts behind an NVE."""

    def begin(self) -> None:
        """The experiment begins now: forget what warming up has taught."""

    def prepare(self, move: Relocation) -> None:
        """Make the destination ready; the VM runs at the source and notices nothing."""

    def switch_over(self, move: Relocation) -> None:
        """The VM is about to stop at the source."""

    def arrive(self, move: Relocation, *, announced: bool) -> None:
        """The VM runs at the destination, and has announced itself there or not."""

    def complete(self, move: Relocation, timeout_s: float) -> None:
        """Wait until nothing is left of the move."""

    def release(self, move: Relocation) -> None:
        """The VM's place at the source is gone."""

    def roll_back(self, move: Relocation) -> None:
        """Give the move up: the VM runs at the source."""

    def where(self) -> dict[str, str]:
        """The NVE of each VM, as the overlay believes."""

    def events(self) -> list[Event]:
        """What the overlay itself has to say about what happened."""

    def stop(self) -> None:
        """End what `start` started."""
