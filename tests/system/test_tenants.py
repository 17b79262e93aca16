"""The scenario `tenants`: two tenants with the same addresses, and attackers of every kind.

The victim moves meanwhile and comes back, keeps its mapping, and loses nothing; and the result says
of each attack how often it was tried, where, and what became of it.
"""

import pytest

from experiments.measure.recording import Recorder
from experiments.measure.results import Result, load
from experiments.run.run import Options, RunOutcome, run
from experiments.scenario.load import find, resolve
from experiments.scenario.schema import Scenario
from experiments.scenario.yaml_source import read
from experiments.workloads import forgery
from tests.helpers.nvo3 import nvo3_settings

SHORTER = {
    "duration_s": 5,
    "moves.0.at_s": 1,
    "moves.1.at_s": 3,
    "overlay.report_burst": 50,
    "overlay.miss_rate_pps": 100,
    "overlay.miss_burst": 100,
}


@pytest.fixture(scope="module")
def wanted() -> Scenario:
    return resolve(read(find("tenants")), "tenants", SHORTER)


@pytest.fixture(scope="module")
def ran(wanted: Scenario, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunOutcome, Result]:
    out = tmp_path_factory.mktemp("results") / "tenants"
    with Recorder.create(out) as recorder:
        outcome = run(wanted, recorder.run(), Options())
    return outcome, load(out)


@pytest.fixture
def result(ran: tuple[RunOutcome, Result]) -> Result:
    return ran[1]


def refused(result: Result, **wanted: str) -> int:
    rows = (row for row in result.refused if wanted.items() <= row.items())
    return sum(int(row["packets"]) for row in rows)


def sent(result: Result, *attacks_sent: str) -> int:
    """How many frames of these attacks were sent, as the attackers say."""
    return sum(
        event.details["packets"]
        for event in result.events
        if event.name == "attack-ended" and event.details["what"] in attacks_sent
    )


def test_every_attack_there_is_was_tried(wanted: Scenario, ran: tuple[RunOutcome, Result]) -> None:
    outcome, result = ran
    assert outcome.problems == []
    tried = {each.what for each in wanted.traffic if isinstance(each, forgery.Settings)}
    assert tried == forgery.BY_VM.keys() | forgery.BY_STRANGER.keys()
    assert [what for what in tried if not sent(result, what)] == []


def test_attacks_are_told_when_they_begin_and_end(result: Result) -> None:
    at_ns = {
        name: [event.t_ns for event in result.events if event.name == name]
        for name in ("traffic-started", "attack-began", "move-requested", "attack-ended")
    }
    assert len(at_ns["attack-began"]) == len(at_ns["attack-ended"])
    first_move_ns = min(at_ns["move-requested"])
    assert at_ns["traffic-started"][0] <= min(at_ns["attack-began"])
    assert max(at_ns["attack-began"]) < first_move_ns < min(at_ns["attack-ended"])


@pytest.mark.shows("R4.1.8", "R9.1", "R9.2", "R9.4")
def test_nobody_loses_anything(result: Result) -> None:
    """With `hold`, through two moves: the victim's packets, and those of the other tenant."""
    assert dict(zip(result.metrics["flow"], result.metrics["lost"], strict=True)) == {
        "vm2>vm1/ipv4": 0,
        "vm2>vm1/ipv6": 0,
        "red3>red1/ipv4": 0,
    }
    assert result.metrics["duplicated"].sum() == 0


@pytest.mark.shows("R9.2")
def test_the_mapping_changes_with_the_moves_and_never_else(result: Result) -> None:
    changes = [
        (event.subject, event.details.get("nve") or event.details.get("to"))
        for event in result.events
        if event.name == "mapping-updated"
    ]
    assert changes == [("vm1", "nve2"), ("vm1", "nve1")]


@pytest.mark.shows("R9.2", "R9.4")
def test_whatever_is_forged_is_counted_to_the_packet_at_the_port_of_the_forger(
    result: Result,
) -> None:
    forged = sent(result, "garp", "garp-reply", "na", "rarp", "source-mac", "source-ip")
    dropped = refused(result, nve="nve2", vm="vm3", what="spoofed", counted_by="nve")
    # Every other reverse ARP has an honest sender and another's target: the NVA's to refuse.
    judged = refused(result, nve="nve2", vm="vm3", what="forged", counted_by="nva")

    assert dropped + judged == forged
    assert judged == sent(result, "rarp") // 2


@pytest.mark.shows("R9.2")
def test_whatever_is_malformed_is_counted_to_the_packet_by_the_nva(result: Result) -> None:
    counted = refused(result, nve="nve2", vm="vm3", what="malformed", counted_by="nva")

    assert counted == sent(result, "malformed")


@pytest.mark.shows("R9.1", "R9.3")
def test_what_strangers_tunnel_is_counted_at_the_nve_it_came_to(result: Result) -> None:
    assert refused(result, nve="nve3", what="unknown-vtep") == sent(result, "unknown-vtep")
    by_nve1 = {"nve": "nve3", "tunnel_source": "10.1.0.1"}
    assert refused(result, **by_nve1, what="unknown-vni") == sent(result, "wrong-vni")
    assert refused(result, **by_nve1, what="unknown-destination") == sent(result, "wrong-vm")


@pytest.mark.shows("R4.1.8")
def test_floods_are_limited_at_the_port_they_come_from(wanted: Scenario, result: Result) -> None:
    limits, run_s = nvo3_settings(wanted).limits, wanted.duration_s + 2
    reports = limits.report_rate_pps * run_s + limits.report_burst
    misses = limits.miss_rate_pps * run_s + limits.miss_burst
    for vm, floods, what, most in (
        ("vm4", ("arp-flood", "nd-flood"), "rate-limited-report", reports),
        ("vm5", ("rarp-flood",), "rate-limited-report", reports),
        ("vm5", ("miss-flood",), "rate-limited-miss", misses),
    ):
        dropped = refused(result, nve="nve2", vm=vm, what=what)
        assert 0 < sent(result, *floods) - dropped <= most, (vm, what)


def test_nothing_else_is_refused(result: Result) -> None:
    """Who does nothing wrong is not in the table."""
    assert {row["vm"] for row in result.refused} == {"vm3", "vm4", "vm5", ""}
