"""A switch with the kernel's datapath, whose rules change while packets pass: none is overtaken.

Skipped where the kernel has no such datapath.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple

import pytest

from nve.edge import EdgePlace, UnderlayPort
from nve.linux.capabilities import kernel_datapath_available
from nve.linux.namespace import ip
from nve.linux.steering import take_in_by_one_processor
from nve.model import Mac
from nve.ovs.bridge import INTEGRATION, OvsInstance
from tests.helpers.hosts import namespace

pytestmark = pytest.mark.skipif(
    not kernel_datapath_available(), reason="this kernel has no datapath (module openvswitch)"
)

CHANGES, EVERY_S, GAP_S = 30, 0.1, 0.002
"""Of the rules, while packets pass; and the time between two of those."""
HOSTS = {"a": IPv4Address("10.9.0.1"), "b": IPv4Address("10.9.0.2")}
PORT = {"a": 11, "b": 12}
SEND = f"""
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
    number, due = 0, time.monotonic()
    while True:
        sending.sendto(number.to_bytes(4, "big"), ({str(HOSTS["b"])!r}, 9))
        number, due = number + 1, due + {GAP_S}
        time.sleep(max(0, due - time.monotonic()))
"""
RECEIVE = """
import json, select, socket, sys
numbers = []
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
    receiving.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: it may run late
    receiving.bind(("", 9))
    print("ready", flush=True)
    while sys.stdin not in (ready := select.select([receiving, sys.stdin], [], [])[0]):
        numbers.append(int.from_bytes(receiving.recv(99), "big"))
print(json.dumps(numbers))
"""


class Joined(NamedTuple):
    """A switch, and the hosts at its ports."""

    bridge: OvsInstance
    pids: dict[str, int]

    def start(self, host: str, program: str, **popen: Any) -> "subprocess.Popen[str]":
        entered = ["nsenter", f"--net=/proc/{self.pids[host]}/ns/net", sys.executable, "-c"]
        return subprocess.Popen([*entered, program], text=True, **popen)

    def forward(self, changed: bool) -> None:
        """Has frames from a go to b, in one of two ways."""
        rewritten = "set_field:02:00:00:00:00:0c->eth_src," if changed else ""
        rule = f"in_port={PORT['a']},actions={rewritten}output:{PORT['b']}"
        self.bridge.ofctl("add-flow", INTEGRATION, rule)


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Joined]:
    with namespace() as switch, namespace() as a, namespace() as b:
        pids = {"a": a, "b": b}
        mac = {host: f"02:00:00:00:00:0{host}" for host in HOSTS}
        nowhere = UnderlayPort("lo", Mac("02:00:00:00:00:01"))
        place = EdgePlace("nve1", 1, switch, tmp_path / "nve1", nowhere, HOSTS["a"], {}, {})
        bridge = OvsInstance(place, "system")
        bridge.launch()
        try:
            bridge.configure()
            for host, other in (("a", "b"), ("b", "a")):
                ip(
                    switch,
                    [
                        f"link add to-{host} type veth peer name eth0 address {mac[host]} "
                        f"netns {pids[host]}",
                        f"link set to-{host} up",
                    ],
                )
                ip(
                    pids[host],
                    [
                        "link set eth0 up",
                        f"addr add {HOSTS[host]}/24 dev eth0",
                        f"neigh add {HOSTS[other]} lladdr {mac[other]} dev eth0",
                    ],
                )
                bridge.add_port(f"to-{host}", PORT[host])
            for pid, interface in ((switch, "to-a"), (b, "eth0")):
                take_in_by_one_processor(pid, [interface])
            yield Joined(bridge, pids)
        finally:
            bridge.stop()


def received(joined: Joined) -> list[int]:
    """What b gets of a's packets, while the rules change."""
    joined.forward(changed=False)
    receiver = joined.start("b", RECEIVE, stdin=PIPE, stdout=PIPE)
    assert receiver.stdout
    assert receiver.stdout.readline() == "ready\n"
    sender = joined.start("a", SEND)
    try:
        time.sleep(1)
        for number in range(CHANGES):
            joined.forward(changed=number % 2 == 0)
            joined.bridge.follow_rules_now()
            time.sleep(EVERY_S)
    finally:
        sender.kill()
        sender.wait()
        said, _ = receiver.communicate("\n", timeout=60)
    return json.loads(said)  # type: ignore[no-any-return]


def test_rules_that_change_cost_no_order(joined: Joined) -> None:
    """Every packet but those of the first flow finds one in the kernel."""
    numbers = received(joined)

    missed = joined.bridge.counters()["upcall"]
    overtaken = sum(later < earlier for earlier, later in pairwise(numbers))
    lost = max(numbers) + 1 - len(set(numbers))
    assert len(numbers) > 500
    assert (overtaken, lost, missed < CHANGES) == (0, 0, True), (
        f"of {len(numbers)} packets {overtaken} overtaken, {lost} lost, {missed} without a flow"
    )
