"""What becomes of a connection in each state of TCP when its task moves: the table `FATES`, between
real kernels.

A task has a socket in nine states, and the walk brings each about.  It has none in SYN-RECEIVED
(the connection is the listening socket's, which has not handed it over) and in TIME-WAIT (the
kernel has taken it from the task's socket, which reads CLOSED).  For these two a task moves, and
what they were is seen in the old kernel, and from what the peer gets.

The hosts are those of `test_task_moves.py`.
"""

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from nve.linux import child
from nve.linux.namespace import inside, run_in
from nve.task import repair
from nve.task.checkpoint import TcpConnection
from nve.task.initial_window import InitialWindows
from nve.task.old_stack import Delivery
from nve.task.repair import TcpInfo
from nve.task.sockets import package, resets_sent, restored
from nve.task.tcp_states import FATES, FIN_RECEIVED, FIN_SENT, Fate, TcpState
from nve.wire.frames import IPV4, IPV6
from nve.wire.segments import SYN, TCP
from tests.helpers.hosts import NIC, Hosts
from tests.helpers.task_trials import REQUEST, Trial, forget_connections, no_reset, trial
from tests.helpers.wait import wait_until

WITHOUT_A_SOCKET = {TcpState.SYN_RECEIVED, TcpState.TIME_WAIT}
FROM_TASK, FROM_PEER = b"the task has sent this", b"and its peer this"

# -- states in which the task has a socket ---------------------------------------------------------


def in_state(
    network: Hosts, state: TcpState, kept: ExitStack
) -> tuple[socket.socket, socket.socket | None]:
    """A socket of the host `b` in this state, and its peer's; what they take is kept until the
    stack ends.

    Where there is a connection, both sides have sent something that the other has not read.
    """
    with inside(network.of["c"].pid):
        listening = kept.enter_context(
            closing(socket.create_server((str(network.of["c"].ipv4), 0)))
        )
    with inside(network.of["b"].pid):
        if state is TcpState.LISTEN:
            return socket.create_server(("10.9.0.2", 0)), None
        each = socket.socket()
    if state is TcpState.SYN_SENT:
        each.setblocking(False)
        each.connect_ex(("10.9.0.99", 80))  # nobody's
        return each, None
    each.connect(listening.getsockname())
    peer = kept.enter_context(closing(listening.accept()[0]))
    # So that nothing is left of it when another test looks for resets.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sendall(FROM_PEER)
    wait_until(lambda: None if waiting(each) == FROM_PEER else "nothing has come")
    if state in (TcpState.CLOSE_WAIT, TcpState.LAST_ACK):
        peer.shutdown(socket.SHUT_WR)
        wait_until(lambda: None if TcpInfo.of(each).state is TcpState.CLOSE_WAIT else "not yet")
    if state in (TcpState.LAST_ACK, TcpState.FIN_WAIT_1, TcpState.CLOSING):
        repair.block(peer)  # which acknowledges nothing any more
    each.sendall(FROM_TASK)
    if state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
        each.shutdown(socket.SHUT_WR)
    if state is TcpState.CLOSED:
        wait_until(lambda: None if TcpInfo.of(each).state is TcpState.FIN_WAIT_2 else "not yet")
    if state in (TcpState.CLOSING, TcpState.CLOSED):
        peer.shutdown(socket.SHUT_WR)
    return each, peer


def waiting(each: socket.socket) -> bytes:
    return each.recv(100, socket.MSG_PEEK)


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.parametrize(
    "state", sorted(set(TcpState) - WITHOUT_A_SOCKET), ids=lambda each: each.name
)
def test_each_state_has_its_fate(network: Hosts, state: TcpState) -> None:
    """What is carried goes on where it was: both sides read all that was sent, and the ends that
    there were."""
    with ExitStack() as kept, inside(network.of["b"].pid):
        windows = kept.enter_context(closing(InitialWindows()))
        each, peer = in_state(network, state, kept)
        kept.enter_context(closing(each))
        wait_until(lambda: None if TcpInfo.of(each).state is state else str(TcpInfo.of(each).state))
        repair.block(each)
        held: list[socket.socket | None] = [each]
        rows, (moved,) = package(held)
        assert [(row["state"], row["fate"]) for row in rows] == (
            [] if state is TcpState.LISTEN else [(state.name, FATES[state].value)]
        )
        assert (moved is None, held[0] is None) == (FATES[state] is Fate.CLOSED,) * 2
        if FATES[state] is not Fate.MIGRATED:
            return
        assert isinstance(moved, TcpConnection)
        assert peer
        repair.leave(each)
        made = restored(moved, windows, None)
        assert made
        kept.enter_context(closing(made))
        repair.unblock(peer)
        repair.go_on(made, moved.unsent, closed=state in FIN_SENT)
        if state in FIN_RECEIVED:
            with closing(Delivery()) as delivery:
                delivery.repeat_fin(moved)
        made.settimeout(10)
        peer.settimeout(10)
        if state not in FIN_RECEIVED:
            peer.shutdown(socket.SHUT_WR)
        if state not in FIN_SENT:
            made.shutdown(socket.SHUT_WR)
        assert (to_the_end(made), to_the_end(peer)) == (FROM_PEER, FROM_TASK)
        wait_until(
            lambda: None if TcpInfo.of(made).state is TcpState.CLOSED else "something is not acked"
        )


def to_the_end(each: socket.socket) -> bytes:
    said = b""
    while more := each.recv(4096):
        said += more
    return said


# -- states in which it has none -------------------------------------------------------------------


@pytest.fixture
def fresh(network: Hosts) -> None:
    """Nothing is left of earlier connections, so that all that are seen are the test's own."""
    forget_connections(network)


