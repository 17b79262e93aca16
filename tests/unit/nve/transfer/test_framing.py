"""What is on the wire of a transfer: read as it was written, and nothing else believed."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.transfer.framing import (
    HEADER,
    MOST_RUNS,
    VERSION,
    Head,
    Incoming,
    ProtocolError,
    Say,
    in_runs,
    message,
    pages_ahead,
    runs_in,
    told,
)

PAGES, BOUNDARY = 600, 400
NUMBERS = st.sets(st.integers(0, PAGES - 1)).map(sorted)


@given(NUMBERS, st.integers(1, 300))
def test_pages_are_sent_once_in_order_and_in_bounds(numbers: list[int], most: int) -> None:
    sent: list[int] = []
    for runs in in_runs(numbers, BOUNDARY, most):
        octets = pages_ahead(runs)
        head = Head.of(octets[: HEADER.size])
        assert (head.say, head.follows) == (Say.PAGES, len(octets) - HEADER.size)
        assert runs_in(octets[HEADER.size :], PAGES) == runs
        assert sum(count for _, count in runs) <= most
        assert all(first + count <= BOUNDARY or first >= BOUNDARY for first, count in runs)
        sent += itertools.chain(*(range(first, first + count) for first, count in runs))
    assert sent == numbers


def test_many_single_pages_are_several_messages() -> None:
    found = list(in_runs(range(0, 2 * MOST_RUNS + 10, 2), -1, 1000))
    assert [len(runs) for runs in found] == [MOST_RUNS, 5]


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_a_header_is_one_or_is_refused(octets: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert len(Head.of(octets).octets()) == HEADER.size


@pytest.mark.parametrize(
    "head",
    [
        Head(Say.PAGES, 0),
        Head(Say.PAGES, MOST_RUNS + 1),
        Head(Say.ROUND, 1),
        Head(Say.ACK, 0, 4),
        Head(Say.HELLO, 0, 1 << 20),
        Head(Say.PAGES, 1, 4),
    ],
)
def test_a_header_that_promises_too_much_is_refused(head: Head) -> None:
    with pytest.raises(ProtocolError):
        Head.of(head.octets())


@pytest.mark.parametrize("run", [(0, 0), (PAGES, 1), (PAGES - 1, 2), (2**32 - 1, 2**32 - 1)])
def test_pages_out_of_bounds_are_refused(run: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError, match="pages"):
        runs_in(pages_ahead([run])[HEADER.size :], PAGES)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b"7"])
def test_what_is_not_said_in_json_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        told(text)


def say(incoming: Incoming, octets: bytes) -> Say | None:
    head = Head.of(octets[: HEADER.size])
    return incoming.other(head, octets[HEADER.size :])


def hello(**changes: object) -> bytes:
    return message(Say.HELLO, **{"version": VERSION, "token": "t", "pages": PAGES, **changes})


def test_a_transfer_from_hello_to_digest() -> None:
    incoming = Incoming("t", PAGES)
    assert say(incoming, hello()) == Say.ACK
    assert incoming.pages(pages_ahead([(3, 2)])[HEADER.size :]) == [(3, 2)]
    assert say(incoming, message(Say.ROUND)) == Say.ACK
    assert say(incoming, message(Say.STOPPED)) is None
    assert incoming.urgent
    assert say(incoming, message(Say.FINISH)) == Say.ACK
    assert incoming.finished
    assert say(incoming, message(Say.DIGEST)) == Say.DIGEST


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"token": "x"}, "registered"), ({"version": 2}, "pages"), ({"pages": 1}, "pages")],
)
def test_a_stranger_is_refused(changes: dict[str, object], why: str) -> None:
    incoming = Incoming("t", PAGES)
    with pytest.raises(ProtocolError, match=why):
        say(incoming, hello(**changes))
    with pytest.raises(ProtocolError):
        incoming.pages(pages_ahead([(0, 1)])[HEADER.size :])


@given(
    st.lists(st.sampled_from([Say.HELLO, Say.ROUND, Say.STOPPED, Say.FINISH, Say.DIGEST, Say.ACK]))
)
def test_nothing_is_believed_at_the_wrong_time(said: list[Say]) -> None:
    """Whatever comes in whatever order: HELLO first and once, DIGEST only after FINISH."""
    incoming = Incoming("t", PAGES)
    heard: list[Say] = []
    for each in said:
        try:
            say(incoming, hello() if each == Say.HELLO else message(each))
        except ProtocolError:
            continue
        if each != Say.STOPPED:
            heard.append(each)
        assert not (incoming.urgent and incoming.finished)
    allowed = [Say.ROUND] * heard.count(Say.ROUND) + [Say.FINISH] * heard.count(Say.FINISH)
    assert heard[:1] in ([], [Say.HELLO])
    assert heard.count(Say.HELLO) <= 1
    assert heard.count(Say.FINISH) <= 1
    assert heard[1 : 1 + len(allowed)] == allowed
    assert set(heard[1 + len(allowed) :]) <= {Say.DIGEST}
