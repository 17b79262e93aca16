"""Tasks that move between real kernels while somebody talks to them.

Three hosts on a switch: a task moves between `a` and `b`, and its peer is `c`.
`test_tasks_in_lab.py` has the same in a data centre, `test_task_failures.py` what fails.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import IO

import pytest

from benchmarks.namespaces import delayed
from benchmarks.stream_peer import StreamPeer
from experiments.run.task_steps import TaskError
from nve.linux.injection import stands_still
from nve.linux.namespace import inside, ip, run_in
from nve.task.programs import pattern
from nve.wire.segments import ACK, RST, SYN, segment
from tests.helpers.hosts import NIC, Hosts, hosts
from tests.helpers.task_trials import (
    ADDRESSES,
    MEGABYTE,
    PORT,
    REQUEST,
    Trial,
    answered,
    no_reset,
    trial,
)
from tests.helpers.wait import wait_until


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    with hosts(["a", "b", "c"]) as made:
        yield made


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
        peer.whole()
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
            peer.whole()
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
    assert all(row["gap_ms"] for row in rows)


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


def keep_sending_to_a(network: Hosts, version: int = 4) -> None:
    """The peer does not hear that the address is somewhere else."""
    mac = json.loads(run_in(network.of["a"].pid, ["ip", "-j", "link", "show", NIC]))[0]["address"]
    command = f"neigh replace {ADDRESSES[version]} lladdr {mac} nud permanent dev {NIC}"
    ip(network.of["c"].pid, [command])


def refused_with(network: Hosts, address: str) -> int:
    """What `connect` says to a client."""
    with inside(network.of["c"].pid):
        another = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with another:
        another.settimeout(0.5)
        return another.connect_ex((address, 80))


def told_other(error: int) -> str | None:
    return None if error == errno.EHOSTUNREACH else errno.errorcode.get(error, "nothing")


ICMP_AT = {4: 14 + 20, 6: 14 + 40}
ICMP_CODES = {4: bytes([3, 1]), 6: bytes([1, 3])}
"""Type and code: RFC 792, RFC 4443 section 3.1."""


def heard_of_icmp(network: Hosts) -> socket.socket:
    """Frames that come to the peer."""
    with inside(network.of["c"].pid):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    opened.bind((NIC, 3))
    opened.setblocking(False)
    return opened


def frames_of(heard: socket.socket) -> Iterator[bytes]:
    """Those of ICMP that have come until now."""
    with suppress(BlockingIOError):
        while frame := heard.recv(2048):
            if frame[23] == 1 or frame[20] == 58:
                yield frame


@pytest.mark.shows("R4.2.1.4")
def test_the_old_host_forwards_while_it_remembers(network: Hosts, tmp_path: Path) -> None:
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        keep_sending_to_a(network)
        it.move("b", record_s=20)
        assert answered(connected)
        with closing(it.connect(80)) as opened:
            assert answered(opened)
        it.move("a")
        (first, *_) = it.noted("record-ended")
        assert (first["resets"], first["forwarded"] > 0) == (0, True)


@pytest.mark.shows("R4.2.1.1", "R4.2.1.4")
@pytest.mark.parametrize(
    ("meanwhile", "version"), [("drop", 4), ("unreachable", 4), ("unreachable", 6)]
)
def test_the_old_host_drops_or_says_that_it_is_unreachable(
    network: Hosts, tmp_path: Path, meanwhile: str, version: int
) -> None:
    """Never with a reset; and a client of the address hears what was asked for: ICMP host
    unreachable (type 3 code 1), or ICMPv6 address unreachable (type 1 code 3)."""
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", version, octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
        closing(heard_of_icmp(network)) as heard,
    ):
        keep_sending_to_a(network, version)
        it.move("b", meanwhile=meanwhile, late="drop", record_s=20)
        if meanwhile == "drop":
            assert refused_with(network, it.address) == errno.EAGAIN
        else:  # the kernel says so only now and then
            wait_until(lambda: told_other(refused_with(network, it.address)))
        connected.sendall(REQUEST)
        told = {frame[ICMP_AT[version] :][:2] for frame in frames_of(heard)}
        assert (ICMP_CODES[version] in told) == (meanwhile == "unreachable")
        it.move("a")
        assert answered(connected, b"")
        (first, *_) = it.noted("record-ended")
        assert (first["resets"], first["forwarded"]) == (0, 0)
        assert first["dropped"] > 0


@pytest.mark.shows("R9.4", "R4.2.1.4")
@pytest.mark.parametrize("version", [4, 6])
def test_forged_segments_do_a_moved_connection_no_harm(network: Hosts, version: int) -> None:
    """In its peer's name, by somebody who does not know its sequence numbers, and sent to the old
    host: a reset and an opening are forwarded, and the kernel drops the one and challenges the
    other (RFC 5961).  What belongs to no connection is dropped there, and counted."""
    with (
        trial(network, "http-server", version, octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        assert answered(connected)
        keep_sending_to_a(network, version)
        own = connected.getsockname()[1]
        it.move("b", record_s=20)
        before = challenged(network)
        for source, flags in ((own, RST), (7, ACK), (own, SYN)):
            forge(network, it, source, flags)
        wait_until(lambda: None if challenged(network) > before else "no challenge")
        assert answered(connected)
        it.move("a")
        assert it.noted("record-ended")[0]["dropped"] == 1


def forge(network: Hosts, it: Trial, source: int, flags: int) -> None:
    """A segment in the name of the peer, which leaves its host, but past its TCP."""
    own = network.of["c"]
    address = own.ipv4 if ":" not in it.address else own.ipv6
    packet = segment((address, source), (ip_address(it.address), 80), 1, 1, flags)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with inside(own.pid):
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.sendto(packet, (it.address, 0))


def challenged(network: Hosts) -> int:
    """Openings within connections that there are, as the destination's TCP has counted them."""
    told = run_in(network.of["b"].pid, ["cat", "/proc/net/netstat"]).splitlines()
    return int(told[1].split()[told[0].split().index("TCPSYNChallenge")])


@pytest.mark.shows("R4.2.1.1", "R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_the_target_answers_nothing_before_it_has_the_connections(
    network: Hosts, tmp_path: Path, version: int
) -> None:
    """Its address is there first; who sends to it all the time is never answered with a reset."""
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", version, octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        assert answered(connected)
        mac = json.loads(run_in(network.of["b"].pid, ["ip", "-j", "link", "show", NIC]))
        to_b = f"neigh replace {it.address} lladdr {mac[0]['address']} nud permanent dev {NIC}"
        ip(network.of["c"].pid, [to_b])
        over = threading.Event()
        own = connected.getsockname()[1]

        def keep_sending() -> None:
            while not over.wait(0.001):
                forge(network, it, own, ACK)

        sending = threading.Thread(target=keep_sending)
        sending.start()
        try:
            it.move("b")
        finally:
            over.set()
            sending.join()
        assert answered(connected)


def test_a_reset_would_be_seen(network: Hosts, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError),
        no_reset(network, tmp_path),
        inside(network.of["c"].pid),
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("10.9.0.1", 10), 5)
