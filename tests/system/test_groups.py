"""Broadcast and multicast to a VM that moves: each packet once, in order, and none lost.

Senders on its source, its destination and a third NVE number their packets.  The VM's neighbours at
each NVE are in the same groups, and get each packet once as well.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.plug import NIC
from tests.helpers.runs import scenario

WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
SENDERS = ("vm2", "vm3", "vm4")
PACKETS, EVERY_S, PORT = 900, 0.01, 5353
"""To each group by each sender, in nine seconds."""
WAY = (("nve2", 20), ("nve3", 0), ("nve1", 50))
"""Of vm1, with pauses in milliseconds."""
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
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
one.bind(("::", {PORT}))
member = socket.inet_pton(socket.AF_INET6, {GROUPS[2]!r}) + index.to_bytes(4, sys.byteorder)
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)
other.bind(("", {PORT}))
member = socket.inet_aton({GROUPS[1]!r}) + bytes(4) + index.to_bytes(4, sys.byteorder)
other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("ready", flush=True)
got = []
while True:
    ready, _, _ = select.select([one, other, sys.stdin], [], [])
    got += [each.recv(100).decode().split() for each in ready if each is not sys.stdin]
    if ready == [sys.stdin]:
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

    def begin(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> str:
        """What it has said when it has ended."""
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=[{}, PULL], ids=["push", "pull"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    far = {"kind": "star", "nves": 3, "link": {"delay_ms": 3}}
    marked: dict[str, Any] = {"overlay__hold": True, "overlay__end_marker": True}
    # The cables to where it goes are laid beforehand: a new port disturbs a switch.
    moves = [{"at_s": 2 * n, "vm": "vm1", "to": to} for n, (to, _) in enumerate(WAY)]
    fixed = {"topology": far, "traffic": [], "moves": moves, "duration_s": 9}
    tenants = [{"vni": 5000, "vms": WHERE}]
    with Lab(scenario(tenants=tenants, **fixed, **marked, **request.param)) as running:
        yield running


def move(lab: Lab, number: int, to: str, pause_ms: float) -> None:
    wanted = MoveSpec(at_s=0, vm="vm1", to=to, pause_ms=pause_ms)
    lab.orchestrator.move(number, wanted).result(60)


@pytest.mark.alone
@pytest.mark.shows("R4.1.4", "R5.4", "R7.0")
def test_a_vm_that_moves_gets_each_packet_to_its_groups_once_and_in_order(lab: Lab) -> None:
    """From its home, on to a third NVE, and home again."""
    with ExitStack() as stack:
        receivers = {vm: started(stack, Program(lab, vm, RECEIVE)) for vm in WHERE}
        senders = [started(stack, Program(lab, vm, SEND)) for vm in SENDERS]
        for sender in senders:
            sender.begin()
        for number, (to, pause_ms) in enumerate(WAY, start=1):
            move(lab, number, to, pause_ms)
        assert all(each.process.poll() is None for each in senders), "the moves took too long"
        for sender in senders:
            sender.result()
        for receiver in receivers.values():
            receiver.begin()
        got = {vm: json.loads(each.result()) for vm, each in receivers.items()}

    complaints = [
        complaint
        for vm in WHERE
        for sender in sorted(set(SENDERS) - {vm})
        for group in GROUPS
        for complaint in harm(
            [int(number) for by, to, number in got[vm] if (by, to) == (sender, group)],
            f"{vm} got from {sender} to {group}",
        )
    ]
    assert complaints == []


def started(stack: ExitStack, program: Program) -> Program:
    stack.callback(program.kill)
    return program


def harm(numbers: list[int], about: str) -> Iterator[str]:
    if missing := set(range(PACKETS)) - set(numbers):
        yield f"{about} {len(missing)} of {PACKETS} not: {min(missing)} to {max(missing)}"
    if twice := len(numbers) - len(set(numbers)):
        yield f"{about} {twice} twice"
    if late := sum(later < earlier for earlier, later in itertools.pairwise(numbers)):
        yield f"{about} {late} too late"
