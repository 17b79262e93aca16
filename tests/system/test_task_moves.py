"""Tasks that move between real kernels while somebody talks to them.

Three hosts on a switch: a task moves between `a` and `b`, and its peer is `c`.
`test_tasks_in_lab.py` has the same in a data centre, `test_task_failures.py` what fails, and
`test_task_hosts.py` what the hosts do with packets that come while the task is elsewhere.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest

from benchmarks.namespaces import delayed
from benchmarks.stream_peer import StreamPeer
from experiments.run.task_steps import TaskError
from nve.linux.injection import stands_still
from nve.linux.namespace import inside, run_in
from nve.task.programs import pattern
from tests.helpers.hosts import Hosts
from tests.helpers.task_trials import (
    ADDRESSES,
    MEGABYTE,
    PORT,
    Trial,
    answered,
    no_reset,
    trial,
)
from tests.helpers.wait import wait_until


@contextmanager
def accepted(network: Hosts, version: int) -> Iterator[tuple[int, list[socket.socket]]]:
    """A server at `c`: its port, and the first connection to it when it is there."""
    with inside(network.of["c"].pid):
        family, address = (
            (socket.AF_INET, "10.9.0.3") if version == 4 else (socket.AF_INET6, "fd09::3")
        )
        listening = socket.create_server((address, 0), family=family)
    found: list[socket.socket] = []
    thread = threading.Thread(target=lambda: found.append(listening.accept()[0]), daemon=True)
    thread.start()
    with closing(listening):
        yield listening.getsockname()[1], found
        thread.join(10)


@pytest.mark.shows("R4.2.3", "R4.2.1.1", "R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_a_server_moves_while_both_sides_send(network: Hosts, tmp_path: Path, version: int) -> None:
    octets = 12 * MEGABYTE
    with (
        no_reset(network, tmp_path),
        trial(network, "stream", version, port=PORT, octets=octets) as it,
        closing(it.connect()) as connected,
    ):
        peer = StreamPeer(connected, octets)
        for number, to in enumerate("bab"):
            peer.go_on((number + 1) * octets // 4)
            it.move(to)
        peer.whole(it.task)
        rows = it.rows()
        assert it.task.failure() is None
    assert [row["fate"] for row in rows] == ["migrated"] * 3
    assert {row["resets"] for row in rows} == {0}
    assert any(row["unsent"] or row["sent"] for row in rows)
    order = [event.name for event in it.log.after() if event.details.get("task_move") == 1]
    assert order[:9] == [
        *("task-move-requested", "task-connected", "address-configured", "task-stopped"),
        *("task-packaged", "task-sent", "task-instantiated", "task-restarted", "record-ended"),
    ]


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_a_client_moves_while_both_sides_send(network: Hosts, tmp_path: Path, version: int) -> None:
    octets = 8 * MEGABYTE
    address = "10.9.0.3" if version == 4 else "fd09::3"
    with no_reset(network, tmp_path), accepted(network, version) as (port, found):
        connect = {"address": address, "port": port}
        with trial(network, "stream", version, connect=connect, octets=octets) as it:
            wait_until(lambda: None if found else "nobody has connected")
            peer = StreamPeer(found[0], octets)
            for number, to in enumerate("ba"):
                peer.go_on((number + 1) * octets // 3)
                it.move(to)
            peer.whole(it.task)
            assert [row["fate"] for row in it.rows()] == ["migrated"] * 2


def await_size(file: Path, octets: int) -> None:
    wait_until(lambda: None if file.exists() and file.stat().st_size >= octets else "no more yet")


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_curl_downloads_from_a_server_that_moves(network: Hosts, tmp_path: Path) -> None:
    """A client that is not ours, and notices nothing."""
    octets, moves = 30 * MEGABYTE, 5
    out = tmp_path / "downloaded"
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", octets=octets, port=80) as it,
    ):
        argv = ["curl", "-sS", "--limit-rate", "5M", "-o", str(out), f"http://{it.address}/"]
        curl = network.of["c"].start(argv, stderr=subprocess.PIPE, text=True)
        for number in range(moves):
            await_size(out, number * octets // 30 + 1)
            # However long a busy machine takes for a move, the download does not end meanwhile.
            curl.send_signal(signal.SIGSTOP)
            it.move("ba"[number % 2])
            curl.send_signal(signal.SIGCONT)
        _, complaint = curl.communicate(timeout=60)
        assert [row["fate"] for row in it.rows()] == ["migrated"] * moves
    assert (curl.returncode, complaint) == (0, "")
    assert sha256(out.read_bytes()).hexdigest() == pattern.digest(octets)


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_a_process_moves_that_knows_nothing_of_it(network: Hosts, tmp_path: Path) -> None:
    """iperf3's server, asked by its client, from a socket that listens to the last report."""
    command = ["iperf3", "-s", "-1", "-B", "{ipv4}"]
    with no_reset(network, tmp_path), trial(network, "process", command=command) as it:
        client = ["iperf3", "-c", it.address, "-t", "8", "-b", "100M", "--json"]
        wait_until(lambda: None if listens(network, "a", 5201) else "no server")
        asking = network.of["c"].start(client, stdout=subprocess.PIPE, text=True)
        for to in "ba":
            wait_until(lambda: None if connected(network, "c", 5201) > 1 else "no connection")
            it.move(to)
        told = json.loads(asking.communicate(timeout=60)[0])
        rows = it.rows()
    assert "error" not in told
    assert told["end"]["sum_received"]["bytes"] == pytest.approx(
        told["end"]["sum_sent"]["bytes"], rel=0.05
    )
    assert [(row["move"], row["fate"]) for row in rows] == [
        (number, "migrated") for number in (1, 1, 2, 2)
    ]


