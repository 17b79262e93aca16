"""Parts of the testbed fail while a VM moves: what comes of it is what `OUTCOMES` says.

Every kind of failure at two moments or more, every moment at least once; `make test-failures`
carries out all pairs.  A run whose VM is active at two places or none, whose
NVEs hold anything else than the NVA wants, or whose mapping is wrong at the end has problems.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.measure import metrics, results
from experiments.measure.recording import Recorder
from experiments.measure.results import Result
from experiments.overlays import OverlayMove
from experiments.overlays.nvo3 import NVA_DIES
from experiments.overlays.nvo3.overlay import Nvo3
from experiments.run.interpreter import MoveUndone
from experiments.run.lab import Lab
from experiments.run.run import Run
from experiments.scenario.failures import (
    ALL,
    DESTINATION,
    OF_ONE_NVE,
    OTHER,
    SOURCE,
    WITHOUT_STATE,
    Case,
    FailureKind,
    Moment,
)
from experiments.scenario.moves import MoveSpec
from nve.hypervisor import freezer
from nve.ovs.bridge import OvsInstance
from nve.pipeline.rules import PipelineTable
from tests.helpers import many_moves, synthetic
from tests.helpers.failure_trials import (
    OUTCOMES,
    TENANTS,
    WITH_END_MARKERS,
    carry_out,
    observe,
    trial,
)
from tests.helpers.nvo3 import nvo3, ovs
from tests.helpers.packets import packets
from tests.helpers.runs import recorded, scenario

CUT_FOR_S = 7.0
"""Longer than an NVE needs to find the NVA gone (`inactivity_probe`)."""
PAIRS: list[tuple[Case, Moment]] = [
    ((FailureKind.NVE_DIES, SOURCE), Moment.PREPARED),
    ((FailureKind.NVE_DIES, SOURCE), Moment.REDIRECTED),
    ((FailureKind.NVE_DIES, DESTINATION), Moment.PAUSED),
    ((FailureKind.NVE_DIES, DESTINATION), Moment.RESUMED),
    ((FailureKind.NVE_DIES, OTHER), Moment.ACTIVATED),
    ((NVA_DIES, ALL), Moment.REQUESTED),
    ((NVA_DIES, ALL), Moment.REDIRECTED),
    ((NVA_DIES, ALL), Moment.RESUMED),
    ((FailureKind.CONTROL_CUT, ALL), Moment.PREPARED),
    ((FailureKind.CONTROL_CUT, DESTINATION), Moment.RESUMED),
    ((FailureKind.CONTROL_SLOW, ALL), Moment.REQUESTED),
    ((FailureKind.CONTROL_SLOW, ALL), Moment.PAUSED),
    ((FailureKind.CONTROL_LOSSY, ALL), Moment.PREPARED),
    ((FailureKind.CONTROL_LOSSY, ALL), Moment.ACTIVATED),
    ((FailureKind.UNDERLAY_PARTITION, SOURCE), Moment.REDIRECTED),
    ((FailureKind.UNDERLAY_PARTITION, DESTINATION), Moment.CONVERGED),
    ((FailureKind.UNDERLAY_LOSSY, SOURCE), Moment.RESUMED),
    ((FailureKind.UNDERLAY_LOSSY, DESTINATION), Moment.REDIRECTED),
]
MARKED_PAIRS: list[tuple[Case, Moment]] = [
    # With end markers: whoever fails, a gate may wait for markers that do not come.
    ((FailureKind.CONTROL_CUT, DESTINATION), Moment.RESUMED),
    ((FailureKind.CONTROL_CUT, DESTINATION), Moment.PAUSED),
    ((FailureKind.CONTROL_CUT, ALL), Moment.REDIRECTED),
    ((NVA_DIES, ALL), Moment.RESUMED),
    ((FailureKind.NVE_DIES, SOURCE), Moment.PAUSED),
    ((FailureKind.NVE_DIES, DESTINATION), Moment.PAUSED),
    ((FailureKind.NVE_DIES, OTHER), Moment.RESUMED),
]


def test_every_kind_is_tried_at_two_moments_and_every_moment_is_tried() -> None:
    tried = [(kind, moment) for (kind, _), moment in PAIRS]

    assert {moment for _, moment in tried} == set(WITHOUT_STATE)
    # A server that is full concerns moves with state: test_transfer_failures.py.
    kinds = {*FailureKind, NVA_DIES} - {FailureKind.SERVER_FULL}
    assert all(len({at for of, at in tried if of == kind}) >= 2 for kind in kinds)


def named(pairs: list[tuple[Case, Moment]]) -> dict[str, Any]:
    return {
        "argnames": ("case", "moment"),
        "argvalues": pairs,
        "ids": [f"{kind}-{place}-{at}" for (kind, place), at in pairs],
    }


@pytest.mark.shows("R3.4", "R3.5", "R4.1.4", "R5.5")
@pytest.mark.parametrize(**named(PAIRS))
def test_a_failure_has_the_outcome_it_has_to_have(
    tmp_path: Path, case: Case, moment: Moment
) -> None:
    has_its_outcome(case, moment, tmp_path / "result")


@pytest.mark.shows("R3.4", "R3.5", "R4.1.4", "R5.5")
@pytest.mark.parametrize(**named(MARKED_PAIRS))
def test_a_failure_has_the_same_outcome_with_end_markers(
    tmp_path: Path, case: Case, moment: Moment
) -> None:
    has_its_outcome(case, moment, tmp_path / "result", **WITH_END_MARKERS)


@pytest.mark.matrix
@pytest.mark.parametrize("changes", [{}, WITH_END_MARKERS], ids=["plain", "end-marker"])
@pytest.mark.parametrize(
    **named([(case, at) for case, moments in OUTCOMES.items() for at in moments])
)
def test_every_failure_at_every_moment_has_its_outcome(
    tmp_path: Path, case: Case, moment: Moment, changes: dict[str, Any]
) -> None:
    has_its_outcome(case, moment, tmp_path / "result", **changes)


def test_a_gate_does_not_wait_for_a_destination_that_cannot_be_told(tmp_path: Path) -> None:
    """A VM that says nothing: the NVA hears of its arrival when the destination is cut off, not
    before, as it would of an announcement."""
    silent = {**WITH_END_MARKERS, "moves.0.announce": "none"}
    cut = (FailureKind.CONTROL_CUT, DESTINATION)
    has_its_outcome(cut, Moment.RESUMED, tmp_path / "result", **silent)


def has_its_outcome(case: Case, moment: Moment, out: Path, **changes: Any) -> None:
    lasts_s = CUT_FOR_S if case[0] is FailureKind.CONTROL_CUT else None
    came = carry_out(case, trial(case, moment, lasts_s, **changes), out)
    if any("this machine took" in said for said in came.problems):  # it says nothing about NVEs
        out = out.with_name("again")
        came = carry_out(case, trial(case, moment, lasts_s, **changes), out)

    assert came.problems == []
    assert came.ending == OUTCOMES[case][moment].ending
    assert came.bystanders_lost == 0
    if case[0] not in OF_ONE_NVE:
        assert came.lost == 0
    if case[0] is FailureKind.CONTROL_CUT:
        # NVEs forward what they were told; a gate may wait for a marker for `end_marker_s`, 1 s.
        assert came.silence_ms < 2000
    story = [event.name for event in results.load(out).events]
    assert story.count("failure-injected") == story.count("failure-ended") == 1


def test_without_holding_a_paused_vm_goes_back_to_a_source_that_has_died(tmp_path: Path) -> None:
    """It has not been redirected then (see `experiments.scenario.failures`)."""
    case = (FailureKind.NVE_DIES, SOURCE)
    changes = {"overlay.hold": False}
    came = carry_out(case, trial(case, Moment.PAUSED, **changes), tmp_path / "result")

    assert (came.ending, came.problems) == ("rolled back", [])


def test_a_move_that_is_given_up_without_a_failure_is_a_problem(tmp_path: Path) -> None:
    """The excuse is checked: here, the failure comes long after the move was given up."""
    case = (FailureKind.NVE_DIES, DESTINATION)
    dead = trial(case, Moment.PAUSED).failures[0].model_dump(mode="json", exclude_none=True)
    late = {**dead, "during": "converged"}
    came = carry_out(case, trial(case, Moment.PAUSED, failures=[late, dead]), tmp_path / "result")

    assert came.ending == "rolled back"
    assert came.problems == ["failure 1, nve-dies, never happened: converged"]


def test_a_vm_goes_back_before_anything_of_its_move_is_cleared_away(tmp_path: Path) -> None:
    moves = [
        {"at_s": 0.5, "vm": "vm1", "to": "nve2", "pause_ms": 20},
        {"at_s": 1.3, "vm": "vm1", "to": "nve1", "pause_ms": 20},
    ]
    wanted = scenario(overlay__hold=True, overlay__idle_s=3, moves=moves, duration_s=3)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert set(result.moves["outcome"]) == {"completed"}
    assert result.moves["lost"].sum() == 0


# -- the checks, checked ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(scenario(traffic=[], moves=[])) as running:
        yield running


def problems(lab: Lab) -> list[str]:
    """What the end of a run would have to say about the lab."""
    run = Run(lab.scenario, recorder=None, options=None, progress=None)  # type: ignore[arg-type]
    run._check_places(lab)
    return run._outcome.problems


def test_two_active_places_and_none_are_seen(lab: Lab) -> None:
    hypervisor = lab.orchestrator.hypervisors["vm1"]
    hypervisor.lay_cable(ovs(lab.data_centre.nves["nve2"]))
    places = hypervisor._places
    assert problems(lab) == []

    places["nve2"].set_forwarding(True)
    assert problems(lab) == ["vm1 is at nve1, but plugged into nve1 and nve2"]
    places["nve2"].set_forwarding(False)
    places["nve1"].set_forwarding(False)
    assert problems(lab) == ["vm1 is at nve1, but plugged into no NVE"]
    places["nve1"].set_forwarding(True)

    assert problems(lab) == []


def test_a_vm_that_stands_still_is_seen(lab: Lab) -> None:
    cgroup = lab.data_centre.vms["vm1"].cgroup
    freezer.freeze(cgroup)
    assert problems(lab) == ["vm1 stands still"]
    freezer.thaw(cgroup)
    assert problems(lab) == []


def test_rules_that_an_nve_should_not_have_or_lacks_are_seen(lab: Lab) -> None:
    switch = ovs(lab.data_centre.nves["nve1"])
    assert nvo3(lab).differences() == []

    switch.ofctl("add-flow", "br-int", "cookie=0x5,priority=7,actions=drop")
    assert nvo3(lab).differences() == [
        "nve1 holds 1 rule that the NVA has not asked for: 0000000000000005"
    ]
    switch.ofctl("--strict", "del-flows", "br-int", "priority=7")
    assert nvo3(lab).differences() == []

    switch.ofctl("--strict", "del-flows", "br-int", "table=0,priority=0")
    (missing,) = nvo3(lab).differences()
    assert missing.startswith("nve1 lacks 1 rule that the NVA has asked for: ")
    cookie = missing.rpartition(" ")[2]
    switch.ofctl("add-flow", "br-int", f"cookie=0x{cookie},table=0,priority=0,actions=drop")
    assert nvo3(lab).differences() == []


@pytest.mark.shows("R3.4", "R3.5")
def test_an_entry_that_leads_to_the_wrong_nve_is_seen(lab: Lab) -> None:
    """It has the cookie, the place and the time-outs that it should have."""
    nves, mac = lab.data_centre.nves, lab.data_centre.vms["vm1"].spec.mac
    switch, (right, wrong) = ovs(nves["nve3"]), (str(nves[n].vtep) for n in ("nve1", "nve2"))
    assert nvo3(lab).differences() == []

    held = switch.ofctl("--no-names", "--no-stats", "dump-flows", "br-int")
    (line,) = (line.strip() for line in held.splitlines() if mac in line and right in line)
    entry, _, actions = line.partition(" actions=")
    told = re.match(r"cookie=(\w+), (table=\d+), (priority=.*)", entry)
    assert told, entry
    cookie, table, matched = told.groups()
    place = f"{table},{matched}"
    switch.ofctl("--strict", "mod-flows", "br-int", f"{place},actions={actions}")
    assert nvo3(lab).differences() == []

    astray = actions.replace(right, wrong)
    switch.ofctl("--strict", "mod-flows", "br-int", f"{place},actions={astray}")
    (different,) = nvo3(lab).differences()
    assert different.startswith(
        "nve3 holds 1 rule in another form than the NVA has asked for: "
        f"{int(cookie, 16):016x} does {astray}"
    )
    assert different.endswith(f"not {actions} ({table.replace('=', ' ')}, priority 10)")

    switch.ofctl("--strict", "mod-flows", "br-int", f"{place},actions={actions}")
    assert nvo3(lab).differences() == []


@pytest.mark.shows("R3.4", "R3.5")
def test_tables_are_compared_after_each_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second move puts right what is wrong after the first: the run's end does not see it."""
    complete = Nvo3.complete

    def complete_and_lead_astray(self: Nvo3, move: OverlayMove, timeout_s: float) -> None:
        complete(self, move, timeout_s)
        if move.number == 1:
            nves = self._data_centre.nves
            astray = f"set_field:5000->tun_id,set_field:{nves['nve1'].vtep}->tun_dst,output:1"
            entry = f"table={PipelineTable.FORWARD.value},dl_dst={move.vm.mac},actions={astray}"
            ovs(nves["nve3"]).ofctl("mod-flows", "br-int", entry)

    monkeypatch.setattr(Nvo3, "complete", complete_and_lead_astray)
    moves = [{"at_s": at_s, "vm": "vm1", "to": to} for at_s, to in ((0.5, "nve2"), (4, "nve1"))]
    wanted = scenario(overlay__hold=True, traffic=[], moves=moves, duration_s=5)
    outcome, result = recorded(wanted, tmp_path / "result")

    (problem,) = outcome.problems
    assert problem.startswith(
        "after move 1: nve3 holds 1 rule in another form than the NVA has asked for ("
    )
    assert (outcome.compared, outcome.completed) == (2, 2)
    assert result.manifest["tables_compared"] == {"moves": 2, "of": 2}
    compared = [event.details for event in result.events if event.name == "tables-compared"]
    assert [(told["after"], len(told["differences"])) for told in compared] == [([1], 1), ([2], 0)]