FLAGS_AT = {4: 14 + 20 + 13, 6: 14 + 40 + 13}
PROTOCOL_AT = {4: 23, 6: 20}
ETHERTYPE = {4: IPV4, 6: IPV6}


@contextmanager
def losing(network: Hosts, direction: str, version: int, *, with_syn: bool) -> Iterator[None]:
    """The peer's NIC drops segments that have SYN set, or those that have not.

    cBPF: the EtherType, TCP, its flags; 2 drops, 0 passes.
    """
    syn, others = (0, 1) if with_syn else (1, 0)
    bytecode = (
        f"8,40 0 0 12,21 0 5 {ETHERTYPE[version]},48 0 0 {PROTOCOL_AT[version]},21 0 3 {TCP},"
        f"48 0 0 {FLAGS_AT[version]},69 {syn} {others} {SYN},6 0 0 2,6 0 0 0"
    )
    pid = network.of["c"].pid
    run_in(pid, ["tc", "qdisc", "add", "dev", NIC, "clsact"])
    try:
        dropped = ["bpf", "da", "bytecode", bytecode]
        run_in(pid, ["tc", "filter", "add", "dev", NIC, direction, *dropped])
        yield
    finally:
        run_in(pid, ["tc", "qdisc", "del", "dev", NIC, "clsact"])


def states(network: Hosts, host: str, address: str) -> list[str]:
    """Those of the connections that a host's kernel has with this address."""
    end = f"[{address}]" if ":" in address else address
    shown = ["ss", "-Htan", "src", end, "or", "dst", end]
    found = run_in(network.of[host].pid, shown).splitlines()
    return sorted({line.split()[0] for line in found} - {"LISTEN"})


def await_states(network: Hosts, host: str, it: Trial, *expected: str) -> None:
    def difference() -> str | None:
        found = states(network, host, it.address)
        return None if found == list(expected) else f"{host} has {found}, not {list(expected)}"

    wait_until(difference)


@contextmanager
def curl(network: Hosts, it: Trial, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A client, which prints the code of its answer and how many connections it has opened."""
    host = f"[{it.address}]" if ":" in it.address else it.address
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}", *options]
    client = network.of["c"].start(
        [*argv, f"http://{host}/"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield client
    finally:
        child.end(client)


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_whose_syn_ack_was_lost_is_connected_at_the_destination(
    network: Hosts, tmp_path: Path, version: int
) -> None:
    """SYN-RECEIVED, and the peer sends its SYN again: it does not notice the move."""
    with (
        no_reset(network, tmp_path),
        trial(network, "http-server", version, octets=100, port=80) as it,
        ExitStack() as kept,
    ):
        with losing(network, "ingress", version, with_syn=True):
            client = kept.enter_context(curl(network, it))
            await_states(network, "a", it, "SYN-RECV")
            it.move("b")
        assert client.communicate(timeout=30) == ("200 1", "")
        assert it.rows() == []


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_whose_ack_of_the_handshake_was_lost_is_reset_and_connects_again(
    network: Hosts, version: int
) -> None:
    """SYN-RECEIVED, and the peer has its connection: nothing has been served on it.  One that only
    listens does not notice."""
    assert FATES[TcpState.SYN_RECEIVED] is Fate.CLOSED
    with trial(network, "http-server", version, octets=100, port=80) as it, ExitStack() as kept:
        with losing(network, "egress", version, with_syn=False):
            client = kept.enter_context(curl(network, it))
            again = kept.enter_context(curl(network, it, "--retry", "1", "--retry-all-errors"))
            kept.enter_context(closing(it.connect(80)))
            await_states(network, "c", it, "ESTAB")
            await_states(network, "a", it, "SYN-RECV")
            it.move("b")
            assert states(network, "b", it.address) == []
        said, complaint = client.communicate(timeout=30)
        assert (client.returncode, said) == (56, "000 1"), complaint
        assert "reset by peer" in complaint
        assert again.communicate(timeout=30)[0] == "200 1"
        assert "ESTAB" in states(network, "c", it.address)
        assert it.rows() == []


@pytest.mark.shows("R4.2.1.3")
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_that_the_task_has_closed_first_ends_at_both_sides(
    network: Hosts, version: int
) -> None:
    """TIME-WAIT: it stays in the old kernel.  Of two peers, one has not got the last ACK."""
    assert FATES[TcpState.TIME_WAIT] is Fate.CLOSED
    with trial(network, "http-server", version, octets=100, port=80) as it:
        ended, not_acked = closed_by_the_task(it), closed_by_the_task(it)
        port = str(ended.getsockname()[1])
        ended.close()
        await_states(network, "c", it, "CLOSE-WAIT")
        with losing(network, "ingress", version, with_syn=False):
            not_acked.close()
            await_states(network, "a", it, "TIME-WAIT")
            await_states(network, "c", it, "LAST-ACK")
            it.move("b")
        before = resets_of(network, "b")
        assert states(network, "a", it.address) == ["TIME-WAIT"]
        await_states(network, "c", it)
        assert resets_of(network, "b") == before + 1
        with curl(network, it, "--local-port", port) as again:
            assert again.communicate(timeout=30) == ("200 1", "")
        assert it.rows() == []


def resets_of(network: Hosts, host: str) -> int:
    with inside(network.of[host].pid):
        return resets_sent()


def closed_by_the_task(it: Trial) -> socket.socket:
    """A connection that the task has closed (FIN-WAIT-2), and its peer has not."""
    connected = it.connect(80)
    connected.settimeout(10)
    connected.sendall(REQUEST.replace(b"GET", b"BAD"))
    assert to_the_end(connected).startswith(b"HTTP/1.1 400 ")
    return connected
