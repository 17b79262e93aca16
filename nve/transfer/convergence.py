"""Whether another round is worth it: the decisions of a pre-copy.

    round 1      everything, while the VM runs
    round n      what was written during round n - 1
    the last     what is left, while the VM stands still

A round ends with the question how long the VM would have to stand still for what is left, at the
rate of this round.  If that is within the limit, it is stopped (`converged`).  If rounds or time
are used up, it is stopped all the same (`forced`).  With `auto_converge`, a guest that writes more
than half as fast as its state is sent is throttled, more with each round, as QEMU does it.

Names are QEMU's (`query-migrate`) where it has one.  A disk goes ahead in any case (R6.3).
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nve.guest.spec import PAGE_SIZE

Kind = Literal["pre-copy", "stop-and-copy"]
Ending = Literal["converged", "forced", "asked"]

LARGEST_THROTTLE_PCT = 99
WRITES_TOO_MUCH = 0.5
"""Of what is sent meanwhile."""


@dataclass(frozen=True)
class TransferLimits:
    """How a transfer is to go.  A rate of None is what the path gives."""

    kind: Kind = "pre-copy"
    bandwidth_mbit: float | None = None
    downtime_limit_ms: float = 300.0
    max_iterations: int = 30
    max_time_s: float = 300.0
    auto_converge: bool = False
    throttle_step_pct: int = 10


@dataclass(frozen=True)
class Iteration:
    """One round and what was left after it: a line of iterations.csv."""

    iteration: int
    """From 1; the one that the VM stands still for is the last."""
    status: str
    """`active`, or `device` where the VM stands still."""
    began_ns: int
    took_ms: float
    """Until the destination has said that it has all of it."""
    transferred_bytes: int
    normal_pages: int
    remaining_bytes: int
    """Written meanwhile, and not sent yet."""
    mbps: float
    dirty_pages_rate: float
    """Pages a second that were written for the first time in this round."""
    expected_downtime_ms: float | None
    cpu_throttle_percentage: int

    def row(self) -> dict[str, Any]:
        return asdict(self)


ITERATION_COLUMNS = tuple(field.name for field in fields(Iteration))


@dataclass(frozen=True)
class Round:
    """What a round was: what it sent in what time, and what is left."""

    pages: int
    octets: int
    took_s: float
    left_pages: int


@dataclass(frozen=True)
class Again:
    """Another round; the guest is throttled so much."""

    throttle_pct: int


@dataclass(frozen=True)
class Stop:
    """The VM is to be stopped for the rest."""

    why: Ending


class Convergence:
    """The decisions of one transfer."""

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._elapsed_s = 0.0
        self._rounds = 0
        self.throttle_pct = 0

    def expected_downtime_ms(self, done: Round) -> float | None:
        """How long the rest would take at the rate of a round; None if that has none."""
        if done.took_s <= 0 or done.octets <= 0:
            return None
        return done.left_pages * PAGE_SIZE / (done.octets / done.took_s) * 1e3

    def after(self, done: Round) -> Again | Stop:
        """A round is over."""
        limits = self._limits
        self._rounds += 1
        self._elapsed_s += done.took_s
        if limits.kind == "stop-and-copy":
            return Stop("asked")
        expected_ms = self.expected_downtime_ms(done)
        if done.left_pages == 0 or (
            expected_ms is not None and expected_ms <= limits.downtime_limit_ms
        ):
            return Stop("converged")
        if self._rounds >= limits.max_iterations or self._elapsed_s >= limits.max_time_s:
            return Stop("forced")
        writes_too_much = done.left_pages > WRITES_TOO_MUCH * done.pages
        if limits.auto_converge and writes_too_much:
            raised_pct = self.throttle_pct + limits.throttle_step_pct
            self.throttle_pct = min(LARGEST_THROTTLE_PCT, raised_pct)
        return Again(self.throttle_pct)
