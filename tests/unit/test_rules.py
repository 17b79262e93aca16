"""What CONTRIBUTING.md, results/README.md and docstrings promise of the project, held.

`test_repository.py` holds the arrows between packages, and the catalogues' own tests that a new
workload or plot is one file.
"""

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controller.core import dissemination
from experiments.measure import metrics, results, totals
from experiments.measure.results import EVENT_COLUMNS, REFUSED_COLUMNS, SCHEMA_VERSION
from experiments.measure.rows import CONNECTIONS, ITERATIONS, MIRRORS, TAKEOVERS
from experiments.scenario import load
from tests.helpers.data import DATA
from tests.helpers.sources import PACKAGES, READS_SOURCES, ROOT, imports, nodes, parsed
from topologies import catalogue

pytestmark = READS_SOURCES

SCHEMA = (ROOT / "results/README.md").read_text(encoding="utf-8")

SLEEPERS: Mapping[str, str] = {
    # module that sleeps: until what
    "nve/linux/wait.py": "a fact, or a point in time",
    "controller/app.py": "the next tick, by the framework's clock",
    "experiments/overlays/nvo3/move_requests.py": "an NVA is asked again",
    "experiments/overlays/nvo3/stray_packets.py": "packets have arrived; counters are read again",
    "experiments/probes/fleet.py": "the waiting time is over (RFC 7679)",
    "experiments/probes/sender.py": "a packet is due",
    "experiments/workloads/forging/forger.py": "a frame is due",
    "experiments/run/table_checks.py": "the next comparison is due",
    "experiments/run/schedule.py": "a move is due",
    "experiments/run/run.py": "the next progress line is due",
    "experiments/run/move_under_way.py": "the pause that was asked for is over",
    "experiments/overlays/flood_and_learn.py": "the source's port has stayed as long as asked for",
    "topologies/emulation/delay_line.py": "a frame is due",
    "nve/transfer/sender.py": "the next look at what has arrived is due",
}
"""Everywhere else, what takes time is waited for by `nve.linux.wait`."""

HELPERS_THAT_BUILD = frozenset(
    {
        *("authority", "data", "failure_trials", "frames", "handovers", "impostor", "many_moves"),
        "kinds_of_results",
        "examples",
        "kernel_ila",
        *("hosts", "nva", "nvo3", "one_nve", "overlays", "packets", "routed", "runs", "sources"),
        "streams",
        "synthetic",
        *("tenants", "wire"),
        "promises",  # judges: its broken promises are in test_fabric.py
    }
)
"""They make what tests look at, and find nothing right or wrong."""


