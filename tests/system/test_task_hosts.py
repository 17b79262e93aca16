"""What hosts do with packets for a task that has left them, or has not come yet.

The hosts are those of `test_task_moves.py`.
"""

import errno
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from benchmarks.stream_peer import StreamPeer
from experiments.run.task_steps import TASK_MOVE, TaskMoveUnderWay, TaskStep
from nve.linux.namespace import inside, ip, run_in, set_sysctls
from nve.task import repair
from nve.task.initial_window import USUAL, InitialWindows
from nve.task.repair import TcpInfo
from nve.task.sockets import restored
from nve.wire.segments import ACK, RST, SYN, segment
from tests.helpers.hosts import NIC, Hosts
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


def keep_sending_to_a(network: Hosts, version: int = 4) -> None:
    """The peer does not hear that the address is somewhere else."""
    mac = json.loads(run_in(network.of["a"].pid, ["ip", "-j", "link", "show", NIC]))[0]["address"]
    command = f"neigh replace {ADDRESSES[version]} lladdr {mac} nud permanent dev {NIC}"
    ip(network.of["c"].pid, [command])


def refused_with(network: Hosts, address: str, at: str = "c") -> int:
    """What `connect` says to a client at a host."""
    with inside(network.of[at].pid):
        another = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with another:
        another.settimeout(0.5)
        return another.connect_ex((address, 80))


def told_other(error: int, expected: int) -> str | None:
    return None if error == expected else errno.errorcode.get(error, "nothing")


ICMP_AT = {4: 14 + 20, 6: 14 + 40}
ICMP_CODES = {
    ("unreachable", 4): bytes([3, 1]),
    ("unreachable", 6): bytes([1, 3]),
    ("port-unreachable", 4): bytes([3, 3]),
    ("port-unreachable", 6): bytes([1, 4]),
}
"""Type and code: RFC 792, RFC 4443 section 3.1."""
ERRORS = {"unreachable": errno.EHOSTUNREACH, "port-unreachable": errno.ECONNREFUSED}


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
@pytest.mark.parametrize(("meanwhile", "version"), [("drop", 4), *ICMP_CODES])
def test_the_old_host_drops_or_says_that_it_is_unreachable(
    network: Hosts, tmp_path: Path, meanwhile: str, version: int
) -> None:
    """Never with a reset; and a client of the address hears what was asked for: that the host, the
    address, or the port is unreachable."""
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
            expected = ERRORS[meanwhile]
            wait_until(lambda: told_other(refused_with(network, it.address), expected))
        connected.sendall(REQUEST)
        told = {frame[ICMP_AT[version] :][:2] for frame in frames_of(heard)}
        right = {ICMP_CODES[meanwhile, version]} if meanwhile != "drop" else set()
        assert told & set(ICMP_CODES.values()) == right
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


@pytest.mark.shows("R4.2.1.1", "R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_a_client_at_the_target_keeps_its_connection(
    network: Hosts, tmp_path: Path, version: int
) -> None:
    """What it sends does not leave its host: it meets the address there, and no connection yet.

    One that connects when the task is there has the task's address, and is closed when that leaves.
    """

    def talking(do: Any) -> Any:
        def carried_out(move: TaskMoveUnderWay) -> None:
            connected.sendall(REQUEST)
            refused = refused_with(network, it.address, "b")
            assert refused == (errno.ENETUNREACH if move.asked.to == "b" else errno.EAGAIN)
            do(move)

        return carried_out

    def said_before(step: TaskStep) -> TaskStep:
        return replace(step, do=talking(step.do)) if step.name == "package" else step

    table = replace(TASK_MOVE, revocable=[*map(said_before, TASK_MOVE.revocable)])
    with trial(network, "http-server", version, table=table, octets=100, port=80) as it:
        with inside(network.of["b"].pid):
            connected = socket.create_connection((it.address, 80), 10)
        with closing(connected):
            assert answered(connected)
            it.move("b")
            assert answered(connected, b"")
            with inside(network.of["b"].pid):
                beside = socket.create_connection((it.address, 80), 10)
            with closing(beside):
                assert beside.getsockname()[0] == it.address
                assert answered(beside)
                it.move("a")
                with suppress(ConnectionResetError):
                    assert beside.recv(1) == b"", "its own address is gone"
            assert answered(connected, b"")
            fates = [(row["move"], row["fate"]) for row in it.rows()]
            assert sorted(fates) == [(1, "migrated"), (2, "closed"), (2, "migrated")]


