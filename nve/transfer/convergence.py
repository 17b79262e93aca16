"""Whether another round is worth it: the decisions of a pre-copy.

    round 1      everything, while the VM runs
    round n      what was written during round n - 1
    the last     what is left, while the VM stands still

A round ends with the question how long the VM would have to stand still for what is left, at the
rate of this round.  If that is within the limit, it is stopped (`converged`).  If rounds or time
are used up, it is stopped all the same (`forced`).  With `auto_converge`, a guest that writes more
than half as fast as its state is sent is throttled, more with each round, as QEMU does it.

A post-copy has no rounds: the VM is stopped at once, goes on at the destination without its memory,
and gets it then.  A hybrid begins as a pre-copy and goes over to that (`post-copy`) after so many
rounds, or where it would be stopped by force.

Names are QEMU's (`query-migrate`) where it has one.  A disk goes ahead in any case (R6.3).
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Kind = Literal["pre-copy", "stop-and-copy", "post-copy", "hybrid"]
Compression = Literal["none", "zstd"]
Network = Literal["underlay", "migration"]
Ending = Literal["converged", "forced", "asked", "post-copy"]

HAVE_ROUNDS: frozenset[Kind] = frozenset({"pre-copy", "hybrid"})
MAY_RESUME_FIRST: frozenset[Kind] = frozenset({"post-copy", "hybrid"})

LARGEST_THROTTLE_PCT = 99
WRITES_TOO_MUCH = 0.5
"""The share of what is sent meanwhile above which a guest writes too much."""


@dataclass(frozen=True)
class TransferLimits:
    """The parameters of a transfer.  A rate of None is whatever the path gives."""

    kind: Kind = "pre-copy"
    network: Network = "underlay"
    """What it goes over: the tenants' underlay, or a network of the servers' own."""
    bandwidth_mbit: float | None = None
    downtime_limit_ms: float = 300.0
    max_iterations: int = 30
    max_time_s: float = 300.0
    patience_s: float = 3.0
    """When nothing gets on for so long, the transfer is given up (`nve.transfer.stall`)."""
    auto_converge: bool = False
    throttle_step_pct: int = 10
    post_copy_after: int = 3
    """The rounds of a hybrid before it goes over to post-copy."""
    channels: int = 1
    """The number of TCP connections that carry pages in parallel."""
    zero_pages: bool = False
    """Whether pages of nothing but zeros are only named, not sent."""
    compression: Compression = "none"


@dataclass(frozen=True)
class Iteration:
    """One round and what was left after it: a line of iterations.csv."""

    iteration: int
    """The number of the round, from 1; the VM is suspended for the last."""
    status: str
    """`active`; `device` if the VM is suspended; `postcopy-active` if it runs again."""
    began_ns: int
    took_ms: float
    """The time until the destination has confirmed that it has all of it."""
    transferred_bytes: int
    normal_pages: int
    duplicate_pages: int
    """The pages of nothing but zeros, which were not sent."""
    remaining_bytes: int
    """The bytes that were written meanwhile and not sent yet."""
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
    """What one round sent in what time, and what is left."""

    pages: int
    took_s: float
    left_pages: int


@dataclass(frozen=True)
class Again:
    """Send another round, with the guest throttled by this share."""

    throttle_pct: int


@dataclass(frozen=True)
class Stop:
    """Suspend the VM for the rest."""

    why: Ending


class Convergence:
    """The decisions of one transfer."""

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._elapsed_s = 0.0
        self._rounds = 0
        self.throttle_pct = 0

    @property
    def ending_without_rounds(self) -> Ending:
        """Why the VM is suspended at once, if its kind of transfer has no rounds, or if there is
        nothing to send in one.
        """
        if self._limits.kind == "pre-copy":
            return "converged"
        return "post-copy" if self._limits.kind in MAY_RESUME_FIRST else "asked"

    def expected_downtime_ms(self, done: Round) -> float | None:
        """Return how long the rest would take at the rate of a round; None if that has no rate."""
        if done.took_s <= 0 or done.pages <= 0:
            return None
        return done.left_pages / (done.pages / done.took_s) * 1e3

    def after(self, done: Round) -> Again | Stop:
        """Decide what follows a round."""
        limits = self._limits
        self._rounds += 1
        self._elapsed_s += done.took_s
        if limits.kind not in HAVE_ROUNDS:
            return Stop(self.ending_without_rounds)
        expected_ms = self.expected_downtime_ms(done)
        if done.left_pages == 0 or (
            expected_ms is not None and expected_ms <= limits.downtime_limit_ms
        ):
            return Stop("converged")
        if limits.kind == "hybrid" and self._rounds >= limits.post_copy_after:
            return Stop("post-copy")
        if self._rounds >= limits.max_iterations or self._elapsed_s >= limits.max_time_s:
            return Stop("post-copy" if limits.kind == "hybrid" else "forced")
        writes_too_much = done.left_pages > WRITES_TOO_MUCH * done.pages
        if limits.auto_converge and writes_too_much:
            raised_pct = self.throttle_pct + limits.throttle_step_pct
            self.throttle_pct = min(LARGEST_THROTTLE_PCT, raised_pct)
        return Again(self.throttle_pct)
