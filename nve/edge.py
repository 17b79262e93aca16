"""An edge: the part of a server that connects its VMs to the overlay (an NVE, RFC 7365).

Each kind of edge is a folder beside this file.  A data centre makes all its edges with one
`EdgeFactory` and brings each up in three steps, because interfaces and addresses come in between:

    launch       its processes start              nothing is wired yet
    configure    it takes the underlay interface  interfaces are there and up
    settle       it is ready to send              addresses, neighbours and routes are there

Nothing here says how an edge learns where VMs are; that is between the edge and its overlay.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nve.model import IPAddress, Mac, VmSpec, Vtep


@dataclass(frozen=True)
class UnderlayPort:
    """The interface of an NVE's namespace that leads to the underlay."""

    interface: str
    mac: Mac


@dataclass(frozen=True)
class EdgePlace:
    """Where an edge is, and what it is given of the underlay."""

    name: str
    number: int
    """From 1, in the order of the topology."""
    pid: int
    """The id of a process in its namespace."""
    directory: Path
    """The directory for sockets and logs; it does not exist yet."""
    uplink: UnderlayPort
    vtep: Vtep
    peers: Mapping[str, Vtep]
    """The underlay addresses of all other NVEs."""
    neighbours: Mapping[IPAddress, Mac]
    """The neighbours that it reaches directly, with addresses of the VTEPs' IP version."""


class Edge(Protocol):
    """One edge.

    All methods return when what they do has been done, and raise RuntimeError with the edge's name
    if it cannot be done.
    """

    @property
    def name(self) -> str:
        """The name of its NVE."""

    @property
    def pid(self) -> int:
        """The id of a process in its namespace."""

    @property
    def offloads(self) -> bool:
        """Whether cables to it may leave checksums and segmentation to it."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which commands typed in its namespace talk to this edge and no
        other.
        """

    @property
    def aliases(self) -> Mapping[str, str]:
        """Shell aliases for commands that are typed in its namespace."""

    def dpctl(self, words: Sequence[str]) -> Sequence[str]:
        """Return the command behind `dpctl WORDS` of Mininet's command line."""

    def launch(self) -> None:
        """Start the edge's processes."""

    def configure(self) -> None:
        """Take the underlay interface."""

    def settle(self) -> None:
        """Become ready to send through the underlay; also after `revive`."""

    def plug_in(self, interface: str, vm: VmSpec, port: int, *, lane: bool = False) -> None:
        """Make an interface of the namespace the port of a VM, or that port's lane."""

    @property
    def alive(self) -> bool:
        """Whether it forwards."""

    def counters(self) -> Mapping[str, int]:
        """Return how many packets its switch had no room for, or handed up, since it was started.

        The keys are the names of switches' counters in `experiments.measure.kernel_counters`.  The
        result is empty if the edge counts none or does not answer.
        """

    def die(self) -> None:
        """Stop forwarding at once, as the loss of its server would."""

    def revive(self) -> None:
        """Start again after `die`, with the cables it had; `settle` follows."""

    def stop(self) -> None:
        """End it, in whatever state it is."""


@dataclass(frozen=True)
class EdgeFactory:
    """Makes the edges of one data centre."""

    says: str
    """What the edges are, in words shown at the bring-up."""
    make: Callable[[EdgePlace], Edge]
    vtep_device: str | None = None
    """The interface that holds the VTEP address, if that is not the underlay interface."""
    kernel_forwards: bool = True
    """Whether the kernel forwards tunnel packets between interfaces, on any processor; a program
    that reads them one after the other keeps their order by itself."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the manifest, at least `datapath`: runs with different ones cannot be compared.
    """
