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
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from experiments.run.task_steps import TaskError
from nve.linux.injection import stands_still
from nve.linux.namespace import inside, ip, run_in
from nve.task.programs import pattern
from tests.helpers.hosts import NIC, Hosts, hosts
from tests.helpers.task_trials import (
    ADDRESSES,
    MEGABYTE,
    PORT,
    REQUEST,
    StreamPeer,
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
        client = ["iperf3", "-c", it.address, "-t", "4", "-b", "100M", "--json"]
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


def keep_sending_to_a(network: Hosts) -> None:
    """The peer does not hear that the address is somewhere else."""
    mac = json.loads(run_in(network.of["a"].pid, ["ip", "-j", "link", "show", NIC]))[0]["address"]
    command = f"neigh replace {ADDRESSES[4]} lladdr {mac} nud permanent dev {NIC}"
    ip(network.of["c"].pid, [command])


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
@pytest.mark.parametrize("meanwhile", ["drop", "unreachable"])
def test_the_old_host_drops_or_says_that_it_is_unreachable(
    network: Hosts, tmp_path: Path, meanwhile: str
) -> None:
    """Never with a reset; and a client of the address hears what was asked for."""
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        keep_sending_to_a(network)
        it.move("b", meanwhile=meanwhile, late="drop", record_s=20)
        # First the one that is to be told: the kernel says so only now and then.
        with inside(network.of["c"].pid), socket.socket() as another:
            another.settimeout(0.5)
            error = another.connect_ex((it.address, 80))
        connected.sendall(REQUEST)
        assert error == (errno.EHOSTUNREACH if meanwhile == "unreachable" else errno.EAGAIN)
        it.move("a")
        assert answered(connected, b"")
        (first, *_) = it.noted("record-ended")
        assert (first["resets"], first["forwarded"]) == (0, 0)
        assert first["dropped"] > 0


def test_a_reset_would_be_seen(network: Hosts, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError),
        no_reset(network, tmp_path),
        inside(network.of["c"].pid),
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("10.9.0.1", 10), 5)
