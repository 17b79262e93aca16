"""A task whose move fails goes on at its source, with its connections.

The hosts are those of `test_task_moves.py`.
"""

import os
import secrets
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from benchmarks.stream_peer import StreamPeer
from experiments.run.task_steps import (
    TASK_MOVE,
    TaskError,
    TaskMoveTable,
    TaskMoveUnderWay,
    TaskStep,
)
from nve.linux.namespace import inside, ip, run_in
from nve.task.checkpoint import Checkpoint, Endpoint, Listener
from nve.task.link import Kind, LinkError, TaskLink
from tests.helpers.hosts import NIC, Hosts
from tests.helpers.task_trials import (
    MEGABYTE,
    PORT,
    REQUEST,
    answered,
    forget_connections,
    no_reset,
    trial,
)
from tests.helpers.wait import wait_until


def dying_before(name: str, *, source: bool = False) -> TaskMoveTable:
    """The destination, or else the source, dies before a step."""

    def killing(do: Any) -> Any:
        def carried_out(move: TaskMoveUnderWay) -> None:
            dying = move.source if source else move.there()
            os.kill(dying.pid, signal.SIGKILL)
            wait_until(lambda: "it is alive" if dying.alive else None)
            do(move)

        return carried_out

    def dying(steps: Sequence[TaskStep]) -> list[TaskStep]:
        return [replace(step, do=killing(step.do)) if step.name == name else step for step in steps]

    return replace(TASK_MOVE, revocable=dying(TASK_MOVE.revocable), final=dying(TASK_MOVE.final))


