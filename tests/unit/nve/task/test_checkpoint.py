"""A packaged task comes back as it was; what is no whole checkpoint is refused in a sentence."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from nve.task.checkpoint import (
    PREFIX,
    VERSION,
    WIDEST,
    Checkpoint,
    CheckpointError,
    Endpoint,
    Listener,
    SendWindow,
    TcpConnection,
    TcpOptions,
    length_of,
)
from nve.task.tcp_states import FATES, Fate, TcpState
from tests.helpers.examples import CHARACTERS

FEW = settings(max_examples=25, deadline=None)
U32 = st.integers(0, 2**32 - 1)
QUEUES = st.binary(max_size=40)
MIGRATED = sorted(state for state, fate in FATES.items() if fate is Fate.MIGRATED)
ENDS = st.builds(Endpoint, st.ip_addresses(), st.integers(1, 65535))
OPTIONS = st.builds(
    TcpOptions,
    st.integers(1, 65535),
    st.booleans(),
    st.none() | st.tuples(st.integers(0, 14), st.integers(0, 14)),
    st.none() | U32,
)
CONNECTIONS = st.builds(
    TcpConnection,
    ENDS,
    ENDS,
    st.sampled_from(MIGRATED),
    OPTIONS,
    st.builds(SendWindow, U32, U32, U32, U32, U32),
    *(U32, U32),
    st.sampled_from(["bbr", "reno", "cubic"]),
    *(st.booleans(), st.booleans()),
    *(st.integers(0, 1 << 30), st.integers(0, 1 << 30)),
    *(st.integers(1, WIDEST), st.integers(0, 1 << 40)),
    *(QUEUES, QUEUES, QUEUES),
)
LISTENERS = st.builds(Listener, ENDS, st.integers(0, 4096))
CHECKPOINTS = st.builds(
    Checkpoint,
    st.text(CHARACTERS, max_size=9),
    st.text(CHARACTERS, max_size=20),
    st.lists(CONNECTIONS | LISTENERS | st.none(), max_size=5).map(tuple),
    st.binary(max_size=60),
)
END = Endpoint(ip_address("192.168.9.50"), 80)
CONNECTION = TcpConnection(
    local=END,
    remote=END,
    state=TcpState.ESTABLISHED,
    options=TcpOptions(1460, True, (7, 7), 5),
    window=SendWindow(1, 2, 3, 4, 5),
    send_seq=10,
    receive_seq=20,
    congestion_control="reno",
    no_delay=True,
    keep_alive=False,
    send_buffer=1000,
    receive_buffer=1000,
    received=b"in",
    sent=b"sent",
    unsent=b"un",
)
SMALL = Checkpoint("task1", "echo", (Listener(END, 1), CONNECTION, None), b"state")


@FEW
@given(CHECKPOINTS)
def test_it_comes_back_as_it_was(checkpoint: Checkpoint) -> None:
    assert Checkpoint.of(checkpoint.octets()) == checkpoint


@FEW
@given(CHECKPOINTS, st.data())
def test_damage_anywhere_is_seen(checkpoint: Checkpoint, data: st.DataObject) -> None:
    octets = bytearray(checkpoint.octets())
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CheckpointError):
        Checkpoint.of(bytes(octets))


@given(CHECKPOINTS, st.data())
def test_what_is_cut_off_or_too_long_is_refused(
    checkpoint: Checkpoint, data: st.DataObject
) -> None:
    octets = checkpoint.octets()
    with pytest.raises(CheckpointError):
        Checkpoint.of(octets[: data.draw(st.integers(0, len(octets) - 1))])
    with pytest.raises(CheckpointError):
        Checkpoint.of(octets + b"\0")


@given(st.binary(max_size=200))
def test_foreign_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.of(octets)


def sealed(body: bytes, version: int = VERSION) -> bytes:
    """As somebody would who knows how."""
    return PREFIX.pack(b"vmmlabCP", version, len(body), xxh3_128_digest(body)) + body


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (b"", "the checkpoint is cut off: 0 octets"),
        (b"\x7fELF" + bytes(60), "this is no checkpoint of a task"),
        (sealed(bytes(8), 1), f"version 1 of the format, and here is version {VERSION}"),
        (SMALL.octets()[:-1], "octets, and it has"),
        (SMALL.octets()[:-1] + b"!", "the checkpoint has been changed"),
        (sealed(b"\0\0\0\2{}"), "the checkpoint is wrong at checkpoint: Field required"),
        (sealed(b"\0\0\0\2{]"), "the checkpoint is wrong at its head: Invalid JSON"),
        (sealed(SMALL.octets()[PREFIX.size :] + b"more"), "other queues than its head says"),
    ],
)
def test_each_mistake_has_its_sentence(octets: bytes, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence.replace("(", r"\(")):
        Checkpoint.of(octets)


@pytest.mark.parametrize("state", sorted(set(TcpState) - set(MIGRATED)))
def test_a_state_that_cannot_move_is_refused(state: TcpState) -> None:
    forged = replace(SMALL, sockets=(replace(CONNECTION, state=state),))
    with pytest.raises(CheckpointError, match=f"is {state.name}, which cannot move"):
        Checkpoint.of(forged.octets())


def test_nothing_is_awaited_that_is_too_long() -> None:
    with pytest.raises(CheckpointError, match="says that it has"):
        length_of(PREFIX.pack(b"vmmlabCP", VERSION, 1 << 40, bytes(16)))


def test_every_state_of_tcp_has_a_fate() -> None:
    assert set(FATES) == set(TcpState)
    assert FATES[TcpState.ESTABLISHED] is Fate.MIGRATED
