"""Every scenario that comes with vmmlab runs on real parts, shortened, and is valid.

And so does every topology.  What a scenario is to show is shown elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.scenario import load
from experiments.scenario.load import resolve
from experiments.scenario.yaml_source import read
from tests.helpers.runs import recorded
from topologies import catalogue

SLOWLY: Mapping[str, Any] = {"traffic.*.rate_pps": 100}
SHORT: Mapping[tuple[str, str], Mapping[str, Any]] = {
    # scenario, variant: what is changed to make it short
    ("announcements", ""): {
        **{f"moves.{n}.at_s": 1 + 1.3 * n for n in range(8)},
        "duration_s": 12,
    },
    ("cold", ""): {"moves.0.at_s": 1, "moves.1.at_s": 4, "duration_s": 11},
    ("compare", "flood"): {"moves.0.series": 2, "moves.0.at_s": 1, "duration_s": 5},
    ("converge", ""): {
        "moves.0.transfer.max_iterations": 1,
        "moves.1.at_s": 6,
        "moves.1.transfer.max_iterations": 1,
        "moves.2.at_s": 11,
        "duration_s": 16,
    },
    ("demo", "drop"): {"moves.0.at.from_s": 1.5, "duration_s": 7},
    ("diskless", ""): {"moves.1.at_s": 3, "duration_s": 5},
    ("failures", "dest-early"): {},
    ("hot-l2", ""): {"moves.0.at_s": 1, "moves.1.at_s": 3, "overlay.idle_s": 1, "duration_s": 5},
    ("ila", "adjusted"): {"moves.0.at_s": 1, "moves.1.at_s": 3, "duration_s": 5},
    ("leaf-spine", ""): {"moves.0.at_s": 1, "overlay.idle_s": 1, "duration_s": 3},
    ("matrix", "pull"): {"moves.0.series": 4, "moves.0.at_s": 1, "duration_s": 7},
    ("memory", ""): {
        "moves": [{"at_s": 1, "vm": "vm1", "to": "nve2", "transfer": "post-copy"}],
        "duration_s": 4,
    },
    ("path-mtu", "fits"): {"moves.0.at_s": 1, "moves.1.at_s": 3, "duration_s": 5},
    ("path-mtu", "exceeds"): {"moves.0.at_s": 1, "moves.1.at_s": 3, "duration_s": 5},
    ("precopy", ""): {
        "moves": [{"at_s": 1, "vm": "vm1", "to": "nve2", "transfer": {"bandwidth_mbit": 40}}],
        "duration_s": 6,
    },
    ("routed", ""): {"moves.0.at_s": 1, "moves.1.at_s": 3, "duration_s": 5},
    ("shared-path", ""): {"moves": [{"at_s": 1, "vm": "vm1", "to": "nve2"}], "duration_s": 8},
    ("standby", ""): {
        "moves.0.at_s": 1,
        "failures.0.at_s": 5.4,
        "failures.0.for_s": 3,
        "duration_s": 13,
    },
    ("two-site", ""): {"moves.0.at_s": 1, "overlay.idle_s": 1, "duration_s": 3},
}
ELSEWHERE = {
    # scenario: the file of tests that runs it
    "dns": "test_task_names.py",
    "five-ways": "test_five_ways.py",
    "interfering": "test_interfering.py",
    "lossless": "test_lossless.py",
    "task-move": "test_tasks_in_lab.py",
    "tenants": "test_tenants.py",
}


@pytest.mark.parametrize(("name", "variant"), SHORT, ids=[" ".join(each) for each in SHORT])
def test_a_scenario_that_comes_with_vmmlab_is_valid(
    tmp_path: Path, name: str, variant: str
) -> None:
    file = load.find(name)
    content = read(file)
    changes = content.get("variants", {}).get(variant, {})
    plain = {**content, "variants": {}}
    wanted = resolve(plain, str(file), {**SLOWLY, **changes, **SHORT[name, variant]})
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.manifest["valid"] is True
    assert len(result.packets) > 0


def test_no_scenario_and_no_topology_is_left_out() -> None:
    shipped = {file.stem for file in load.FOLDER.glob("*.yaml")}
    assert shipped == {name for name, _ in SHORT} | ELSEWHERE.keys()
    for name, file in ELSEWHERE.items():
        assert f'"{name}"' in Path(__file__).with_name(file).read_text(encoding="utf-8")
    kinds = {read(load.find(name))["topology"]["kind"] for name in shipped}
    assert kinds == set(catalogue.names())
