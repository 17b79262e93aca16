"""The shape of the code, held by walking its imports; the tables below are its documentation.

    experiments --> topologies --> nve            nobody imports experiments
    experiments --> controller --> nve            controller and topologies do not know each other

A folder is a *room*, and a room is a layer: ROOMS says which others of its package it may import.
In each package a *pure ring* stands apart from the *adapters*.  A pure module takes the clock as an
argument and does no I/O: it imports nothing of IMPURE, opens no file, and imports no adapter of
ours.  Every module is pure unless ADAPTERS names it or its room, so that a new topology is held to
it from its first day.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.helpers.sources import (
    READS_SOURCES,
    ROOT,
    imports,
    is_within,
    nodes,
    parsed,
    read_packages,
)

pytestmark = READS_SOURCES

ARROWS: Mapping[str, frozenset[str]] = {
    # package: the packages of ours that it may import
    "nve": frozenset(),
    "topologies": frozenset({"nve"}),
    "controller": frozenset({"nve"}),
    "experiments": frozenset({"nve", "topologies", "controller"}),
}

ONLY_THE_PURE_RING = frozenset(
    {
        # from, to: the NVA runs as a process of its own and touches no NVE but by OpenFlow; the
        # experiments talk to it over its northbound interface, never import its application
        ("controller", "nve"),
        ("experiments", "controller"),
    }
)

ROOMS: Mapping[str, frozenset[str]] = {
    # room: the other rooms of its package that it may import (a package's own folder is a room,
    # too).  A room within a room belongs to it.
    "nve": frozenset({"nve.pipeline", "nve.wire"}),
    "nve.wire": frozenset({"nve"}),
    "nve.pipeline": frozenset({"nve", "nve.wire"}),
    "nve.linux": frozenset(),
    "nve.guest": frozenset({"nve.linux"}),
    "nve.transfer": frozenset({"nve.guest", "nve.hypervisor", "nve.linux"}),
    "nve.task": frozenset({"nve", "nve.linux", "nve.wire"}),
    "nve.ovs": frozenset({"nve", "nve.hypervisor", "nve.linux", "nve.pipeline", "nve.wire"}),
    "nve.linux_bridge": frozenset({"nve", "nve.linux", "nve.wire"}),
    "nve.hypervisor": frozenset({"nve", "nve.linux", "nve.wire"}),
    "topologies": frozenset(),
    "topologies.emulation": frozenset({"topologies"}),
    "controller.core": frozenset(),
    "controller.storage": frozenset({"controller.core"}),
    "controller.southbound": frozenset({"controller.core"}),
    "controller": frozenset(
        {
            *("controller.core", "controller.northbound"),
            *("controller.southbound", "controller.storage"),
        }
    ),
    "controller.northbound": frozenset(
        {"controller", "controller.core", "controller.southbound", "controller.storage"}
    ),
    # What may time a move are events of the trace, whose names are `experiments.measure.trace`'s.
    "experiments.scenario": frozenset(
        {"experiments", "experiments.measure", "experiments.overlays"}
    ),
    "experiments.measure": frozenset({"experiments"}),
    "experiments.report": frozenset({"experiments.measure"}),
    "experiments.probes": frozenset(),
    "experiments.workloads": frozenset(
        {"experiments.measure", "experiments.probes", "experiments.scenario"}
    ),
    "experiments.overlays": frozenset({"experiments", "experiments.measure"}),
    "experiments.run": frozenset(
        {
            *("experiments", "experiments.measure", "experiments.overlays"),
            *("experiments.probes", "experiments.scenario", "experiments.workloads"),
        }
    ),
    "experiments": frozenset(
        {
            *("experiments.measure", "experiments.overlays", "experiments.report"),
            *("experiments.run", "experiments.scenario"),
        }
    ),
}

ADAPTERS: Mapping[str, frozenset[str]] = {
    # package: its rooms and modules that touch the world, its entry points among them
    "nve": frozenset(
        {
            *("edge", "guest.dirty_log", "guest.machine", "guest.paired", "guest.process"),
            *("hypervisor", "linux"),
            *("linux_bridge.bridge", "linux_bridge.watch", "ovs", "transfer.connection"),
            *("transfer.missing_pages", "transfer.receiver", "transfer.sender", "transfer.state"),
            *("task.addresses", "task.arrivals", "task.link", "task.old_stack", "task.orders"),
            *("task.multipath", "task.names", "task.process", "task.program", "task.sockets"),
            *("task.programs.http_server", "task.programs.process", "task.programs.stream"),
            *("task.initial_window", "task.repair"),
            *("transfer.mirror_receiver", "transfer.mirror_sender"),
        }
    ),
    "topologies": frozenset({"catalogue", "emulation"}),
    "controller": frozenset(
        {"__main__", "app", "northbound", "nva", "settings", "southbound", "storage"}
    ),
    "experiments": frozenset(
        {
            *("carry_out", "cli", "doctor", "machine", "shell", "sweep", "task_programs"),
            "terminal",
            *(
                "measure.event_log",
                "measure.recording",
                "measure.results",
                "scenario.load",
                "scenario.yaml_source",
            ),
            *(
                "report.comparison",
                "report.guestperf",
                "report.html",
                "report.interactive",
                "report.narrative",
                "report.plots",
            ),
            *("report.move_tables", "report.summary", "report.tables", "report.task_tables"),
            *("run", "overlays.*"),  # each overlay; what they have in common is pure
            *("probes.fleet", "probes.process", "probes.receiver", "probes.samples"),
            *("probes.sender", "workloads"),
        }
    ),
}

PURE_AMONG_ADAPTERS: Mapping[str, frozenset[str]] = {
    # package: modules in those rooms that are pure all the same
    "experiments": frozenset(
        {
            *("workloads.counting.exchange", "workloads.forging.forged"),
            *("workloads.iperf3.output", "workloads.rarp.talk"),
            "run.cut_off",
        }
    ),
}

IMPURE = frozenset(
    {
        *("asyncio", "eventlet", "select", "selectors", "signal", "socket", "subprocess"),
        *("concurrent", "multiprocessing", "threading", "time"),
        *("glob", "io", "os", "pathlib", "shutil", "sys", "tempfile"),
        *("ctypes", "fcntl", "mininet", "os_ken", "pyroute2", "ryu"),
    }
)

WIRE_NUMBERS = re.compile(
    r"\b0x(?:0?806|0?800|8035|86dd|8100|88b5)\b|\b4789\b|\bNEIGHBOUR_\w+(?:, \w+)* = \d",
    re.IGNORECASE,
)
"""EtherTypes, the VXLAN port, and the types of neighbour discovery, as one writes them down."""

OCTETS_ARE_JUDGED = ("tests/unit/nve/wire", "tests/adapters/test_packets.py")
"""Tests that compare octets with an RFC write the numbers down anew."""

CONTRACTS = frozenset({"Parameters", "Program", "Settings", "Strategy"})
"""Names of classes that every plug-in of a kind has: topologies, tasks, the NVA, strategies."""

HOMES: Mapping[str, frozenset[str]] = {
    # library: the only places that may know it
    "mininet": frozenset({"topologies.emulation"}),
    "os_ken": frozenset({"controller"}),
    "ryu": frozenset({"controller"}),
}


def violations(sources: Mapping[str, str]) -> list[str]:
    """What the given modules (dotted name: source text) do against the tables, as sentences."""
    against = [
        f"{module} imports {imported}: {reason}"
        for module, source in sorted(sources.items())
        for imported in sorted(set(imports(module, source, known=frozenset(sources))))
        for reason in objections(module, imported)
    ]
    opened = [
        f"{module} opens a file: {module} is pure"
        for module, source in sorted(sources.items())
        if is_pure(module) and opens_a_file(source)
    ]
    return against + opened


def opens_a_file(source: str) -> bool:
    """Whether a module calls the built-in `open`."""
    return any(
        isinstance(call.func, ast.Name) and call.func.id == "open"
        for call in nodes(source)[ast.Call]
    )


def texts_in_the_locale(source: str) -> Iterator[int]:
    """The lines in which a text file is opened in whatever encoding the user's locale has."""
    for call in nodes(source)[ast.Call]:
        if "encoding" in {each.arg for each in call.keywords}:
            continue
        match call.func:
            case ast.Attribute(attr="read_text" | "write_text"):
                yield call.lineno
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr="open"):
                # `os.open` is about descriptors, and a gate can be opened, too.
                is_file = bool(call.args or call.keywords) or "file" in owner or "path" in owner
                if owner != "os" and is_file and not _is_binary(call.args):
                    yield call.lineno
            case ast.Attribute(attr="open") if not _is_binary(call.args):
                yield call.lineno
            case ast.Name(id="open") if not _is_binary(call.args[1:]):
                yield call.lineno


