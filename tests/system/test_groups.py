"""Broadcast and multicast to a VM that moves: each packet once, in order, and none lost.

Senders on its source, its destination and a third NVE number their packets.  The VM's neighbours at
each NVE are in the same groups, and get each packet once as well.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.plug import NIC
from tests.helpers.runs import scenario

WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
SENDERS = ("vm2", "vm3", "vm4")
PACKETS, EVERY_S, PORT = 600, 0.005, 5353
"""To each group by each sender, in three seconds."""
GROUPS = ("255.255.255.255", "239.1.2.3", "ff02::77")
PULL = {
    "overlay__mapping_update": "pull",
    "overlay__lifetime_s": 1,
    "overlay__on_expiry": "keep",
}

SEND = f"""
import socket, sys, time
groups = {GROUPS!r}
sockets = []
for group in groups:
    one = socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, {NIC.encode()!r})
    sockets.append(one)
print("ready", flush=True)
sys.stdin.readline()
due = time.monotonic()
for number in range({PACKETS}):
    for group, one in zip(groups, sockets):
        one.sendto(f"{{sys.argv[1]}} {{group}} {{number}}".encode(), (group, {PORT}))
    due += {EVERY_S}
    time.sleep(max(0, due - time.monotonic()))
"""
RECEIVE = f"""
import json, select, socket, sys
index = socket.if_nametoindex({NIC!r})
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
one.bind(("::", {PORT}))
member = socket.inet_pton(socket.AF_INET6, {GROUPS[2]!r}) + index.to_bytes(4, sys.byteorder)
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
member = socket.inet_aton({GROUPS[1]!r}) + bytes(4) + index.to_bytes(4, sys.byteorder)
other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("ready", flush=True)
got = []
while True:
    ready, _, _ = select.select([one, sys.stdin], [], [])
    if one in ready:
        got.append(one.recv(100).decode().split())
    else:
        break
print(json.dumps(got))
"""


class Program:
    """A Python program in a VM, which says when it is ready and goes on at a line of its input."""

    def __init__(self, lab: Lab, vm: str, text: str) -> None:
        self.process = lab.data_centre.in_vm(
            vm,
            [sys.executable, "-c", text, vm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def go_on(self) -> str:
        """What it has said when it has ended."""
        said, _ = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0
        return said


@pytest.fixture(params=[{}, PULL], ids=["push", "pull"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    far = {"kind": "star", "nves": 3, "link": {"delay_ms": 3}}
    marked: dict[str, Any] = {"overlay__hold": True, "overlay__end_marker": True}
    fixed = {"topology": far, "traffic": [], "moves": [], "duration_s": 1}
    tenants = [{"vni": 5000, "vms": WHERE}]
    with Lab(scenario(tenants=tenants, **fixed, **marked, **request.param)) as running:
        yield running


def move(lab: Lab, number: int, to: str, pause_ms: float) -> None:
    wanted = MoveSpec(at_s=0, vm="vm1", to=to, pause_ms=pause_ms)
    lab.orchestrator.move(number, wanted).result(60)


@pytest.mark.shows("R4.1.4", "R5.4", "R7.0")
def test_a_vm_that_moves_gets_each_packet_to_its_groups_once_and_in_order(lab: Lab) -> None:
    """From its home, on to a third NVE, and home again."""
    receivers = {vm: Program(lab, vm, RECEIVE) for vm in WHERE}
    senders = [Program(lab, vm, SEND) for vm in SENDERS]
    for each in senders:
        assert each.process.stdin
        each.process.stdin.write("\n")
        each.process.stdin.flush()
    for number, (to, pause_ms) in enumerate((("nve2", 20), ("nve3", 0), ("nve1", 50)), start=1):
        move(lab, number, to, pause_ms)
    assert all(each.process.poll() is None for each in senders), "the moves took too long"
    for each in senders:
        each.process.communicate(timeout=60)

    for vm, receiver in receivers.items():
        got = json.loads(receiver.go_on())
        for sender in set(SENDERS) - {vm}:
            for group in GROUPS:
                numbers = [int(number) for by, to, number in got if (by, to) == (sender, group)]
                about = f"{vm} got from {sender} to {group}"
                missing = sorted(set(range(PACKETS)) - set(numbers))
                assert missing == [], f"{about} not {missing}"
                assert len(numbers) == PACKETS, f"{about} some twice"
                assert numbers == sorted(numbers), f"{about} some too late"
