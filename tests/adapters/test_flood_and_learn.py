"""What flood-and-learn makes of the kernels' words: who sends where, and when a move is over."""

from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.measure.event_log import EventLog
from experiments.overlays import Ground, OverlayMove, get
from experiments.overlays.flood_and_learn import FloodAndLearn, Settings
from experiments.scenario import load
from experiments.scenario.schema import Scenario
from nve.edge import EdgePlace, UnderlayPort
from nve.linux_bridge.bridge import LinuxBridge
from nve.linux_bridge.fdb import FdbChange
from nve.model import Mac
from tests.helpers.lab import vm_spec
from tests.helpers.scenarios import GOOD, complaint

VM = vm_spec(1, "nve1")
VTEPS = {f"nve{number}": ip_address(f"10.1.0.{number}") for number in (1, 2, 3)}
MOVE = OverlayMove(7, VM, "nve1", "nve2", 10, 60.0)
PLUG, OUTER = "p-vm1", "vxlan5000"


def settings(**given: float) -> Settings:
    return Settings.model_validate(given)


class Overlay:
    """One on three NVEs whose kernels say what the test has them say."""

    def __init__(self) -> None:
        self.log = EventLog()
        self.edges = {name: self._edge(name) for name in VTEPS}
        nves = {
            name: SimpleNamespace(edge=edge, vtep=VTEPS[name]) for name, edge in self.edges.items()
        }
        data_centre: Any = SimpleNamespace(nves=nves, vms={"vm1": SimpleNamespace(spec=VM)})
        ground = Ground(data_centre, self.log, lambda _system, _nve: None, lambda _said: None)
        self.it = FloodAndLearn(ground, settings(linger_ms=0))

    @staticmethod
    def _edge(name: str) -> LinuxBridge:
        uplink = UnderlayPort("to-core", Mac("06:00:00:00:00:01"))
        peers = {each: vtep for each, vtep in VTEPS.items() if each != name}
        edge = LinuxBridge(EdgePlace(name, 1, 0, Path(), uplink, VTEPS[name], peers, {}), 300)
        edge._plugs["vm1"] = PLUG
        return edge

    def hears(self, nve: str, at: str, t_ns: int = 1) -> None:
        """An NVE hears the VM: at a port of its own, or from another NVE."""
        interface, vtep = (PLUG, None) if at == nve else (OUTER, VTEPS[at])
        system = VM.tenant_system
        if vtep:
            self.it._changed(t_ns, self.edges[nve], FdbChange(system, OUTER, None))
        self.it._changed(t_ns, self.edges[nve], FdbChange(system, interface, vtep))

    def forgets(self, nve: str, at: str, t_ns: int = 1) -> None:
        interface, vtep = (PLUG, None) if at == nve else (OUTER, VTEPS[at])
        gone = FdbChange(VM.tenant_system, interface, vtep, gone=True)
        self.it._changed(t_ns, self.edges[nve], gone)

    def told(self, name: str) -> list[tuple[int, str, Any]]:
        return [
            (event.t_ns, event.source, event.details.get("at", event.details.get("move")))
            for event in self.log.after()
            if event.name == name
        ]


@pytest.fixture
def overlay() -> Overlay:
    """All NVEs have heard the VM at nve1."""
    made = Overlay()
    for nve in VTEPS:
        made.hears(nve, "nve1")
    return made


def test_what_an_nve_hears_is_told_once(overlay: Overlay) -> None:
    overlay.hears("nve3", "nve1")

    assert overlay.told("entry-learned") == [(1, nve, "nve1") for nve in VTEPS]
    assert overlay.told("move-converged") == []


def test_a_move_has_converged_when_no_nve_sends_to_the_source(overlay: Overlay) -> None:
    overlay.it.redirect(MOVE, 1)
    for t_ns, nve in enumerate(("nve2", "nve1"), start=2):
        overlay.hears(nve, "nve2", t_ns)
    overlay.it.activate(MOVE, 1, announced=True)
    assert overlay.told("move-converged") == []

    overlay.hears("nve3", "nve2", 9)

    assert overlay.told("move-converged") == [(9, "runner", 7)]


def test_what_is_forgotten_is_not_sent_to_the_source_either(overlay: Overlay) -> None:
    overlay.it.redirect(MOVE, 1)
    overlay.it.activate(MOVE, 1, announced=False)
    for t_ns, nve in enumerate(VTEPS, start=2):
        overlay.forgets(nve, "nve1", t_ns)

    assert overlay.told("move-converged") == [(4, "runner", 7)]
    assert overlay.told("entry-forgotten") == [
        (2, "nve1", None),
        (3, "nve2", None),
        (4, "nve3", None),
    ]


def test_a_move_of_which_nobody_knew_the_source_has_converged_at_once() -> None:
    unheard = Overlay()
    unheard.it.redirect(MOVE, 1)
    unheard.it.activate(MOVE, 1, announced=False)

    assert [move for _, _, move in unheard.told("move-converged")] == [7]


def test_a_move_that_is_given_up_does_not_converge(overlay: Overlay) -> None:
    overlay.it.redirect(MOVE, 1)
    overlay.it.roll_back(MOVE, 1)
    for nve in VTEPS:
        overlay.forgets(nve, "nve1", 2)

    assert overlay.told("move-converged") == []


def test_the_shell_shows_where_each_nve_sends(overlay: Overlay) -> None:
    overlay.forgets("nve3", "nve1")
    table: Any = overlay.it.can.commands["fdb"].answer("")

    assert table.headings == ("VM", "VNI", "nve1", "nve2", "nve3")
    assert table.rows == [("vm1", 5000, "nve1", "nve1", "everywhere")]


# -- in a scenario ---------------------------------------------------------------------------------


def test_both_overlays_stand_in_one_file() -> None:
    content = {
        **GOOD,
        "overlay": {},
        "variants": {"ours": {}, "flood": {"overlay.kind": "flood-and-learn"}},
    }
    both: dict[str, Scenario] = load.variants(content, "both.yaml", {})

    assert [each.overlay.kind for each in both.values()] == ["nvo3", "flood-and-learn"]
    assert both["flood"].overlay.settings == settings(ageing_s=300, linger_ms=500)


def test_a_key_that_only_the_drafts_overlay_has_is_refused_by_name() -> None:
    flood = {"kind": "flood-and-learn"}
    assert complaint(GOOD, overlay={**flood, "hold": True}) == (
        "my.yaml: overlay.hold: flood-and-learn has no such key, nvo3 has; remove it"
    )
    told = complaint(GOOD, overlay={**flood, "ageing_s": 0})
    assert told.startswith("my.yaml: overlay")
    assert "ageing_s" in told


def test_what_it_takes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = get("flood-and-learn")
    assert kind.control_node is None
    monkeypatch.setattr("nve.linux.capabilities.vxlan_available", lambda: False)
    (said,) = kind.lacking(settings())
    assert "modprobe vxlan" in said
