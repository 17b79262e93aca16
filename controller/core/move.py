"""One move: what was asked for, and its present phase.

The caller names a move with a key, so that a request can be repeated without harm: the same request
under the same key is the same move.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field

from controller.core.move_fsm import Phase
from nve.model import MoveMode, TenantSystem
from nve.resources import Resources

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
InFlight: TypeAlias = Literal["tunnel", "drop"]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
"""The seconds that fit into a rule's time-out."""
Megabytes: TypeAlias = Annotated[int, Field(ge=0, le=1 << 24)]
"""An amount in units of 2^20 bytes."""


def move_key(text: str) -> str:
    """Return the text if it is a valid key of a move.  Raises ValueError."""
    if not _KEY.fullmatch(text):
        raise ValueError(
            f"{text!r} is no key for a move; take 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or a digit"
        )
    return text


@dataclass(frozen=True)
class MoveRequest:
    """What an orchestrator asks for; also the body of PUT /v1/moves/KEY.

    `port` is the VM's new port at the destination NVE.  Forwarding at the source NVE ends after
    `idle_s` without a packet, or `timer_s` after the activation (R5.5): exactly one of them is
    given. `source` is the NVE that the VM is behind, for callers who want that checked.
    `memory_mb` and `disk_mb` are what the source server has to transfer, and the destination needs
    room for (R6.1).

    In a `mode` other than hot nothing is in flight: when the caller says `redirect`, the source NVE
    accepts nothing more from the VM's port, delivers nothing to it, and drops what still comes for
    the VM, whatever `in_flight` says.  A take-over does not wait for a source NVE that is out of
    reach; when it is back, it is told the same before anything else.  But if the source's server is
    known to run (`source_runs`), its NVE may still forward, and has to confirm that first.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    vm: str
    to: str
    port: int
    in_flight: InFlight = "tunnel"
    idle_s: Seconds = 0
    timer_s: Seconds = 0
    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    source: str | None = None
    memory_mb: Megabytes = 0
    disk_mb: Megabytes = 0

    @property
    def state(self) -> Resources:
        """The size of the VM's state."""
        return Resources(memory_mb=self.memory_mb, storage_mb=self.disk_mb)

    mode: MoveMode = "hot"
    source_runs: bool = False

    @property
    def needs_source(self) -> bool:
        """Whether the move cannot go on without its source NVE."""
        return self.mode != "take-over" or self.source_runs

    @property
    def suspends(self) -> bool:
        """Whether the VM is suspended between the redirect and its arrival."""
        return self.mode != "hot"

    @property
    def treatment(self) -> InFlight:
        """What the source NVE does with packets that still come for the VM."""
        return "drop" if self.suspends else self.in_flight


@dataclass
class Move:
    """A move and its present state."""

    key: str
    request: MoveRequest
    system: TenantSystem
    source: str
    requested_ns: int
    deadline_ns: int
    phase: Phase = Phase.PREPARING
    placed: bool = False
    """Whether the destination NVE has been told the VM's port there, and not to forget it since."""
    outdated: frozenset[str] = frozenset()
    """The NVEs that held an old entry when the VM arrived, and have held one ever since."""
    awaiting: dict[str, int] = field(default_factory=dict)
    """The NVEs that have yet to confirm what this phase needs, each with the token awaited
    (`DesiredState`)."""

    @property
    def destination(self) -> str:
        return self.request.to