def _is_binary(arguments: list[ast.expr]) -> bool:
    return any(isinstance(each, ast.Constant) and "b" in str(each.value) for each in arguments)


def room_of(module: str) -> str:
    """The room of ROOMS in which a module stands: the longest that it is in."""
    rooms = [room for room in ROOMS if is_within(module, room)]
    return max(rooms, key=len, default=module.split(".")[0])


def objections(module: str, imported: str) -> Iterator[str]:
    """The rules of the tables that `module` breaks by importing `imported`."""
    package, library = module.split(".")[0], imported.split(".")[0]
    if library in ARROWS and library != package:
        if library not in ARROWS[package]:
            yield f"{package} may import {', '.join(sorted(ARROWS[package])) or 'no other package'}"
        elif (package, library) in ONLY_THE_PURE_RING and not is_pure(imported):
            yield f"{package} may import only the pure ring of {library}"
    if library == package:
        room, entered = room_of(module), room_of(imported)
        if entered != room and entered not in ROOMS[room]:
            yield f"{room} may import {', '.join(sorted(ROOMS[room])) or 'no other room'}"
    if is_pure(module) and library in IMPURE:
        yield f"{module} is pure (if it is an adapter, name it in ADAPTERS)"
    if is_pure(module) and library == package and not is_pure(imported):
        yield f"{module} is pure, {imported} is an adapter"
    homes = HOMES.get(library)
    if homes is not None and not any(is_within(module, home) for home in homes):
        yield f"only {', '.join(sorted(homes))} may"


