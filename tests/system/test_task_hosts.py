"""What hosts do with packets for a task that has left them, or has not come yet.

The hosts are those of `test_task_moves.py`.
"""

import errno
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from nve.linux.namespace import inside, ip, run_in
from nve.task import repair
from nve.task.initial_window import USUAL, InitialWindows
from nve.task.repair import TcpInfo
from nve.task.sockets import restored
from nve.wire.segments import ACK, RST, SYN, segment
from tests.helpers.hosts import NIC, Hosts
from tests.helpers.task_trials import (
    ADDRESSES,
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


# -- how a connection begins at the target ---------------------------------------------------------


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_begins_with_the_window_that_it_had(network: Hosts, version: int) -> None:
    """By a host route to its peer, which is gone at once; one that is somebody's own stays."""
    pid, peer = network.of["b"].pid, network.of["c"]
    address = str(peer.ipv4 if version == 4 else peer.ipv6)
    own_route = f"route add {address} dev {NIC} metric 1 mtu 1400"
    with inside(peer.pid):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        listening = socket.create_server((address, 0), family=family)
    with closing(listening), inside(pid), closing(InitialWindows()) as windows:
        each = socket.create_connection((address, listening.getsockname()[1]), 5)
        before = routes(pid, version)
        for segments, begins in ((500, 500), (20, 20), (None, USUAL)):
            each = restored_in_place(each, windows, segments)
            assert TcpInfo.of(each).cwnd == begins
            assert routes(pid, version) == before
        ip(pid, [own_route])
        try:
            each = restored_in_place(each, windows, 500)
            assert TcpInfo.of(each).cwnd == USUAL
            assert "mtu 1400" in routes(pid, version)
        finally:
            ip(pid, [own_route.replace("add", "del")])
            each.close()


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
