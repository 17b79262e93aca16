"""A server moves in five ways while a client downloads from it and asks it."""

from pathlib import Path
from typing import Any

import pytest

from experiments.measure.visits import visit
from experiments.scenario.load import find, resolve
from experiments.scenario.yaml_source import read
from tests.helpers.runs import recorded

CONTENT = read(find("five-ways"))
SHORTER: dict[str, Any] = {
    "tasks.web.arguments": {"octets": 15_000_000, "send_buffer": 200_000},
    "topology.link": {"delay_ms": 1, "rate_mbit": 16},
    "duration_s": 18,
    "variants": {},
}
TO_DO = {
    "close-dns": "look up, reconnect",
    "close-push": "reconnect",
    "migrate": "nothing",
    "ila": "nothing",
    "multipath": "speak Multipath TCP",
}


@pytest.mark.shows("R4.2.1.1", "R4.2.1.2", "R4.2.1.3", "R4.2.2")
@pytest.mark.parametrize("way", CONTENT["variants"])
def test_the_document_comes_whole(way: str, tmp_path: Path) -> None:
    wanted = resolve(CONTENT, "five-ways", {**CONTENT["variants"][way], **SHORTER})
    outcome, found = recorded(wanted, tmp_path / "result")
    assert outcome.problems == []
    fetched, asked = found.rows("fetch"), found.rows("ask")
    assert fetched is not None
    assert asked is not None
    assert fetched["whole"].iloc[-1] == 15_000_000
    figures = visit(found.events, fetched, asked)
    assert figures is not None
    protocol = "mptcp" if way == "multipath" else "tcp"
    assert figures.asked_of_the_client(protocol) == TO_DO[way]
    noted = {event.name for event in found.events}
    if way == "multipath":
        assert {"address-signalled", "subflows-joined", "address-withdrawn"} <= noted
        assert "address-not-replaced" not in noted
    else:
        assert "task-move-completed" in noted
    if TO_DO[way] != "nothing" and way != "multipath":
        assert figures.again
    else:
        assert figures.again == 0