def is_pure(module: str) -> bool:
    """Whether the module belongs to the pure ring; a module in a sub-package goes with that."""
    package, _, rest = module.partition(".")
    if rest in PURE_AMONG_ADAPTERS.get(package, ()):
        return True
    return not any(is_within(rest, adapter) for adapter in ADAPTERS[package])


def test_nothing_outside_tests_needs_tests() -> None:
    """So that benchmarks and documents stand without them."""
    outside = [*ARROWS, "benchmarks", "docs"]
    found = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for folder in outside
        for path in (ROOT / folder).rglob("*.py")
        for imported in imports(path.stem, path.read_text(encoding="utf-8"), frozenset())
        if is_within(imported, "tests")
    ]
    assert found == []


def read_pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_imports_follow_the_arrows() -> None:
    assert violations(read_packages()) == []


def test_every_adapter_and_room_named_is_there() -> None:
    tables = (*ADAPTERS.items(), *PURE_AMONG_ADAPTERS.items())
    modules = {f"{package}.{module}" for package, modules in tables for module in modules}
    named = {module.removesuffix(".*") for module in modules}
    assert sorted((named | ROOMS.keys()) - read_packages().keys()) == []


def test_every_folder_is_a_room_or_within_one() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ARROWS
        for path in (ROOT / package).rglob("__init__.py")
    }
    below_packages = {".".join(folder.split(".")[:2]) for folder in folders}
    assert sorted(below_packages - ROOMS.keys()) == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("nve.model", "import topologies.star", "nve may import no other package"),
        ("nve.ovs.bridge", "from experiments import run", "nve may import no other package"),
        (
            "topologies.star",
            "from controller.core.directory import Mapping",
            "topologies may import nve",
        ),
        ("controller.app", "from nve.ovs.bridge import OvsInstance", "only the pure ring of nve"),
        ("experiments.run.run", "from controller import app", "only the pure ring of controller"),
        ("nve.pipeline.compiler", "import time", "nve.pipeline.compiler is pure"),
        ("nve.pipeline.compiler", "from time import monotonic", "nve.pipeline.compiler is pure"),
        (
            "nve.pipeline.compiler",
            "def f():\n    import subprocess",
            "nve.pipeline.compiler is pure",
        ),
        ("nve.pipeline.compiler", "import os, socket", "nve.pipeline.compiler is pure"),
        ("nve.pipeline.compiler", "from os import path\nimport concurrent.futures", "is pure"),
        (
            "nve.pipeline.compiler",
            "from ..ovs.bridge import OvsInstance",
            "nve.ovs.bridge is an adapter",
        ),
        ("nve.pipeline.compiler", "from ..ovs import bridge", "nve.pipeline may import nve, nve.w"),
        ("nve.pipeline.compiler", "from pathlib import Path", "nve.pipeline.compiler is pure"),
        ("nve.pipeline.compiler", "import io", "nve.pipeline.compiler is pure"),
        ("nve.pipeline.compiler", "def f():\n    open('x')", "nve.pipeline.compiler is pure"),
        ("topologies.star", "from mininet.net import Mininet", "only topologies.emulation may"),
        ("experiments.run.run", "import os_ken.base.app_manager", "only controller may"),
    ],
)
def test_the_checker_sees_what_is_forbidden(module: str, source: str, reason: str) -> None:
    others = dict.fromkeys(["nve.ovs.bridge", "controller.app", "experiments.run.run"], "")
    found = violations({**others, module: source})
    assert all(each.startswith((f"{module} imports ", f"{module} opens ")) for each in found)
    assert any(reason in each for each in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nve.ovs.bridge", "import subprocess, time\nfrom nve.model import Mac"),
        ("topologies.star", "from nve.model import Mac\nfrom .spec import Fabric"),
        ("topologies.emulation.data_centre", "from mininet.net import Mininet"),
        ("controller.core.directory", "from nve import model\nimport enum"),
        ("controller.app", "from os_ken.base import app_manager"),
        (
            "experiments.run.run",
            "from topologies.emulation.data_centre import DataCentre\nimport time",
        ),
        (
            "experiments.scenario.schema",
            "from controller.core.directory import Mapping\nimport datetime",
        ),
    ],
)
def test_the_checker_lets_an_allowed_import_pass(module: str, source: str) -> None:
    others = dict.fromkeys(["nve.model", "controller.core.directory"], "")
    assert violations({**others, module: source}) == []


