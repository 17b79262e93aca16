"""What a simple model expects of a pre-copy: a guest that writes at a constant rate.

    V0 = M            Vi = min(r Vi-1, W)

V is what a round has to send, M the memory, W the working set, r the guest's rate of writing as a
share of the path's.  The VM is suspended at the first n at which Vn takes no longer than the limit,
or after the last round.  A guest that writes random pages writes some of them twice: it dirties W
(1 - exp(-r V / W)) of them, less than the model says (`uniform`).
"""

from dataclasses import dataclass
from math import exp

from nve.transfer.convergence import TransferLimits


@dataclass(frozen=True)
class Expected:
    """The expected figures, without the fixed costs of a pause."""

    pause_ms: float
    total_ms: float
    iterations: int
    """The number of rounds while the VM runs."""
    sent_bytes: float


def expected(
    memory_bytes: float,
    writes_bytes_s: float,
    working_set_bytes: float,
    bandwidth_bytes_s: float,
    limits: TransferLimits,
    *,
    uniform: bool = False,
) -> Expected:
    """Return what the model expects.  Raises ValueError if the path carries nothing."""
    if bandwidth_bytes_s <= 0:
        raise ValueError("the path carries nothing")
    left, sent, rounds = memory_bytes, 0.0, 0
    if limits.kind == "pre-copy":
        while True:
            took_s = left / bandwidth_bytes_s
            sent, rounds = sent + left, rounds + 1
            written = writes_bytes_s * took_s
            if uniform and working_set_bytes > 0:
                left = working_set_bytes * (1 - exp(-written / working_set_bytes))
            else:
                left = min(written, working_set_bytes)
            fits = left / bandwidth_bytes_s * 1e3 <= limits.downtime_limit_ms
            over = rounds >= limits.max_iterations
            if fits or over or sent / bandwidth_bytes_s >= limits.max_time_s:
                break
    sent += left
    pause_ms = left / bandwidth_bytes_s * 1e3
    return Expected(pause_ms, sent / bandwidth_bytes_s * 1e3, rounds, sent)
