"""One move: what was asked for, and where it stands."""

from dataclasses import dataclass, field

from controller.core.move_fsm import Phase
from nve.model import TenantSystem


@dataclass(frozen=True)
class MoveRequest:
    """What an orchestrator asks for.  `port` is the VM's new port at the destination NVE."""

    vm: str
    to: str
    port: int
    in_flight: str = "tunnel"
    idle_s: int = 0
    timer_s: int = 0
    deadline_s: float = 60.0


@dataclass
class Move:
    """A move and where it stands."""

    number: int
    request: MoveRequest
    system: TenantSystem
    source: str
    requested_ns: int
    deadline_ns: int
    phase: Phase = Phase.PREPARING
    placed: bool = False
    """The destination NVE has been told of the VM's place there, and not to forget it again."""
    outdated: frozenset[str] = frozenset()
    """The NVEs that held an old entry when the VM arrived, and have held one ever since."""
    awaiting: dict[str, int] = field(default_factory=dict)
    """The NVEs that have not confirmed yet what this phase needs, and what: tokens of
    `DesiredState`."""

    @property
    def destination(self) -> str:
        return self.request.to
