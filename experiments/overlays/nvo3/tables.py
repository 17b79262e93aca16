"""Compares what NVEs hold with what the NVA says that they should hold (R3.4, R3.5)."""

from collections.abc import Iterator

from experiments.overlays.nvo3.nva import NvaProcess
from nve.ovs.bridge import OvsInstance
from nve.pipeline import flow_dump
from nve.pipeline.flow_dump import Row
from nve.pipeline.rules import PipelineTable
from topologies.emulation.data_centre import DataCentre

READINGS = 5
"""How often an NVE is read again because what it should hold has changed meanwhile."""


def differences(data_centre: DataCentre, nva: NvaProcess) -> Iterator[list[str]]:
    """Yield the differences of each NVE in turn: rows with another place, time-out or action.

    A dead NVE is not asked."""
    connected = nva.get("health")["connected"]
    for name, nve in data_centre.nves.items():
        if not nve.edge.alive:
            continue
        if not connected[name]:
            yield [f"{name} is not connected to the NVA"]
            continue
        yield [f"{name} {each}" for each in _of_one(name, OvsInstance.of(nve.edge), nva)]


def _of_one(nve: str, switch: OvsInstance, nva: NvaProcess) -> list[str]:
    """Compare what an NVE holds with what it should hold at the same time."""
    wanted = _wanted(nve, nva)
    for _ in range(READINGS):
        held = switch.rows()
        before, wanted = wanted, _wanted(nve, nva)
        if wanted == before:
            return flow_dump.differences(held, wanted)
    return [f"was given new rules each time its rules were read ({READINGS} times)"]


def _wanted(nve: str, nva: NvaProcess) -> list[Row]:
    return [
        Row(
            int(PipelineTable[told["table"].upper()]),
            told["priority"],
            int(told["cookie"], 16),
            told["idle_s"],
            told["hard_s"],
            told["reports_end"],
            tuple(told["ovs"]),
        )
        for told in nva.get(f"nves/{nve}/rules")
    ]