HTTPS = """
import http.server, socketserver, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
http.server.SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
server = socketserver.TCPServer((sys.argv[1], 443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
"""Of Python's own library, with what is in the current directory; one client at a time, who closes
the connection."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate in one file, and beside it a document."""
    directory = tmp_path_factory.mktemp("secured")
    names = ",".join(f"IP:{address}" for address in ADDRESSES.values())
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-subj", "/CN=task1", "-addext", f"subjectAltName={names}"]
    argv += ["-keyout", "-", "-out", "-"]
    made = subprocess.run(argv, capture_output=True, check=True)
    (directory / "own.pem").write_bytes(made.stdout)
    parts = (pattern.part(number * MEGABYTE, MEGABYTE) for number in range(20))
    (directory / "document").write_bytes(b"".join(parts))
    return directory / "own.pem"


def https(own: Path) -> list[str]:
    started = f"import os; os.chdir({str(own.parent)!r})" + HTTPS
    return [sys.executable, "-c", started, "{ipv4}", str(own)]


def downloading(
    network: Hosts, it: Trial, own: Path, out: Path, rate: str = "5M"
) -> "subprocess.Popen[str]":
    wait_until(lambda: None if listens(network, it.task.at, 443) else "no server")
    argv = ["curl", "-sS", "--cacert", str(own), "--limit-rate", rate, "-o", str(out)]
    argv += [f"https://{it.address}/document"]
    return network.of["c"].start(argv, stderr=subprocess.PIPE, text=True)


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_curl_downloads_over_tls_from_a_process_that_moves(
    network: Hosts, tmp_path: Path, secured: Path
) -> None:
    """The keys and the place in the stream are in the process, and stay with it."""
    out = tmp_path / "downloaded"
    with (
        no_reset(network, tmp_path),
        trial(network, "process", command=https(secured)) as it,
    ):
        curl = downloading(network, it, secured, out)
        for number in range(5):
            await_size(out, number * 4 * MEGABYTE + 1)
            curl.send_signal(signal.SIGSTOP)
            it.move("ba"[number % 2])
            curl.send_signal(signal.SIGCONT)
        _, complaint = curl.communicate(timeout=60)
        rows = it.rows()
    assert (curl.returncode, complaint) == (0, "")
    assert sha256(out.read_bytes()).hexdigest() == pattern.digest(20 * MEGABYTE)
    assert {row["fate"] for row in rows} == {"migrated"}
    assert all(row["gap_ms"] for row in rows)


