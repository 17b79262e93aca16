"""What standbys cost: latency, bandwidth and memory beside each other."""

import pytest

from experiments.measure.rows import STANDBYS
from experiments.measure.standby_costs import StandbyCost, mirrored, rows

S = 1_000_000_000


@pytest.mark.shows("R7.4")
def test_a_mirrored_one_costs_what_its_mirrors_send() -> None:
    """The first, which is all of the state, was made before anything was measured."""
    sizes = [9_000_000, 1_000_000, 1_500_000]
    mirrors = [
        {"taken_ns": number * 2 * S, "transferred_bytes": size} for number, size in enumerate(sizes)
    ]

    assert mirrored("vm1", "warm", 2.0, 8, mirrors).mirror_mbit_s == 2_500_000 * 8 / 4 / 1e6
    assert mirrored("vm1", "warm", 2.0, 8, mirrors[:1]).mirror_mbit_s == 0
    assert mirrored("vm1", "warm", 2.0, 8, []).mirror_mbit_s == 0


def test_each_has_a_line_with_the_latency_of_its_vm() -> None:
    costs = [StandbyCost("vm1", "hot", 0.0, 0.1, 8, 7, 5), StandbyCost("vm2", "warm", 1.0, 3, 8)]

    hot, warm = rows(costs, {"vm1": [1.0, 3.0, 2.0]})

    assert set(hot) == set(STANDBYS.columns)
    assert (hot["requests"], hot["latency_p50_ms"]) == (3, 2.0)
    assert hot["latency_p99_ms"] == pytest.approx(2.98)
    assert (hot["answered_first"], hot["answered_second"]) == (7, 5)
    assert (warm["requests"], warm["latency_p50_ms"], warm["answered_first"]) == (0, None, None)
