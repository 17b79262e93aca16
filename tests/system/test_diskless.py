"""Diskless clients on real parts: the address lost at the move and given back by RARP (R4.1.5)."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.run.lab import Lab
from experiments.scenario.load import as_mapping
from experiments.scenario.moves import MoveSpec
from experiments.scenario.schema import Scenario
from experiments.workloads.rarp import talk
from experiments.workloads.rarp.driver import Diskless
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside, run_in
from nve.model import VmSpec
from nve.wire.frames import RARP
from tests.helpers.nvo3 import nvo3
from tests.helpers.runs import probe, recorded, scenario, times_of
from tests.helpers.wait import wait_until
from topologies.configuration import TENANT_PREFIX_LENGTH

OLD_ADDRESS = "192.168.0.1"


@pytest.mark.shows("R4.1.5", "R4.1.1")
def test_a_diskless_client_gets_its_address_back_at_the_destination(tmp_path: Path) -> None:
    """Over IPv4 the VM cannot be reached until it has asked; over IPv6 nothing is different."""
    traffic = [
        {**probe("vm4", family), "rate_pps": 200} for family in ("ipv4", "ipv6")
    ] + [{"kind": "diskless-client", "vm": "vm1"}]  # fmt: skip
    moves = [{"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 50, "announce": "none"}]
    wanted = scenario(traffic=traffic, moves=moves, overlay__hold=True, duration_s=3)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    story = ["vm-paused", "address-lost", "nic-flipped", "rarp-answered", "address-restored"]
    began_ns = times_of(result, "move-requested")[0]
    told = [e.name for e in result.events if e.t_ns > began_ns and e.name in story]
    assert list(dict.fromkeys(told)) == story  # asked twice, it is answered twice
    answers = [e.details for e in result.events if e.name == "rarp-answered"]
    assert {each["nve"]: each["address"] for each in answers} == {
        "nve1": OLD_ADDRESS,
        "nve2": OLD_ADDRESS,
    }
    requests = result.rows("diskless-client")
    assert requests is not None
    answered = requests[requests["answered_ns"].notna()]
    assert list(answered["answer"]) == [OLD_ADDRESS, OLD_ADDRESS]
    assert list(answered["used"]) == [False, True]  # at its start it had one, after the move none
    assert (answered["round_trip_ms"] > 0).all()

    lost = dict(zip(result.moves["flow"], result.moves["lost"], strict=True))
    assert lost["vm4>vm1/ipv6"] == 0
    (restored_ns,) = times_of(result, "address-restored")
    ipv4 = result.packets[result.packets["flow"] == "vm4>vm1/ipv4"]
    (lost_ns,) = times_of(result, "address-lost")
    in_between = ipv4[(ipv4["received_ns"] > lost_ns) & (ipv4["received_ns"] < restored_ns - 10**6)]
    assert in_between.empty
    assert ipv4["received_ns"].max() > restored_ns


@pytest.mark.shows("R4.1.5", "R4.1.2")
def test_its_question_is_the_only_announcement_that_the_move_needs(tmp_path: Path) -> None:
    """Also where the hypervisor's own announcement is lost."""
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve2", "announce": "garp", "announcement_lost": True}
    ]  # fmt: skip
    traffic = [{"kind": "diskless-client", "vm": "vm1"}]
    wanted = scenario(traffic=traffic, moves=moves, duration_s=2)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    heard = [e.details for e in result.events if e.name == "announcement-received"]
    assert heard[0]["nve"] == "nve1"
    assert heard[-1] == {"nve": "nve2", "form": "rarp"}
    assert {each["form"] for each in heard} == {"rarp"}
    (updated,) = (e for e in result.events if e.name == "mapping-updated")
    assert updated.details["nve"] == "nve2"


# -- two tenants with the same MAC -----------------------------------------------------------------