@pytest.mark.shows("R4.2.1.3")
def test_of_several_connections_one_may_be_reset_while_the_task_moves(
    network: Hosts, tmp_path: Path
) -> None:
    """By its peer, who is gone when it is asked to go on: the others go on."""
    octets = 4 * MEGABYTE
    connected: list[socket.socket] = []

    def leaving(do: Any) -> Any:
        def carried_out(move: TaskMoveUnderWay) -> None:
            gone = connected[0]
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            do(move)

        return carried_out

    def left_before(step: TaskStep) -> TaskStep:
        return replace(step, do=leaving(step.do)) if step.name == "package" else step

    table = replace(TASK_MOVE, revocable=[*map(left_before, TASK_MOVE.revocable)])
    with trial(network, "stream", table=table, port=PORT, octets=octets) as it:
        connected += [it.connect(), it.connect()]
        with closing(connected[1]):
            peer = StreamPeer(connected[1], octets)
            peer.go_on(octets // 2)
            it.move("b", meanwhile="drop")
            peer.whole(it.task)


# -- how a connection begins at the target ---------------------------------------------------------


FAR = {4: "10.77.0.7", 6: "fd77::7"}
FAR_SUBNETS = {4: "10.77.0.0/24", 6: "fd77::/64"}
"""The peer's addresses behind itself, as behind a router."""


@pytest.fixture
def far_peer(network: Hosts) -> Iterator[None]:
    own, peer = network.of["b"], network.of["c"]
    ip(peer.pid, ["link set lo up", *(f"addr add {each} dev lo" for each in FAR.values())])
    near = {4: peer.ipv4, 6: peer.ipv6}
    ip(own.pid, [f"route add {FAR_SUBNETS[each]} via {near[each]} mtu 1400" for each in FAR])
    yield
    ip(own.pid, [f"route del {each}" for each in FAR_SUBNETS.values()])
    ip(peer.pid, [f"addr del {each} dev lo" for each in FAR.values()])


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.usefixtures("far_peer")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("far", [False, True])
def test_a_connection_begins_with_the_window_that_it_had(
    network: Hosts, version: int, far: bool
) -> None:
    """By a host route to its peer, which is gone at once."""
    pid, peer = network.of["b"].pid, network.of["c"]
    near = str(peer.ipv4 if version == 4 else peer.ipv6)
    address = FAR[version] if far else near
    with inside(peer.pid):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        listening = socket.create_server((address, 0), family=family)
    with closing(listening), inside(pid), closing(InitialWindows()) as windows:
        each = socket.create_connection((address, listening.getsockname()[1]), 5)
        other, _ = listening.accept()
        before = routes(pid, version)
        for segments, begins in ((500, 500), (20, 20), (None, USUAL)):
            each = restored_in_place(each, windows, segments)
            assert TcpInfo.of(each).cwnd == begins
            assert routes(pid, version) == before
        with closing(each), closing(other):
            other.settimeout(5)
            each.sendall(b"here")
            assert other.recv(4) == b"here"


def test_a_host_route_of_somebody_elses_stays(network: Hosts) -> None:
    pid, peer = network.of["b"].pid, network.of["c"]
    with inside(peer.pid):
        listening = socket.create_server((str(peer.ipv4), 0))
    ip(pid, [f"route add {peer.ipv4} dev {NIC} metric 1 mtu 1400"])
    try:
        before = routes(pid, 4)
        with closing(listening), inside(pid), closing(InitialWindows()) as windows:
            each = socket.create_connection(listening.getsockname(), 5)
            each = restored_in_place(each, windows, 500)
            with closing(each):
                assert TcpInfo.of(each).cwnd == USUAL
        assert routes(pid, 4) == before
    finally:
        ip(pid, [f"route del {peer.ipv4} dev {NIC} metric 1"])


def restored_in_place(
    each: socket.socket, windows: InitialWindows, segments: int | None
) -> socket.socket:
    repair.block(each)
    found = repair.dump(each)
    repair.leave(each)
    made = restored(found, windows, segments)
    assert made
    repair.go_on(made)
    return made


def routes(pid: int, version: int) -> str:
    return run_in(pid, ["ip", f"-{version}", "route", "show"])


NOT_OFFERED: tuple[dict[str, int], ...] = (
    {},
    {"tcp_timestamps": 0},
    {"tcp_sack": 0},
    {"tcp_window_scaling": 0},
)


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize("lacking", NOT_OFFERED, ids=lambda each: "".join(each) or "all")
def test_a_connection_keeps_what_was_negotiated(network: Hosts, lacking: dict[str, int]) -> None:
    """Timestamps, selective acknowledgement and window scaling, as far as the peer has them."""
    pid, peer = network.of["b"].pid, network.of["c"]
    with inside(peer.pid):
        listening = socket.create_server((str(peer.ipv4), 0))
    set_sysctls(peer.pid, {f"ipv4/{name}": value for name, value in lacking.items()})
    try:
        with closing(listening), inside(pid), closing(InitialWindows()) as windows:
            each = socket.create_connection(listening.getsockname(), 5)
            other, _ = listening.accept()
            before = TcpInfo.of(each)
            each = restored_in_place(each, windows, None)
            with closing(each), closing(other):
                after = TcpInfo.of(each)
                assert (after.options, after.scales) == (before.options, before.scales)
                other.settimeout(5)
                each.sendall(b"here")
                assert other.recv(4) == b"here"
    finally:
        set_sysctls(peer.pid, {f"ipv4/{name}": 1 for name in lacking})
