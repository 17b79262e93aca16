"""One task on three hosts, and its peers."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from experiments.measure.event_log import EventLog
from experiments.run.task_steps import TASK_MOVE, TaskMoveTable
from experiments.run.tasks import RunningTask
from experiments.scenario.tasks import Task, TaskMove
from nve.linux.namespace import inside, ip, run_in
from nve.task.programs import pattern
from tests.helpers.hosts import NIC, Hosts
from tests.helpers.wait import wait_until

ADDRESSES = {4: "10.9.0.50", 6: "fd09::50"}
PORT = 7000
MEGABYTE = 1_000_000
RESETS = "tcp[13] & 4 != 0 or (ip6[6] == 6 and ip6[53] & 4 != 0)"
REFUSING, CLOSED_PORT = "10.9.0.1", 9
"""The host `a`, and a port at which nobody listens."""
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Trial:
    """One task, which begins at `a`, and what was recorded of it."""

    def __init__(
        self,
        network: Hosts,
        program: str,
        version: int,
        table: TaskMoveTable = TASK_MOVE,
        **arguments: Any,
    ) -> None:
        self.log = EventLog()
        self.address = ADDRESSES[version]
        own = (ip_address(self.address),)
        asked = Task(on="a", program=program, addresses=own, arguments=arguments)
        self.task = RunningTask(network, "task1", asked, self.log, table)  # type: ignore[arg-type]
        self.network = network
        self._moves = 0
        self.task.start()

    def move(self, to: str, **said: Any) -> None:
        self._moves += 1
        given = {"record_s": 0.1, **said}
        self.task.move(self._moves, TaskMove(at_s=0, task="task1", to=to, **given))

    def connect(self, port: int = PORT) -> socket.socket:
        """Return a connection of the peer, from `c`."""
        with inside(self.network.of["c"].pid):
            return socket.create_connection((self.address, port), 10)

    def noted(self, event: str) -> list[dict[str, Any]]:
        return [dict(each.details) for each in self.log.after() if each.name == event]

    def rows(self) -> list[dict[str, Any]]:
        self.task.settle()
        return self.task.rows


@contextmanager
def trial(network: Hosts, program: str, version: int = 4, **said: Any) -> Iterator[Trial]:
    """Yield a task, which leaves no addresses behind."""
    made = Trial(network, program, version, **said)
    try:
        yield made
    finally:
        made.task.close()
        for host in network.of.values():
            with suppress(RuntimeError):
                run_in(host.pid, ["ip", "address", "del", made.address, "dev", NIC])
            with suppress(RuntimeError):
                run_in(host.pid, ["ip", "route", "flush", "type", "unreachable"])
            ip(host.pid, [f"neigh flush dev {NIC}", f"neigh flush dev {NIC} nud permanent"])


@contextmanager
def no_reset(network: Hosts, directory: Path) -> Iterator[None]:
    """Capture at the peer, and check that no RST came until the end of the block.

    One RST is provoked at the end: when that is captured, the capture works and has all before it.
    """
    forget_connections(network)
    file = directory / "resets.pcap"
    argv = ["tcpdump", "-q", "-U", "-Z", "root", "-i", NIC, "-w", str(file), RESETS]
    capture = network.of["c"].start(argv, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: None if file.exists() and file.stat().st_size else "no capture yet")
        yield
        with inside(network.of["c"].pid), suppress(ConnectionRefusedError):
            socket.create_connection((REFUSING, CLOSED_PORT), 5).close()
        wait_until(lambda: None if any(map(_provoked, _shown(file))) else "the last is not there")
    finally:
        capture.terminate()
        capture.wait()
    found = [line for line in _shown(file) if not _provoked(line)]
    assert found == [], "\n".join(found)


def forget_connections(network: Hosts) -> None:
    """End those of trials before: they would be sent again once the next one has the address."""
    for host in network.of.values():
        for address in (ADDRESSES[4], f"[{ADDRESSES[6]}]"):
            run_in(host.pid, ["ss", "-Kant", "src", address, "or", "dst", address])


def _shown(file: Path) -> list[str]:
    shown = subprocess.run(["tcpdump", "-nr", file], capture_output=True, text=True, check=False)
    return shown.stdout.splitlines()


def _provoked(line: str) -> bool:
    return f"IP {REFUSING}.{CLOSED_PORT} > " in line


def answered(connected: socket.socket, request: bytes = REQUEST) -> bool:
    """Return whether the server answers, with its document of 100 octets."""
    connected.settimeout(20)  # a peer that was dropped may wait for its next time-out
    connected.sendall(request)
    said = b""
    while not said.endswith(bytes(pattern.part(0, 100))):
        said += connected.recv(4096)
    return said.startswith(b"HTTP/1.1 200 OK\r\n")