TENANTS = [
    {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve2"}},
    {"vni": 6000, "vms": {"red1": "nve1", "red2": "nve3"}},
]
REDS_ADDRESS = IPv4Address("192.168.7.7")


class Apart(Scenario):
    """A scenario whose second tenant gives the same MAC address another IPv4 address."""

    def vms(self) -> list[VmSpec]:
        return [replace(vm, ipv4=REDS_ADDRESS) if vm.name == "red1" else vm for vm in super().vms()]


CLIENTS = [{"kind": "diskless-client", "vm": vm} for vm in ("vm1", "red1")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    content = as_mapping(scenario(traffic=CLIENTS, moves=[], tenants=TENANTS, duration_s=1))
    with Lab(Apart.model_validate(content)) as running:
        yield running


@contextmanager
def client(lab: Lab, vm: VmSpec, directory: Path) -> Iterator[Diskless]:
    made = Diskless(vm, TENANT_PREFIX_LENGTH[4], directory, lab.data_centre.in_vm)
    try:
        made.launch()
        yield made
    finally:
        made.stop()


def spec(lab: Lab, vm: str) -> VmSpec:
    return lab.data_centre.vms[vm].spec


def has_not(lab: Lab, vm: str, address: object) -> str | None:
    shown = run_in(lab.data_centre.vms[vm].pid, ["ip", "-4", "-o", "address", "show", "dev", NIC])
    return None if f" {address}/{TENANT_PREFIX_LENGTH[4]} " in shown else f"{vm} has {shown!r}"


def lose_address(lab: Lab, vm: str) -> None:
    lab.orchestrator.hypervisors[vm].lose_ipv4_address()


@pytest.mark.shows("R4.1.5", "R4.1.8")
def test_each_tenant_gets_its_own_answer_for_the_same_mac(lab: Lab, tmp_path: Path) -> None:
    vm1, red1 = spec(lab, "vm1"), spec(lab, "red1")
    assert vm1.mac == red1.mac
    with client(lab, vm1, tmp_path) as of_vm1, client(lab, red1, tmp_path) as of_red1:
        for number, vm in enumerate((vm1, red1), start=1):
            move = MoveSpec(at_s=0, vm=vm.name, to="nve3", pause_ms=0, announce="none")
            lab.orchestrator.move(number, move).result()
            wait_until(partial(has_not, lab, vm.name, vm.ipv4))
        for made, vm in ((of_vm1, vm1), (of_red1, red1)):
            asked = made.collect()
            assert asked.problems == []
            assert [event.details["address"] for event in asked.events] == [str(vm.ipv4)]
    places = {line["vm"]: line["nve"] for line in nvo3(lab).nva.get("mapping")}
    assert (places["vm1"], places["red1"]) == ("nve3", "nve3")


def test_a_client_asks_until_it_is_answered(lab: Lab, tmp_path: Path) -> None:
    """Nothing comes through an NIC that is shut; the waits in between grow."""
    vm2 = spec(lab, "vm2")
    plug = lab.orchestrator.hypervisors["vm2"]._places["nve2"].plug
    notes = tmp_path / "vm2.rarp"
    with client(lab, vm2, tmp_path) as made:
        plug.set_forwarding(False)
        lose_address(lab, "vm2")
        wait_until(lambda: None if len(notes.read_text().splitlines()) >= 4 else notes.read_text())
        plug.set_forwarding(True)
        wait_until(lambda: has_not(lab, "vm2", vm2.ipv4))
        asked = made.collect()
    _, *again = talk.requests(notes.read_text().splitlines(keepends=True))
    assert [each.attempt for each in again] == list(range(1, len(again) + 1))
    assert [each.answer for each in again] == [None] * (len(again) - 1) + [str(vm2.ipv4)]
    assert len(asked.rows) == 1 + len(again)
    waits_ns = [after.t_ns - before.t_ns for before, after in pairwise(again)]
    planned = zip(waits_ns, talk.waits_s(), strict=False)
    assert all(waited_ns >= wait_s * 0.99e9 for waited_ns, wait_s in planned)


def test_a_client_that_is_told_another_address_is_a_problem_of_the_run(
    lab: Lab, tmp_path: Path
) -> None:
    """The checker: here the client is right, and what it is checked against is not."""
    wrong = replace(spec(lab, "red2"), ipv4=IPv4Address("192.168.9.9"))
    with client(lab, wrong, tmp_path) as made:
        (problem,) = made.collect().problems
        assert problem == "the diskless client in red2 was told 192.168.0.2, not 192.168.9.9"


def test_a_client_that_has_died_is_a_problem_of_the_run(lab: Lab, tmp_path: Path) -> None:
    with client(lab, spec(lab, "vm2"), tmp_path) as made:
        made.stop()
        (problem,) = made.collect().problems
        assert problem == "the diskless client in vm2 ended before the run did"


@pytest.mark.shows("R4.1.5", "R9.2")
def test_who_asks_for_another_mac_is_counted_and_gets_no_answer(lab: Lab) -> None:
    """The answer to the honest request behind it shows that the forged one has been dealt with."""
    me, you = spec(lab, "vm2"), spec(lab, "vm1")
    forged = talk.request(me.mac)[:32] + bytes.fromhex(you.mac.replace(":", "")) + bytes(4)
    with inside(lab.data_centre.vms["vm2"].pid):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.bind((NIC, RARP))
        raw.settimeout(10)
    with raw:
        raw.send(forged)
        raw.send(talk.request(me.mac))
        answer = raw.recv(2048)
        assert talk.answer(answer, me.mac) == me.ipv4
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.recv(2048)
    port = lab.orchestrator.hypervisors["vm2"].port
    counted = [line for line in nvo3(lab).nva.get("refused") if line["what"] == "forged"]
    assert [(line["nve"], line["port"], line["packets"]) for line in counted] == [("nve2", port, 1)]
