"""What a standby costs while nothing fails: latency of the VM's service, bandwidth, memory.

A mirrored VM answers at once, and stands still for each mirror; one with a hot standby asks the
other instance first, for each request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

_NS_PER_S = 1e9


@dataclass(frozen=True)
class StandbyCost:
    """What one standby costs.  `mirror_mbit_s` is what was sent for it between the two servers,
    without the headers below the messages."""

    vm: str
    kind: str
    interval_s: float
    mirror_mbit_s: float
    standby_memory_mb: int
    """What it takes of its server, beside what the VM takes of its own."""
    answered_first: int | None = None
    answered_second: int | None = None
    """Requests that each of two instances has answered."""


def mirrored(
    vm: str, kind: str, interval_s: float, memory_mb: int, mirrors: Sequence[Mapping[str, Any]]
) -> StandbyCost:
    """Return the cost of a standby with these mirrors.

    The first mirror, which is all of the state, was made before the experiment and does not count.
    """
    took_s = (mirrors[-1]["taken_ns"] - mirrors[0]["taken_ns"]) / _NS_PER_S if mirrors else 0.0
    sent = sum(row["transferred_bytes"] for row in mirrors[1:])
    return StandbyCost(vm, kind, interval_s, sent * 8 / took_s / 1e6 if took_s else 0.0, memory_mb)


def rows(
    costs: Sequence[StandbyCost], latencies_ms: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Return the lines of standbys.csv.  `latencies_ms` has those of each VM's service before
    anything was lost; a VM without clients has none."""
    found = []
    for cost in costs:
        measured = sorted(latencies_ms.get(cost.vm, ()))
        p50, p99 = None, None
        if len(measured) > 1:
            parts = quantiles(measured, n=100, method="inclusive")
            p50, p99 = parts[49], parts[98]
        found.append(
            {
                **asdict(cost),
                "requests": len(measured),
                "latency_p50_ms": p50,
                "latency_p99_ms": p99,
            }
        )
    return found