def sources() -> Iterator[tuple[str, str]]:
    """Place and text of every module of ours."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def sleeps(source: str) -> bool:
    """Whether a module calls `sleep` of anything."""
    return any(
        getattr(call.func, "attr", getattr(call.func, "id", None)) == "sleep"
        for call in nodes(source)[ast.Call]
    )


# -- house rules -----------------------------------------------------------------------------------


def test_only_these_modules_sleep() -> None:
    assert {place for place, source in sources() if sleeps(source)} == SLEEPERS.keys()


def test_nobody_selects() -> None:
    """`select.select` ends at descriptor 1023; `nve.linux.wait` and `select.poll` do not."""
    users = [place for place, source in sources() if re.search(r"\bselect\.select\(", source)]
    assert users == []


@pytest.mark.parametrize("source", ["time.sleep(1)", "hub.sleep(1)", "sleep(1)"])
def test_a_sleep_is_seen(source: str) -> None:
    assert sleeps(f"def f():\n    {source}")
    assert not sleeps("wait_until(check, 1)")


def test_every_module_opens_with_what_it_is() -> None:
    """An `__init__` that makes its folder a package may be empty."""
    assert [
        place
        for place, source in sources()
        if source.strip() and not ast.get_docstring(parsed(source))
    ] == []


def test_what_the_nva_imports_is_pinned_for_ryu_as_well() -> None:
    pinned = (ROOT / "requirements-ryu.txt").read_text(encoding="utf-8").lower()
    libraries = {
        name.partition(".")[0]
        for place, source in sources()
        if place.startswith("controller/")
        for name in imports(place, source, known=frozenset())
    }
    others = libraries - sys.stdlib_module_names - {*PACKAGES, "os_ken"}
    assert "pydantic" in others
    assert sorted(name for name in others if f"\n{name}==" not in f"\n{pinned}") == []


# -- where tests live ------------------------------------------------------------------------------


def test_unit_tests_stand_where_their_modules_do() -> None:
    folders = {
        path.relative_to(ROOT / "tests/unit")
        for path in (ROOT / "tests/unit").rglob("test_*.py")
        for path in path.parents
        if path.is_relative_to(ROOT / "tests/unit")
    }
    assert (
        sorted(
            str(folder)
            for folder in folders
            if not (ROOT / folder).is_dir() and folder.parts[:1] != ("helpers",)
        )
        == []
    )


def test_every_helper_that_judges_is_seen_to_fail() -> None:
    tested = {
        path.stem.removeprefix("test_")
        for folder in ("tests/unit/helpers", "tests/system")
        for path in (ROOT / folder).glob("test_*.py")
    }
    helpers = {path.stem for path in (ROOT / "tests/helpers").glob("[a-z]*.py")}
    assert sorted(helpers - HELPERS_THAT_BUILD - tested) == []
    assert sorted(HELPERS_THAT_BUILD - helpers) == []


def test_there_is_a_result_of_each_schema_version() -> None:
    recorded = {int(path.name.removeprefix("result-v")) for path in DATA.glob("result-v*")}
    assert recorded == set(range(1, SCHEMA_VERSION + 1))


# -- adding something ------------------------------------------------------------------------------


def test_a_strategy_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rumour.py").write_text(
        "class Strategy:\n"
        "    def __init__(self, lifetime_s, keeps_expired):\n"
        "        self.lifetime_s, self.keeps_expired = lifetime_s, keeps_expired\n"
    )
    monkeypatch.setattr(dissemination, "__path__", [*dissemination.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    try:
        assert "rumour" in dissemination.names()
        assert dissemination.strategy("rumour", 7).lifetime_s == 7
    finally:
        sys.modules.pop("controller.core.dissemination.rumour", None)


def test_a_scenario_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine")
    monkeypatch.setattr(load, "FOLDER", tmp_path)
    assert load.find("mine") == tmp_path / "mine.yaml"


def test_a_topology_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import topologies

    (tmp_path / "lone_star.py").write_text(
        (ROOT / "topologies/star.py").read_text(encoding="utf-8")
    )
    monkeypatch.setattr(topologies, "__path__", [*topologies.__path__, str(tmp_path)])
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "catalogue.py"))
    importlib.invalidate_caches()
    catalogue._catalogue.cache_clear()
    try:
        assert catalogue.names() == ("lone-star",)
        assert catalogue.get("lone-star").build(catalogue.get("lone-star").parameters()).nves
    finally:
        catalogue._catalogue.cache_clear()
        sys.modules.pop("topologies.lone_star", None)


# -- results/README.md -----------------------------------------------------------------------------


def explained(file: str) -> set[str]:
    """The names in the first column of the table below the heading that names the file."""
    section = SCHEMA.partition(f"\n### `{file}`\n")[2].partition("\n### ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return {each for name in names for each in spelt_out(name)}


def spelt_out(name: str) -> list[str]:
    """`a_{b,c}` is `a_b` and `a_c`."""
    head, brace, rest = name.partition("{")
    if not brace:
        return [name]
    choices, _, tail = rest.partition("}")
    return [each for choice in choices.split(",") for each in spelt_out(head + choice + tail)]


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        (results.EVENTS, EVENT_COLUMNS),
        (results.MOVES, metrics.COLUMNS),
        (results.FLOWS, totals.COLUMNS),
        (results.REFUSED, REFUSED_COLUMNS),
        *(
            (each.file, tuple(each.columns))
            for each in (CONNECTIONS, ITERATIONS, MIRRORS, TAKEOVERS)
        ),
    ],
)
def test_the_schema_has_every_column_and_no_other(file: str, columns: tuple[str, ...]) -> None:
    """Files of workloads: `tests/unit/experiments/workloads/test_catalogue.py`."""
    assert explained(file) == set(columns)


def test_the_schema_names_what_the_manifest_says_about_a_run() -> None:
    section = SCHEMA.partition("\n### `manifest.json`\n")[2]
    named = {"schema", "complete", "name", "valid", "problems", "seed", "command", "probes"}
    named |= {"git_revision", "datapath", "link_emulator", "cpu_count"}
    assert sorted(name for name in named if f"`{name}`" not in section) == []
    sample = json.loads((ROOT / "results/sample/manifest.json").read_text(encoding="utf-8"))
    assert sorted(named - sample.keys()) == []


FILE = re.compile(r"`((?:nve|topologies|controller|experiments|tests|docs|scripts)/[\w/.-]+)`")
PAGES = [ROOT / "results/README.md", ROOT / "CONTRIBUTING.md", ROOT / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    examples = {"topologies/ring_of_sites.py"}
    assert [each for each in named if not (ROOT / each).exists() and each not in examples] == []
