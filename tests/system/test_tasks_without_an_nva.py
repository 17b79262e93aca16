"""The NVA is dead, or hangs, while a task moves, and comes back later.

See the rows "the NVA is away" of the table in `docs/how-it-works/tasks.md`.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from experiments.run.lab import Lab
from experiments.run.task_steps import TaskError
from experiments.run.tasks import RunningTask
from experiments.scenario.load import resolve
from experiments.scenario.tasks import TaskMove
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside, run_in
from nve.wire.segments import RST, read_segment
from tests.helpers.nvo3 import nvo3, told
from tests.helpers.task_trials import answered
from tests.helpers.wait import wait_until

ADDRESS = "192.168.9.50"
PORT = 7000
RECORD_S = 30
"""Longer than the NVA is away: so long the old host forwards."""


@contextmanager
def running(layer: int) -> Iterator[Lab]:
    content: dict[str, Any] = {
        "name": "without-an-nva",
        "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 1}},
        "tenants": [
            {"vni": 5000, "layer": layer, "vms": {"vm1": "nve1", "vm2": "nve2", "vm3": "nve3"}}
        ],
        "tasks": {
            "web": {
                **{"on": "vm1", "program": "http-server", "addresses": [ADDRESS]},
                "arguments": {"port": PORT, "octets": 100},
            }
        },
        "task_moves": [{"at_s": 1, "task": "web", "to": "vm2"}],
        "duration_s": 2,
    }
    with Lab(resolve(content, "test", {})) as lab:
        yield lab


class Senders:
    """Who sends with the task's address, as the peer sees it: MAC addresses, in order."""

    def __init__(self, pid: int) -> None:
        self.macs: list[str] = []
        self.resets = 0
        with inside(pid):
            self._heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with inside(pid):
            self._heard.bind((NIC, 3))
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        with suppress(OSError):
            while frame := self._heard.recv(65536):
                found = read_segment(frame)
                if found is None or str(found.source) != ADDRESS:
                    continue
                self.resets += bool(found.flags & RST)
                mac = frame[6:12].hex(":")
                if self.macs[-1:] != [mac]:
                    self.macs.append(mac)

    def close(self) -> None:
        self._heard.close()


@contextmanager
def away(lab: Lab, how: str) -> Iterator[None]:
    """The NVA is dead, or does not answer, in the block."""
    nva = nvo3(lab).nva
    if how == "hangs":
        os.kill(nva.pid, signal.SIGSTOP)
    else:
        nva.kill()
    try:
        yield
    finally:
        if how == "hangs":
            os.kill(nva.pid, signal.SIGCONT)
        else:
            nva.restart()


def know_each_other(lab: Lab) -> None:
    vms = lab.data_centre.vms
    for vm in vms.values():
        for other in vms.values():
            if other is not vm:
                run_in(vm.pid, ["ping", "-c", "1", "-W", "5", str(other.spec.ipv4)])


def hosts_with_the_address(lab: Lab) -> list[str]:
    return [
        name
        for name, vm in lab.data_centre.vms.items()
        if ADDRESS in run_in(vm.pid, ["ip", "address", "show", "dev", NIC])
    ]


def is_elsewhere(task: RunningTask, vm: str) -> str | None:
    return None if task.at == vm else f"it is in {task.at}"


def has_not_heard(lab: Lab, vm: str) -> str | None:
    """Nothing, when the NVA knows that the VM has the task's address."""
    event = {"address-claimed", "host-route-moved"}
    known = [each for each in told(lab) if each.name in event]
    found = [each.subject for each in known if each.details.get("address") == ADDRESS]
    return None if found[-1:] == [vm] else f"the NVA knows {found} of the address"


def moved(task: RunningTask, number: int, to: str) -> None:
    task.move(number, TaskMove(at_s=0, task="web", to=to, record_s=RECORD_S))


@pytest.mark.shows("R4.2.1.1", "R4.2.1.4", "R4.2.3")
@pytest.mark.parametrize("layer", [2, 3])
def test_a_task_moves_where_its_hosts_know_each_other(layer: int) -> None:
    """Before, it stays; afterwards its peer reaches it by way of the old host, until the NVA is
    back.  At no time do two hosts answer."""
    with running(layer) as lab:
        task = lab.tasks.of["web"]
        macs = {name: lab.data_centre.vms[name].spec.mac for name in ("vm1", "vm2")}
        senders = Senders(lab.data_centre.vms["vm3"].pid)
        with inside(lab.data_centre.vms["vm3"].pid):
            connected = socket.create_connection((ADDRESS, PORT), 10)
        with closing(senders), closing(connected):
            assert answered(connected)
            with away(lab, "hangs"), pytest.raises(TaskError, match=r"timed out|No route to host"):
                moved(task, 1, "vm2")
            assert task.at == "vm1"
            assert hosts_with_the_address(lab) == ["vm1"]
            assert answered(connected)
            know_each_other(lab)
            for number, (how, to) in enumerate([("hangs", "vm2"), ("dies", "vm1")], start=2):
                with away(lab, how):
                    moving = threading.Thread(target=moved, args=(task, number, to), daemon=True)
                    moving.start()
                    wait_until(partial(is_elsewhere, task, to))
                    assert answered(connected)
                    assert hosts_with_the_address(lab) == [to]
                moving.join(30)
                wait_until(partial(has_not_heard, lab, to), timeout_s=40)
                assert answered(connected)
        assert senders.resets == 0
        assert task.problems == []
        if layer == 2:  # at layer 3, all comes from the router
            assert senders.macs == [macs["vm1"], macs["vm2"], macs["vm1"]]