def test_what_is_on_the_wire_is_named_in_one_place() -> None:
    """In `nve.wire.frames`; whoever needs an EtherType imports it from there."""
    home = "nve/wire/frames.py"
    folders = [*ARROWS, "benchmarks", "tests"]
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    named = {name for name, source in sources.items() if WIRE_NUMBERS.search(source)}
    assert home in named
    assert [name for name in named - {home} if not name.startswith(OCTETS_ARE_JUDGED)] == []


def test_files_are_utf_8_whatever_the_locale() -> None:
    outside = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]
    sources = {
        **read_packages(),
        **{str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in outside},
    }
    found = {name: list(texts_in_the_locale(source)) for name, source in sources.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", [1]),
        ("(a / b).write_text(text)", [1]),
        ("(a / b).open('a')", [1]),
        ("self._file.open()", [1]),
        ("open(file)", [1]),
        ("open(file, 'rb'); (a / b).open('wb'); path.read_text(encoding='utf-8')", []),
        ("os.open(path, flags); place.reorder_buffer.open()", []),
    ],
)
def test_the_checker_sees_a_text_in_the_locale(source: str, found: list[int]) -> None:
    assert list(texts_in_the_locale(source)) == found


def test_a_class_name_is_defined_once() -> None:
    """So that nobody has to give it another name on import.  CONTRACTS has those that a plug-in
    must have, whatever file it is in."""
    places: dict[str, list[str]] = {}
    for module, source in read_packages().items():
        for node in parsed(source).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in CONTRACTS} == {}
    assert places.keys() >= CONTRACTS


def test_only_adapters_are_checked_less_strictly_by_mypy() -> None:
    """The pure ring is typed strictly; the list of exceptions in pyproject.toml only shrinks."""
    relaxed = {
        module
        for override in read_pyproject()["tool"]["mypy"]["overrides"]
        if override.get("disallow_untyped_defs") is False
        for module in override["module"]
        if module.split(".")[0] in ARROWS
    }
    assert relaxed
    assert sorted(module for module in relaxed if is_pure(module)) == []


@pytest.mark.shows("T6")
def test_every_dependency_is_pinned() -> None:
    project = read_pyproject()["project"]
    wanted = {"requirements.txt": project["dependencies"]}
    wanted |= {f"requirements-{e}.txt": n for e, n in project["optional-dependencies"].items()}
    for lock, names in wanted.items():
        pins = (ROOT / lock).read_text(encoding="utf-8")
        pinned = set(re.findall(r"^([a-z0-9-]+)==[0-9.a-z]+$", pins, re.MULTILINE))
        assert sorted({name.lower() for name in names} - pinned) == []