@pytest.mark.shows("R4.2.3")
@pytest.mark.parametrize("step", ["configure address", "stop", "package", "send and instantiate"])
def test_the_task_goes_on_at_the_source_where_the_destination_dies(
    network: Hosts, tmp_path: Path, step: str
) -> None:
    octets = 4 * MEGABYTE
    with (
        no_reset(network, tmp_path),
        trial(network, "stream", table=dying_before(step), port=PORT, octets=octets) as it,
        closing(it.connect()) as connected,
    ):
        peer = StreamPeer(connected, octets)
        peer.go_on(octets // 2)
        with pytest.raises(TaskError):
            it.move("b")
        assert it.noted("task-move-undone")
        assert it.task.at == "a"
        peer.whole(it.task)
        shown = run_in(network.of["b"].pid, ["ip", "address", "show"])
        assert it.address not in shown


@pytest.mark.shows("R4.2.3")
@pytest.mark.parametrize("step", ["stop", "package", "send and instantiate"])
def test_the_task_ends_where_the_source_dies_before_it_has_sent_it(
    network: Hosts, step: str
) -> None:
    """With its connections: nobody else answers for them, also for a new client."""
    with (
        trial(
            network, "http-server", table=dying_before(step, source=True), octets=100, port=80
        ) as it,
        closing(it.connect(80)) as connected,
    ):
        assert answered(connected)
        with pytest.raises(TaskError, match="the task task1 in a has ended"):
            it.move("b")
        assert it.noted("not-undone")
        assert it.task.failure() == "the task task1 in a has ended: the task task1 in a has ended"
        assert it.address not in run_in(network.of["b"].pid, ["ip", "address", "show"])
        connected.settimeout(0.5)
        # So that nothing is left of it when another test looks for resets.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert said_of(connected) == b""
        with inside(network.of["c"].pid), socket.socket() as another:
            another.settimeout(0.5)
            assert another.connect_ex((it.address, 80)) != 0


def said_of(connected: socket.socket) -> bytes:
    """What is answered to a request: nothing, where it has ended or nobody is there."""
    with suppress(OSError):
        connected.sendall(REQUEST)
        return connected.recv(1)
    return b""


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_the_destination_has_the_task_where_the_source_dies_after_it_has_sent_it(
    network: Hosts, tmp_path: Path
) -> None:
    octets = 4 * MEGABYTE
    table = dying_before("leave", source=True)
    with (
        no_reset(network, tmp_path),
        trial(network, "stream", table=table, port=PORT, octets=octets) as it,
        closing(it.connect()) as connected,
    ):
        peer = StreamPeer(connected, octets)
        peer.go_on(octets // 2)
        it.move("b")
        assert it.task.at == "b"
        peer.whole(it.task)
        assert it.noted("record-not-kept")
        assert it.address not in run_in(network.of["a"].pid, ["ip", "address", "show"])


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_the_task_is_lost_where_the_destination_dies_after_it_has_got_it(
    network: Hosts,
) -> None:
    """Nobody answers its peers, with a reset or else; it is at the destination, and cannot move."""
    table = dying_before("restart")
    with (
        trial(network, "http-server", table=table, octets=100, port=80) as it,
        closing(it.connect(80)) as connected,
    ):
        assert answered(connected)
        with pytest.raises(TaskError, match="the task task1 in b has ended"):
            it.move("b")
        assert it.task.at == "b"
        assert it.task.failure() == "the task task1 in b has ended: the task task1 in b has ended"
        connected.settimeout(0.5)
        connected.sendall(REQUEST)
        with pytest.raises(TimeoutError):
            connected.recv(1)
        with pytest.raises(TaskError, match="the task task1 in b has ended"):
            it.move("a")
        forget_connections(network)


@pytest.mark.parametrize("taken", ["port", "address"])
def test_a_destination_where_it_is_in_use_refuses(network: Hosts, taken: str) -> None:
    pid = network.of["b"].pid
    with trial(network, "http-server", octets=100, port=80) as it, closing(it.connect(80)) as there:
        if taken == "port":
            with inside(pid):
                other: Any = socket.create_server(("0.0.0.0", 80))
            why = "10.9.0.50:80 cannot be restored here: Address already in use"
        else:
            ip(pid, [f"address add {it.address}/32 dev {NIC}"])
            other, why = socket.socket(), "File exists"
        with closing(other), pytest.raises(TaskError, match=why):
            it.move("b")
        assert answered(there)


def test_a_move_to_where_the_task_is_changes_nothing(network: Hosts) -> None:
    with trial(network, "http-server", octets=100, port=80) as it, closing(it.connect(80)) as there:
        with pytest.raises(TaskError, match="task1 is in a already"):
            it.move("a")
        assert answered(there)


SOUND = Checkpoint("task1", "http-server", (Listener(Endpoint(ip_address("127.0.0.1"), 80), 1),))


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\x7fELF" + bytes(90), "this is no checkpoint of a task"),
        (SOUND.octets()[:-3], "octets, and it has"),
        (SOUND.octets()[:-3] + b"abc", "the checkpoint has been changed"),
        (b"vmmlabCP\0\7" + SOUND.octets()[10:], "version 7"),
        (replace(SOUND, task="other").octets(), "this is other, a task of http-server"),
        (replace(SOUND, program="echo").octets(), "a task of echo"),
    ],
)
def test_a_checkpoint_that_is_not_the_task_is_refused(
    network: Hosts, octets: bytes, why: str
) -> None:
    with trial(network, "http-server", octets=100, port=80) as it:
        token = secrets.token_hex(8)
        waiting = it.task._launch_incoming("b", token)
        try:
            port = waiting.line(10)["port"]
            with inside(network.of["a"].pid):
                link = TaskLink(socket.create_connection(("10.9.0.2", port), 5), 5)
            link.tell(Kind.HELLO, token=token, peers=[])
            link.heard(Kind.ANSWER)
            waiting.tell('{"order": "instantiate"}')
            link.send(Kind.CHECKPOINT, octets)
            with pytest.raises(LinkError, match=why):
                link.heard(Kind.ANSWER)
            with pytest.raises(TaskError, match=why):
                waiting.line(5)
            link.close()
        finally:
            waiting.end()


def test_a_stranger_is_not_listened_to(network: Hosts) -> None:
    with trial(network, "http-server", octets=100, port=80) as it:
        waiting = it.task._launch_incoming("b", "right")
        try:
            port = waiting.line(10)["port"]
            with inside(network.of["c"].pid):
                link = TaskLink(socket.create_connection(("10.9.0.2", port), 5), 5)
            link.tell(Kind.HELLO, token="wrong", peers=[])
            with pytest.raises(LinkError, match="has closed the connection"):
                link.heard(Kind.ANSWER)
            assert waiting.alive
        finally:
            waiting.end()