def test_a_cable_that_cannot_be_laid_is_the_cause_that_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(switch: OvsInstance, name: str, ofport: int) -> None:
        raise RuntimeError(f"{switch.name} has no room")

    monkeypatch.setattr(OvsInstance, "add_port", full)
    with pytest.raises(MoveUndone, match="nve3 has no room"):
        lab.orchestrator.move(1, MoveSpec.model_validate({"at_s": 0, "vm": "vm2", "to": "nve3"}))

    assert lab.orchestrator.where["vm2"] == "nve1"
    assert problems(lab) == []


def test_an_observation_tells_bystanders_from_correspondents(tmp_path: Path) -> None:
    case = (FailureKind.UNDERLAY_PARTITION, OTHER)
    came = carry_out(case, trial(case, Moment.ACTIVATED), tmp_path / "spared")

    assert came.lost > 0
    assert came.bystanders_lost == 0


CONCERNED, SPARED, OF_NVE3 = "vm2>vm1/ipv4", "by1>by4/ipv4", "by4>by3/ipv4"


@pytest.mark.parametrize(
    ("case", "losses", "lost", "bystanders_lost"),
    [
        ((FailureKind.NVE_DIES, OTHER), {}, 0, 0),
        ((FailureKind.NVE_DIES, OTHER), {SPARED: 1}, 0, 1),
        ((FailureKind.NVE_DIES, OTHER), {OF_NVE3: 2}, 0, 0),
        ((FailureKind.NVE_DIES, OTHER), {CONCERNED: 3, SPARED: 1, OF_NVE3: 2}, 3, 1),
        ((FailureKind.NVE_DIES, SOURCE), {OF_NVE3: 2, SPARED: 1}, 0, 2),
        ((FailureKind.CONTROL_CUT, ALL), {OF_NVE3: 2, SPARED: 1}, 0, 3),
    ],
)
def test_losses_of_bystanders_are_observed(
    tmp_path: Path, case: Case, losses: dict[str, int], lost: int, bystanders_lost: int
) -> None:
    """Made-up packets.  A flow of an NVE that has failed is none that has to be spared."""
    came = observe(case, ["a problem"], made_up(tmp_path / "result", losses))

    assert (came.lost, came.bystanders_lost) == (lost, bystanders_lost)
    assert (came.ending, came.problems) == ("completed", ["a problem"])


def made_up(out: Path, losses: Mapping[str, int]) -> Result:
    """A result of one move of vm1 with these losses, none of them before it."""
    homes = {vm: nve for tenant in TENANTS for vm, nve in tenant["vms"].items()}
    delays: dict[str, list[float | None]] = {
        flow: [1.0] * 1000 for flow in (CONCERNED, SPARED, OF_NVE3)
    }
    for flow, count in losses.items():
        delays[flow][500 : 500 + count] = [None] * count
    sent = pd.concat([packets(of_flow, flow) for flow, of_flow in delays.items()])
    trace = many_moves.events(1)
    with Recorder.create(out) as recorder:
        run = recorder.run()
        run.scenario({**synthetic.scenario("tunnel", 1000), "tenants": TENANTS})
        run.manifest({"name": "made-up", "valid": True, "problems": []})
        run.events(trace)
        run.packets(sent)
        run.moves(metrics.table(sent, trace, homes))
    return results.load(out)
