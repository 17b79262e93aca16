"""What a VM may have its NVE tell the NVA is limited, and nobody else pays for it (R4.1.8).

Reports are counted here: what others' moves wait for is what the NVA has to take in before.  How
much longer they take is measured by `python -m benchmarks.flood`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from benchmarks.flood import NO_LIMIT
from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from experiments.workloads.forging import forged
from experiments.workloads.forging.attack import Attack, Forgery
from nve.hypervisor.plug import NIC
from tests.helpers.nvo3 import nvo3, ovs
from tests.helpers.runs import scenario
from tests.helpers.wait import wait_until

RATE_PPS, BURST, FLOOD_PPS = 50, 20, 3000
VMS = {"vm1": "nve1", "vm2": "nve3", "vm3": "nve2"}


LIMITED = {
    "overlay.report_rate_pps": RATE_PPS, "overlay.report_burst": BURST,
    "overlay.miss_rate_pps": RATE_PPS, "overlay.miss_burst": BURST,
}  # fmt: skip


def standing(limits: dict[str, int]) -> Lab:
    fixed = {"traffic": [], "moves": [], "tenants": [{"vni": 5000, "vms": VMS}], "duration_s": 1}
    overlay = {"overlay.idle_s": 1, "overlay.hold": True}
    return Lab(scenario(**fixed, **overlay, **limits))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with standing(LIMITED) as running:
        yield running


@contextmanager
def flooding(lab: Lab, flood: str, for_s: float = 60) -> Iterator[Forgery]:
    me, victim = (lab.data_centre.vms[vm].spec for vm in ("vm3", "vm1"))
    attack = Forgery(
        Attack(
            name=flood, victim="vm1", what=flood, interface=NIC,
            frames=forged.of_vm(flood, me, victim), rate_pps=FLOOD_PPS, duration_s=for_s,
            start=partial(lab.data_centre.in_vm, "vm3"),
        )
    )  # fmt: skip
    attack.launch()
    try:
        attack.begin()
        yield attack
    finally:
        attack.stop()


def meters(lab: Lab, nve: str, vm: str) -> dict[str, dict[str, Any]]:
    port = lab.orchestrator.hypervisors[vm].port
    lines = nvo3(lab).nva.get(f"nves/{nve}/meters")
    return {line["dropped_as"]: line for line in lines if line["port"] == port}


def passed(of_vm: dict[str, dict[str, Any]]) -> int:
    """What the meters of a port have let by."""
    return sum(line["packets"] - line["dropped"] for line in of_vm.values())


def heard(of_vm: dict[str, dict[str, Any]]) -> int:
    """What the NVA has taken in of it."""
    return int(next(iter(of_vm.values()))["heard"])


def refused(lab: Lab, what: str) -> int:
    rows = (row for row in nvo3(lab).refused() if (row["vm"], row["what"]) == ("vm3", what))
    return sum(row["packets"] for row in rows)


@pytest.mark.shows("R4.1.8")
@pytest.mark.parametrize(
    ("flood", "limited"),
    [
        ("arp-flood", "rate-limited-report"),
        ("nd-flood", "rate-limited-report"),
        ("rarp-flood", "rate-limited-report"),
        ("miss-flood", "rate-limited-miss"),
    ],
)
def test_a_flood_reaches_the_nva_as_a_trickle_and_another_vm_moves(
    lab: Lab, flood: str, limited: str
) -> None:
    before = meters(lab, "nve2", "vm3")
    began_s = time.monotonic()
    with flooding(lab, flood) as attack:
        wait_until(lambda: None if refused(lab, limited) > before[limited]["dropped"] else "calm")
        there = "nve2" if lab.orchestrator.where["vm1"] == "nve1" else "nve1"
        number = 1 + len(nvo3(lab).nva.get("moves"))
        lab.orchestrator.move(number, MoveSpec(at_s=0, vm="vm1", to=there, pause_ms=10)).result()
        sent = attack.collect()[-1].details["packets"]
    took_s = time.monotonic() - began_s

    assert lab.overlay.where()["vm1"] == there
    wait_until(lambda: _unheard(lab))
    after = meters(lab, "nve2", "vm3")
    arrived = after[limited]["packets"] - before[limited]["packets"]
    dropped = after[limited]["dropped"] - before[limited]["dropped"]
    assert arrived == sent
    assert 0 < arrived - dropped <= RATE_PPS * took_s + BURST
    assert refused(lab, limited) == after[limited]["dropped"]


def test_without_limits_the_same_flood_reaches_the_nva() -> None:
    """Otherwise that little of it comes would show nothing: here, at once, it is more than the
    limits would let by in a minute."""
    of_a_minute = 60 * RATE_PPS + BURST
    with standing(NO_LIMIT) as lab, flooding(lab, "rarp-flood", for_s=2) as attack:
        # The NVA has its hands full meanwhile, and may not answer.
        wait_until(lambda: None if ended(attack) else "it floods")
        wait_until(lambda: None if heard(meters(lab, "nve2", "vm3")) > of_a_minute else "a trickle")


def ended(attack: Forgery) -> bool:
    return any(event.name == "attack-ended" for event in attack.new_events())


def connected(lab: Lab, nve: str) -> bool:
    return bool(nvo3(lab).nva.get("health")["connected"][nve])


def _unheard(lab: Lab) -> str | None:
    """What has passed the meters has to come to the NVA, and nothing else."""
    of_vm = meters(lab, "nve2", "vm3")
    if heard(of_vm) == passed(of_vm):
        return None
    return f"{passed(of_vm)} passed, {heard(of_vm)} heard"


@pytest.mark.shows("R4.1.8")
def test_a_vm_that_comes_is_limited_at_its_new_port_too(lab: Lab) -> None:
    """The meters go where the VM goes, and what they had dropped is not forgotten."""
    counted = {what: refused(lab, what) for what in ("rate-limited-report", "rate-limited-miss")}
    number = 1 + len(nvo3(lab).nva.get("moves"))
    lab.orchestrator.move(number, MoveSpec(at_s=0, vm="vm3", to="nve1", pause_ms=1)).result()

    assert meters(lab, "nve2", "vm3") == {}
    assert set(meters(lab, "nve1", "vm3")) == {"rate-limited-report", "rate-limited-miss"}
    assert {what: refused(lab, what) for what in counted} == counted


def test_an_nve_that_loses_the_nva_keeps_its_meters_and_their_counts(lab: Lab) -> None:
    """It connects again, is told everything again, and nothing begins anew."""
    counted = nvo3(lab).refused()
    bridge = ovs(lab.data_centre.nves["nve1"])
    stood = bridge.ofctl("dump-meters", "br-int")
    target = bridge.vsctl("get-controller", "br-int").strip()
    bridge.vsctl("del-controller", "br-int")
    wait_until(lambda: "connected" if connected(lab, "nve1") else None)
    bridge.set_controller(target)
    wait_until(lambda: None if connected(lab, "nve1") else "away")
    wait_until(lambda: "; ".join(nvo3(lab).differences()) or None)

    assert sorted(bridge.ofctl("dump-meters", "br-int").split("meter=")[1:]) == sorted(
        stood.split("meter=")[1:]
    )
    assert nvo3(lab).refused() == counted
    assert "refused a message" not in nvo3(lab).nva.log()