@pytest.mark.shows("R4.2.1.2")
def test_a_client_over_tls_sees_that_its_connection_was_closed(
    network: Hosts, tmp_path: Path, secured: Path
) -> None:
    """With `close` it is cut off, which TLS tells from an end; a new one works."""
    out = tmp_path / "downloaded"
    with trial(network, "process", command=https(secured)) as it:
        curl = downloading(network, it, secured, out)
        await_size(out, 1)
        curl.send_signal(signal.SIGSTOP)  # so that a slow move does not come after the end
        it.move("b", connections="close")
        curl.send_signal(signal.SIGCONT)
        _, complaint = curl.communicate(timeout=60)
        assert curl.returncode in (18, 56), complaint  # ended early, or without a close_notify
        again = downloading(network, it, secured, out, "1G")
        assert again.communicate(timeout=60)[1] == ""
        assert sha256(out.read_bytes()).hexdigest() == pattern.digest(20 * MEGABYTE)


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_what_is_typed_comes_back_through_moves_over_a_long_path(
    network: Hosts, tmp_path: Path, version: int
) -> None:
    """socat on both sides, as an interactive session: a key every 50 ms, 50 ms there and back."""
    family = {4: "4", 6: "6"}[version]
    server = ["socat", f"TCP{family}-LISTEN:22,bind={{ipv{version}}}", "PIPE"]
    if version == 6:
        server[1] = "TCP6-LISTEN:22,bind=[{ipv6}]"
    with (
        delayed(network.switch, "to-c", "br0", 25, tmp_path),
        no_reset(network, tmp_path),
        trial(network, "process", version, command=server) as it,
    ):
        wait_until(lambda: None if listens(network, "a", 22) else "no server")
        to = f"TCP{family}:[{it.address}]:22" if version == 6 else f"TCP4:{it.address}:22"
        client = network.of["c"].start(
            ["socat", "-", to], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        keys = Keys(client, every_s=0.05)
        for host in "ba":
            keys.come_back(5)
            it.move(host)
        keys.come_back(5)
        keys.end()
        rows = it.rows()
        client.wait()
    assert [row["fate"] for row in rows] == ["migrated"] * 2
    assert {row["resets"] for row in rows} == {0}
    assert all(row["gap_ms"] >= row["freeze_ms"] for row in rows)


class Keys:
    """Somebody who types, and sees all of it, in order."""

    def __init__(self, client: "subprocess.Popen[bytes]", every_s: float) -> None:
        assert client.stdin
        assert client.stdout
        self._client, self._ended, self.seen = client, threading.Event(), 0
        self._typed = 0
        self._wrong: list[str] = []
        self._threads = [
            threading.Thread(target=each, daemon=True, args=args)
            for each, args in ((self._type, (client.stdin, every_s)), (self._see, (client.stdout,)))
        ]
        for thread in self._threads:
            thread.start()

    def _type(self, keys: IO[bytes], every_s: float) -> None:
        while not self._ended.wait(every_s):
            keys.write(f"{self._typed}\n".encode())
            self._typed += 1
        keys.close()

    def _see(self, shown: IO[bytes]) -> None:
        for line in iter(shown.readline, b""):
            if line != f"{self.seen}\n".encode():
                self._wrong.append(f"{line!r} after {self.seen}")
            self.seen += 1

    def come_back(self, more: int) -> None:
        """Returns when so many more have."""
        until = self.seen + more
        wait_until(lambda: None if self.seen >= until else f"{self.seen} of {until} keys")

    def end(self) -> None:
        """All that was typed has been seen."""
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        assert (self.seen, self._wrong) == (self._typed, [])


ECHO = """
import asyncio, sys
async def serve(reader, writer):
    while said := await reader.read(4096):
        writer.write(said)
async def main():
    async with await asyncio.start_server(serve, sys.argv[1], 7000) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def test_a_process_that_waits_by_epoll_moves(network: Hosts, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ECHO, "{ipv6}"]
    with no_reset(network, tmp_path), trial(network, "process", 6, command=command) as it:
        wait_until(lambda: None if listens(network, "a", PORT) else "no server")
        with closing(it.connect()) as connected:
            for to in "ba":
                it.move(to)
                with closing(it.connect()) as another:
                    for each in (connected, another):
                        each.settimeout(5)
                        each.sendall(b"here")
                        assert each.recv(4) == b"here"


THREADS = "import threading, time; threading.Thread(target=time.sleep, args=[99]).start()"


def test_a_process_with_threads_is_refused_and_goes_on(network: Hosts) -> None:
    with trial(network, "process", command=[sys.executable, "-c", THREADS]) as it:
        assert it.task._process
        (pid,) = children(it.task._process.pid)
        wait_until(lambda: None if len(os.listdir(f"/proc/{pid}/task")) > 1 else "one thread")
        with pytest.raises(TaskError, match="has 2 threads; only one can be moved"):
            it.move("b")
        assert it.noted("task-move-undone")
        assert not stands_still(pid)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return list(map(int, found.split()))


def listens(network: Hosts, host: str, port: int) -> bool:
    return bool(run_in(network.of[host].pid, ["ss", "-Htln", f"sport = {port}"]))


def connected(network: Hosts, host: str, port: int) -> int:
    """How many connections the host has to a port."""
    return len(run_in(network.of[host].pid, ["ss", "-Htn", f"dport = {port}"]).splitlines())


# -- connections that are half closed, and others -------------------------------------------------


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_half_closed_connections_move(network: Hosts, tmp_path: Path, version: int) -> None:
    """The peer has closed its direction (CLOSE-WAIT), and the task has (FIN-WAIT-2)."""
    octets = 3 * MEGABYTE
    with (
        no_reset(network, tmp_path),
        trial(network, "stream", version, port=PORT, octets=octets) as it,
        closing(it.connect()) as reads,
        closing(it.connect()) as writes,
    ):
        for each in (reads, writes):
            each.settimeout(10)
        reads.shutdown(socket.SHUT_WR)
        assert len(to_the_end(writes)) == octets
        it.move("b")
        rows = {row["state"] for row in it.rows()}
        assert rows == {"CLOSE_WAIT", "FIN_WAIT_2"}
        assert sha256(to_the_end(reads)).hexdigest() == pattern.digest(octets)
        writes.sendall(pattern.part(0, MEGABYTE))
        writes.shutdown(socket.SHUT_WR)
        wait_until(lambda: None if ended(writes) else "the task has not closed it")
        assert it.task.failure() is None


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_moves_whose_end_is_not_acknowledged_yet(
    network: Hosts, tmp_path: Path, version: int
) -> None:
    """FIN-WAIT-1: the task has closed its direction, and its peer has no room for what comes before
    the FIN."""
    octets = 20_000  # more than the peer has room for, and less than the task has
    with (
        no_reset(network, tmp_path),
        trial(network, "stream", version, port=PORT, octets=octets) as it,
    ):
        with inside(network.of["c"].pid):
            writes = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        writes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writes.settimeout(10)
        with closing(writes):
            writes.connect((it.address, PORT))

            def another_state() -> str | None:
                states = [each["state"] for each in it.task.connections()]
                return None if states == ["LISTEN", "FIN_WAIT_1"] else str(states)

            wait_until(another_state)
            it.move("b")
            (row,) = it.rows()
            assert (row["state"], row["fate"]) == ("FIN_WAIT_1", "migrated")
            assert row["sent"] + row["unsent"] > 0
            assert sha256(to_the_end(writes)).hexdigest() == pattern.digest(octets)
            writes.sendall(pattern.part(0, octets))
            writes.shutdown(socket.SHUT_WR)
            wait_until(lambda: None if ended(writes) else "the task has not closed it")
        assert it.task.failure() is None


def to_the_end(each: socket.socket) -> bytes:
    """All that comes."""
    said = b""
    while more := each.recv(1 << 20):
        said += more
    return said


def ended(each: socket.socket) -> bool:
    """All that was sent is acknowledged, and both sides have closed."""
    return each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (6, 7)


@pytest.mark.shows("R4.2.1.2")
def test_connections_may_be_closed_instead(network: Hosts) -> None:
    with (
        trial(network, "http-server", octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        wait_until(lambda: None if answered(connected) else "no answer")
        it.move("b", connections="close")
        connected.settimeout(5)
        assert connected.recv(1) == b""
        with closing(it.connect(80)) as again:
            assert answered(again)
        (row,) = it.rows()
        assert (row["fate"], row["state"]) == ("closed", "ESTABLISHED")


# -- what comes to the old host --------------------------------------------------------------------


def test_a_reset_would_be_seen(network: Hosts, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError),
        no_reset(network, tmp_path),
        inside(network.of["c"].pid),
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("10.9.0.1", 10), 5)
