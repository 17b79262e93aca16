"""One table of what is needed: for `doctor`, for a run, and for the installer."""

import ast
import re
from collections.abc import Iterator

import pytest

from experiments import needs, overlays
from experiments.catalogue import WORKLOADS
from tests.helpers.scenarios import resolved
from tests.helpers.sources import READS_SOURCES, ROOT, nodes

STARTS = {"run", "run_in", "Popen", "_ask", "_succeeds"}
"""Functions that start a program: the first of a list, or the first words."""
ESSENTIAL = {"sh", "modprobe", "unshare", "git"}
"""Parts of every Debian, or of OTHER_PACKAGES, and of nobody's experiment."""


def test_the_installer_installs_what_the_table_needs() -> None:
    script = (ROOT / "scripts/install-debian-packages").read_text(encoding="utf-8")
    listed = script.partition("needed=(\n")[2].partition("\n)\n")[0]
    installed = [line.split()[0] for line in listed.splitlines()]
    assert len(installed) == len(set(installed))
    assert set(installed) == {*needs.PACKAGES.values(), *needs.OTHER_PACKAGES}


def test_every_program_is_needed_by_somebody() -> None:
    usual = needs.of_scenario(resolved(traffic=[]))
    assert [p for p, users in needs.users().items() if not users and p not in usual] == []


@pytest.mark.parametrize(
    "programs",
    [
        *(pytest.param(each.PROGRAMS, id=kind) for kind, each in WORKLOADS.all().items()),
        *(pytest.param(overlays.get(kind).programs, id=kind) for kind in overlays.names()),
    ],
)
def test_every_program_of_a_plug_in_has_its_package(programs: tuple[str, ...]) -> None:
    assert set(programs) <= needs.PACKAGES.keys()


def test_a_scenario_needs_what_its_overlay_and_its_traffic_need() -> None:
    without, having = needs.of_scenario(resolved(traffic=[])), needs.of_scenario(resolved())
    assert "iperf3" not in without
    assert having["iperf3"] == "traffic: tcp-bulk"
    assert having["ovs-vswitchd"] == "overlay: nvo3"
    assert having["mnexec"] == "every run"


@READS_SOURCES
def test_every_program_that_is_started_is_in_the_table() -> None:
    started = {
        program
        for package in ("nve", "topologies", "experiments", "controller")
        for path in (ROOT / package).rglob("*.py")
        for program in programs_started(path.read_text(encoding="utf-8"))
    }
    assert {"iperf3", "ip", "ovs-ofctl", "tcpdump", "mnexec"} <= started
    assert started - ESSENTIAL - needs.PACKAGES.keys() == set()


def test_a_program_that_is_started_is_seen() -> None:
    source = 'run_in(pid, ["frobnicate", "--now"])\nself._ask("knead", x)\nprint("loaf", "crust")'
    assert set(programs_started(source)) == {"frobnicate", "knead"}


def programs_started(source: str) -> Iterator[str]:
    """Literal first words of what is started, or is put into a list that looks like a command."""
    for listed in nodes(source)[ast.List]:
        if len(listed.elts) > 1:
            yield from _command(listed.elts)
    for call in nodes(source)[ast.Call]:
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else ""
        name = function.id if isinstance(function, ast.Name) else name
        if name in STARTS:
            yield from _command(call.args)


def _command(words: list[ast.expr]) -> Iterator[str]:
    literal = [each.value for each in words if isinstance(each, ast.Constant)]
    first = words[0] if words else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return
    looks_like_a_command = any(isinstance(each, str) and each[:1] == "-" for each in literal[1:])
    known = first.value in needs.PACKAGES or looks_like_a_command or len(words) > len(literal)
    if known and re.fullmatch(r"[a-z][a-z0-9-]+", first.value):
        yield first.value
