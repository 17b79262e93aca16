"""How long a task is suspended when it moves with its connections, and what their peers notice.

    python -m benchmarks.tasks [--moves 20] [--connections 1 200] [--octets 1000000]

Two hosts and a peer on a switch, without an overlay: what is measured is the task's move alone. The
peer has asked for a document and does not read, so that `--octets` octets wait in the send queue of
the first connection; the others are idle.  The medians are of the freeze, of its parts, and of the
time until the first segment of each peer has come to the new stack.
"""

import argparse
import socket
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace
from typing import Any

from benchmarks import run_as_command
from benchmarks.namespaces import Namespace
from experiments.measure.event_log import EventLog
from experiments.run.tasks import RunningTask
from experiments.scenario.tasks import Task, TaskMove
from nve.linux.namespace import inside
from nve.linux.wait import wait_until

ADDRESS = "10.9.0.50"
PARTS = ("freeze_ms", "package_ms", "transfer_ms", "restore_ms", "gap_ms")


class Switched:
    """The part of a data centre that tasks use: `vms`, `in_vm`."""

    def __init__(self, hosts: dict[str, Namespace], switch: Namespace) -> None:
        self._hosts = hosts
        self.switch = switch
        self.vms = {
            name: SimpleNamespace(
                pid=host.pid,
                spec=SimpleNamespace(ipv4=IPv4Address(f"10.9.0.{number}"), routed=None),
            )
            for number, (name, host) in enumerate(hosts.items(), start=1)
        }

    def in_vm(self, vm: str, argv: Sequence[str], **popen: Any) -> "subprocess.Popen[Any]":
        return self._hosts[vm].popen(argv, **popen)


@contextmanager
def switched(*names: str) -> Iterator[Switched]:
    """Hosts at 10.9.0.1, fd09::1 and so on."""
    with ExitStack() as stack:
        switch, *hosts = (Namespace() for _ in range(len(names) + 1))
        for namespace in (switch, *hosts):
            stack.callback(namespace.close)
        switch.run(*["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])
        switch.run(*["ip", "link", "set", "br0", "up"])
        for number, host in enumerate(hosts, start=1):
            near = f"to{number}"
            switch.run(*f"ip link add {near} type veth peer name eth0 netns {host.pid}".split())
            switch.run(*f"ip link set {near} master br0 up".split())
            for command in (
                "link set lo up",
                "link set eth0 up",
                f"addr add 10.9.0.{number}/24 dev eth0",
                f"addr add fd09::{number:x}/64 dev eth0 nodad",
            ):
                host.run("ip", *command.split())
        yield Switched(dict(zip(names, hosts, strict=True)), switch)


def opened(there: Switched, count: int) -> list[socket.socket]:
    """Return connections of the peer; the first has sent a request, and has a small receive
    buffer.
    """
    made = []
    for number in range(count):
        with inside(there.vms["c"].pid):
            each = socket.socket()
        if number == 0:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.connect((ADDRESS, 80))
        made.append(each)
    made[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    return made


def measure(moves: int, connections: int, octets: int) -> None:
    """Print medians."""
    with switched("a", "b", "c") as there, ExitStack() as stack:
        asked = Task(
            on="a",
            program="http-server",
            addresses=(ip_address(ADDRESS),),
            arguments={"octets": octets + 100_000, "send_buffer": octets},
        )
        task = RunningTask(there, "web", asked, EventLog())  # type: ignore[arg-type]
        stack.callback(task.close)
        task.start()
        for each in opened(there, connections):
            stack.callback(each.close)
        for number in range(1, moves + 1):
            wait_until(partial(_fewer, task, connections), 30)
            to = "b" if task.at == "a" else "a"
            task.move(number, TaskMove(at_s=0, task="web", to=to, record_s=0.7))
            task.settle()
        rows = task.rows
    queued = statistics.median(row["sent"] + row["unsent"] for row in rows[::connections])
    print(f"{connections} connections, {queued / 1e6:.2f} MB queued, {moves} moves:")
    for part in PARTS:
        values = sorted(row[part] for row in rows if row[part] is not None)
        if values:
            print(
                f"  {part.replace('_ms', ''):9} median {statistics.median(values):7.2f} ms, "
                f"from {values[0]:.2f} to {values[-1]:.2f}"
            )
    lost = sum(row["gap_ms"] is None for row in rows)
    stalls = sum(200 <= (row["gap_ms"] or 0) <= 300 for row in rows)
    print(
        f"  peers not heard of within 5 s: {lost}; gaps of 200 to 300 ms: {stalls}; "
        f"resets: {max(row['resets'] for row in rows)}"
    )


def _fewer(task: RunningTask, connections: int) -> str | None:
    found = sum(each["state"] == "ESTABLISHED" for each in task.connections())
    return None if found == connections else f"{found} connections of {connections}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 200])
    parser.add_argument("--octets", type=int, default=1_000_000)
    given = parser.parse_args()
    for connections in given.connections:
        measure(given.moves, connections, given.octets)


if __name__ == "__main__":
    run_as_command(main)
