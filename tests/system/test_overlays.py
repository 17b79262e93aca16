"""A run with an overlay that nobody has heard of: one file, that does nothing."""

from pathlib import Path

from tests.helpers.overlays import KIND, added_overlay
from tests.helpers.runs import recorded, scenario


def test_an_overlay_that_is_added_carries_a_run(tmp_path: Path) -> None:
    with added_overlay(tmp_path):
        wanted = scenario(overlay={"kind": KIND}, traffic=[], duration_s=2)
        outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.manifest["overlay"] == KIND
    assert "tables_compared" not in result.manifest, "it has no tables"
    assert [event.details["nve"] for event in result.events if event.name == "nic-flipped"] == [
        "nve2"
    ]
