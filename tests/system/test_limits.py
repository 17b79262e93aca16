"""What a VM may have its NVE tell the NVA is limited, and nobody else pays for it (R4.1.8)."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from benchmarks.flood import NO_LIMIT, steps_ms
from experiments.lab import Lab
from experiments.moves import Move
from experiments.workloads import forged
from experiments.workloads.forgery import Attack, Forgery
from nve.plug import NIC
from tests.helpers.runs import scenario
from tests.helpers.wait import wait_until

RATE_PPS, BURST, FLOOD_PPS = 50, 20, 3000
VMS = {"vm1": "nve1", "vm2": "nve3", "vm3": "nve2"}


LIMITED = {
    "overlay.report_rate_pps": RATE_PPS, "overlay.report_burst": BURST,
    "overlay.miss_rate_pps": RATE_PPS, "overlay.miss_burst": BURST,
}  # fmt: skip
MOVES = 4
"""To and fro: even, so that vm1 is where its plug is again."""
DELAYED = 5
"""A move takes so many times longer than usual.  With limits, other work on the machine may double
its time; without, reverse ARP was seen to make it 50 to 90 times as long."""


def standing(limits: dict[str, int]) -> Lab:
    fixed = {"traffic": [], "moves": [], "tenants": [{"vni": 5000, "vms": VMS}], "duration_s": 1}
    overlay = {"overlay.idle_s": 1, "overlay.hold": True}
    return Lab(scenario(**fixed, **overlay, **limits))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with standing(LIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def usual_ms(lab: Lab) -> float:
    """What a move asks of the NVA, without a flood."""
    return move_ms(lab)


def move_ms(lab: Lab) -> float:
    """From the request until no NVE holds an old entry: the median of some moves.

    They are of nve2, by whose connection to the NVA the flood comes, and without a hypervisor: what
    that does takes its time, and more of it beside a flood on the same machine.
    """
    return statistics.median(steps_ms(lab) for _ in range(MOVES))


@contextmanager
def flooding(lab: Lab, flood: str) -> Iterator[Forgery]:
    me, victim = (lab.data_centre.vms[vm].spec for vm in ("vm3", "vm1"))
    attack = Forgery(
        Attack(
            name=flood, victim="vm1", what=flood, interface=NIC,
            frames=forged.of_vm(flood, me, victim), rate_pps=FLOOD_PPS, duration_s=60,
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
    lines = lab.overlay.nva.get(f"nves/{nve}/meters")
    return {line["dropped_as"]: line for line in lines if line["port"] == port}


def passed(of_vm: dict[str, dict[str, Any]]) -> int:
    """What the meters of a port have let by."""
    return sum(line["packets"] - line["dropped"] for line in of_vm.values())


def refused(lab: Lab, what: str) -> int:
    rows = (row for row in lab.overlay.refused() if (row["vm"], row["what"]) == ("vm3", what))
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
def test_a_flood_reaches_the_nva_as_a_trickle_and_another_vm_moves_as_usual(
    lab: Lab, usual_ms: float, flood: str, limited: str
) -> None:
    before = meters(lab, "nve2", "vm3")
    began_s = time.monotonic()
    with flooding(lab, flood) as attack:
        beside_ms = move_ms(lab)
        there = "nve2" if lab.orchestrator.where["vm1"] == "nve1" else "nve1"
        number = 1 + len(lab.overlay.nva.get("moves"))
        lab.orchestrator.move(number, Move(at_s=0, vm="vm1", to=there, pause_ms=10)).result()
        sent = attack.collect().details["packets"]
    took_s = time.monotonic() - began_s

    assert lab.overlay.where()["vm1"] == there
    wait_until(lambda: _unheard(lab))
    after = meters(lab, "nve2", "vm3")
    arrived = after[limited]["packets"] - before[limited]["packets"]
    dropped = after[limited]["dropped"] - before[limited]["dropped"]
    assert arrived == sent
    assert 0 < arrived - dropped <= RATE_PPS * took_s + BURST
    assert refused(lab, limited) == after[limited]["dropped"]
    assert beside_ms < DELAYED * usual_ms


def test_without_limits_the_same_flood_delays_a_move() -> None:
    """Otherwise that a move takes its usual time would show nothing."""
    with standing(NO_LIMIT) as lab:
        usual_ms = move_ms(lab)
        with flooding(lab, "rarp-flood"):
            wait_until(lambda: None if passed(meters(lab, "nve2", "vm3")) > 1000 else "no flood")
            assert move_ms(lab) > DELAYED * usual_ms


def connected(lab: Lab, nve: str) -> bool:
    return bool(lab.overlay.nva.get("health")["connected"][nve])


def _unheard(lab: Lab) -> str | None:
    """What has passed the meters has to come to the NVA, and nothing else."""
    of_vm = meters(lab, "nve2", "vm3")
    heard = next(iter(of_vm.values()))["heard"]
    return None if heard == passed(of_vm) else f"{passed(of_vm)} passed, {heard} heard"


@pytest.mark.shows("R4.1.8")
def test_a_vm_that_comes_is_limited_at_its_new_port_too(lab: Lab) -> None:
    """The meters go where the VM goes, and what they had dropped is not forgotten."""
    counted = {what: refused(lab, what) for what in ("rate-limited-report", "rate-limited-miss")}
    number = 1 + len(lab.overlay.nva.get("moves"))
    lab.orchestrator.move(number, Move(at_s=0, vm="vm3", to="nve1", pause_ms=1)).result()

    assert meters(lab, "nve2", "vm3") == {}
    assert set(meters(lab, "nve1", "vm3")) == {"rate-limited-report", "rate-limited-miss"}
    assert {what: refused(lab, what) for what in counted} == counted


def test_an_nve_that_loses_the_nva_keeps_its_meters_and_their_counts(lab: Lab) -> None:
    """It connects again, is told everything again, and nothing begins anew."""
    counted = lab.overlay.refused()
    bridge = lab.data_centre.nves["nve1"].bridge
    stood = bridge.ofctl("dump-meters", "br-int")
    target = bridge.vsctl("get-controller", "br-int").strip()
    bridge.vsctl("del-controller", "br-int")
    wait_until(lambda: "connected" if connected(lab, "nve1") else None)
    bridge.set_controller(target)
    wait_until(lambda: None if connected(lab, "nve1") else "away")
    wait_until(lambda: "; ".join(lab.overlay.differences()) or None)

    assert sorted(bridge.ofctl("dump-meters", "br-int").split("meter=")[1:]) == sorted(
        stood.split("meter=")[1:]
    )
    assert lab.overlay.refused() == counted
    assert "refused a message" not in lab.overlay.nva.log()
