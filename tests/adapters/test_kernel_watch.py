"""The counters of a data centre, read from this process's own namespace, a switch and a link."""

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from experiments.measure import kernel_counters
from experiments.run.kernel_watch import KernelWatch
from topologies.emulation.data_centre import DataCentre


class FakeSwitch:
    """An edge of which one can say what it has counted."""

    def __init__(self) -> None:
        self.counted: Mapping[str, int] | None = {"upcall-lost": 3}

    def counters(self) -> Mapping[str, int]:
        if self.counted is None:
            raise RuntimeError("nve1: ovs-vswitchd does not answer")
        return self.counted


def watched(switch: FakeSwitch, links: list[dict[str, Any]]) -> KernelWatch:
    centre = SimpleNamespace(
        pids={"vm1": os.getpid(), "nve1": os.getpid()},
        vms={"vm1": None},
        nves={"nve1": SimpleNamespace(edge=switch)},
        link_statistics=lambda: links,
        cabling=SimpleNamespace(dropping=["nve2>core"]),
    )
    return KernelWatch(cast(DataCentre, centre))


def of_the_data_centre(risen: kernel_counters.Rises) -> kernel_counters.Rises:
    """Without what happens on this machine meanwhile."""
    return {key: risen[key] for key in ("upcall-lost", "link-queue") if key in risen}


def test_what_a_switch_and_a_link_count_is_told_by_place() -> None:
    switch = FakeSwitch()
    links = [{"direction": "nve1>core", "dropped": 1}, {"direction": "nve2>core", "dropped": 1}]
    watch = watched(switch, links)
    assert of_the_data_centre(watch.rises()) == {}
    switch.counted = {"upcall-lost": 5}
    for row in links:
        row["dropped"] = 8
    assert of_the_data_centre(watch.rises()) == {
        "upcall-lost": {"nve1": 2},
        "link-queue": {"nve1>core": 7},
    }


def test_a_switch_that_has_died_counts_nothing() -> None:
    switch = FakeSwitch()
    watch = watched(switch, [])
    switch.counted = None
    assert of_the_data_centre(watch.rises()) == {}
