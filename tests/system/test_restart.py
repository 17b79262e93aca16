"""The NVA is killed while moves interfere, and goes on: what its journal holds is enough.

A single move with the NVA killed at each moment is among the failures (`test_failures`).  Here a VM
goes there and back, so that two moves of it are unfinished when the NVA dies.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.overlays.nvo3 import NVA_DIES
from experiments.scenario.failures import Moment
from tests.helpers.runs import recorded, scenario

RATE_PPS = 100
THERE_AND_BACK = [
    {"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 20},
    {"at_s": 2, "vm": "vm1", "to": "nve1", "pause_ms": 20},
]
FLOWS = [("vm2", "vm1"), ("vm3", "vm1"), ("vm4", "vm1"), ("vm3", "vm2"), ("vm2", "vm4")]
TRAFFIC = [
    {"kind": "udp-probe", "from": a, "to": b, "family": family, "rate_pps": RATE_PPS}
    for a, b in FLOWS
    for family in ("ipv4", "ipv6")
]
UPDATE: dict[str, dict[str, Any]] = {
    "push": {"overlay__mapping_update": "push"},
    "pull": {
        "overlay__mapping_update": "pull",
        "overlay__lifetime_s": 4,
        "overlay__on_expiry": "keep",
    },
}
"""An NVE that forgets an entry and has nobody to ask loses what it has for it until it has."""


@pytest.mark.shows("R3.4", "R3.5", "R4.1.2", "R4.1.3", "R4.1.4")
@pytest.mark.parametrize("update", UPDATE)
@pytest.mark.parametrize("moment", [Moment.PREPARED, Moment.REDIRECTED, Moment.ACTIVATED])
def test_the_nva_dies_while_a_vm_is_on_its_way_back(
    tmp_path: Path, update: str, moment: Moment
) -> None:
    """The first move's tunnel (it would last for 3 s) and old entries are still there."""
    death = {"kind": NVA_DIES, "during": moment.value, "move": 2, "for_s": 1}
    wanted = scenario(
        **UPDATE[update],
        overlay__hold=True,
        overlay__idle_s=3,
        traffic=TRAFFIC,
        moves=THERE_AND_BACK,
        failures=[death],
        duration_s=8,
    )
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert set(result.moves["outcome"]) == {"completed"}
    assert result.moves["lost"].sum() == 0
    # The first move had not converged, or the NVA was dead, when its counters were to be read.
    first, last = result.metrics.groupby("move")["packets_via_source_after_convergence"].first()
    assert first == 0 or pd.isna(first)
    assert last == 0
    story = [event.name for event in result.events]
    assert story.count("nva-restarted") == 1
    assert story.count("mapping-updated") == 2
    ended = [event.details for event in result.events if event.name == "in-flight-ended"]
    why = {line["move"]: line["why"] for line in ended}
    # With push, nothing may have used the first tunnel for as long as the NVA was away.
    assert why in [{1: "superseded", 2: "idle"}, {1: "idle", 2: "idle"}]
