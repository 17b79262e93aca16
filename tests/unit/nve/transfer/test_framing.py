"""What is on the wire of a transfer: read as it was written, and nothing else believed."""

import contextlib
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.transfer.framing import (
    ASKED_CHANNEL,
    CONTENT,
    FIRST_CHANNEL,
    HEADER,
    LONGEST_FRAME,
    MOST_PAGES,
    MOST_RUNS,
    VERSION,
    Head,
    Incoming,
    PageRun,
    ProtocolError,
    Say,
    in_messages,
    message,
    of_pages,
    runs_in,
    runs_of_bits,
    size_of,
    told,
)

PAGES, BOUNDARY = 600, 400


RUNS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 700)), max_size=30)


@given(RUNS, st.integers(1, MOST_PAGES))
def test_runs_go_into_messages_in_their_order(runs: list[PageRun], most: int) -> None:
    found = list(in_messages(runs, most))
    pages = [
        page for each in found for first, count in each for page in range(first, first + count)
    ]
    assert pages == [page for first, count in runs for page in range(first, first + count)]
    assert all(0 < size_of(each) <= most and len(each) <= MOST_RUNS for each in found)


def in_(runs: Iterable[PageRun]) -> list[int]:
    return [page for first, count in runs for page in range(first, first + count)]


def test_many_single_pages_are_several_messages() -> None:
    found = list(in_messages([(page, 1) for page in range(0, 2 * MOST_RUNS + 10, 2)]))
    assert [len(runs) for runs in found] == [MOST_RUNS, 5]


@given(st.lists(st.sampled_from(sorted(CONTENT)), max_size=1), st.binary(max_size=9))
def test_a_message_about_pages_is_read_as_it_was_written(kind: list[Say], frame: bytes) -> None:
    say, runs = (kind or [Say.PAGES])[0], [(3, 2), (9, 1)]
    frame = frame if say == Say.PACKED else b""
    octets = of_pages(runs, say, frame)
    head = Head.of(octets[: HEADER.size])
    assert (head.say, head.follows) == (say, len(octets) - HEADER.size)
    assert runs_in(head, octets[HEADER.size :], PAGES) == (runs, frame)


@given(st.sets(st.integers(0, BOUNDARY - 1)))
def test_what_comes_later_is_said_in_bits(numbers: set[int]) -> None:
    bits = sum(1 << number for number in numbers).to_bytes(BOUNDARY // 8, "little")
    runs = runs_of_bits(bits, BOUNDARY)
    assert [p for first, count in runs for p in range(first, first + count)] == sorted(numbers)
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(runs))


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
        Head(Say.ZEROS, 1, 4),
        Head(Say.PACKED, 1, LONGEST_FRAME + 1),
        Head(Say.ASK, 0),
        Head(Say.LATER, 1),
    ],
)
def test_a_header_that_promises_too_much_is_refused(head: Head) -> None:
    with pytest.raises(ProtocolError):
        Head.of(head.octets())


@pytest.mark.parametrize("run", [(0, 0), (PAGES, 1), (PAGES - 1, 2), (2**32 - 1, 2**32 - 1)])
def test_pages_out_of_bounds_are_refused(run: tuple[int, int]) -> None:
    octets = of_pages([run])
    with pytest.raises(ProtocolError, match="pages"):
        runs_in(Head.of(octets[: HEADER.size]), octets[HEADER.size :], PAGES)


def test_more_pages_than_fit_are_refused() -> None:
    octets = of_pages([(0, MOST_PAGES), (0, 1)])
    with pytest.raises(ProtocolError, match="one message"):
        runs_in(Head.of(octets[: HEADER.size]), octets[HEADER.size :], PAGES)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b"7"])
def test_what_is_not_said_in_json_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        told(text)


def incoming() -> Incoming:
    return Incoming("t", PAGES, BOUNDARY)


def say(to: Incoming, octets: bytes) -> Say | None:
    head = Head.of(octets[: HEADER.size])
    return to.other(head, octets[HEADER.size :])


def hello(**changes: object) -> bytes:
    told = {"version": VERSION, "token": "t", "pages": PAGES, "channel": FIRST_CHANNEL}
    return message(Say.HELLO, **told | changes)


def pages(to: Incoming, octets: bytes) -> list[PageRun]:
    return to.pages(Head.of(octets[: HEADER.size]), octets[HEADER.size :])[0]


NOTHING_LATER = bytes(BOUNDARY // 8)


def test_a_transfer_from_hello_to_digest() -> None:
    heard = incoming()
    assert say(heard, hello()) == Say.ACK
    assert pages(heard, of_pages([(3, 2)])) == [(3, 2)]
    assert say(heard, message(Say.ROUND)) == Say.ACK
    assert say(heard, message(Say.STOPPED)) is None
    assert heard.urgent
    assert say(heard, message(Say.FINISH)) == Say.ACK
    assert heard.finished
    assert say(heard, message(Say.DIGEST)) == Say.DIGEST


def test_a_post_copy_from_the_stop_to_the_end() -> None:
    heard = incoming()
    say(heard, hello())
    with pytest.raises(ProtocolError, match="LATER"):
        heard.later(NOTHING_LATER)
    say(heard, message(Say.STOPPED))
    with pytest.raises(ProtocolError, match="bitmap"):
        heard.later(NOTHING_LATER + b"x")
    assert heard.later(b"\x06" + NOTHING_LATER[1:]) == [(1, 2)]
    assert not heard.urgent
    with pytest.raises(ProtocolError):
        say(heard, message(Say.STOPPED))
    assert pages(heard, of_pages([(1, 2)])) == [(1, 2)]
    assert say(heard, message(Say.FINISH)) == Say.ACK


MIRROR = {"memory": "m", "disk": "d"}


@pytest.mark.shows("R7.3")
def test_a_sender_may_name_the_mirror_that_it_knows_the_writes_since() -> None:
    heard = incoming()
    assert say(heard, hello(mirror=MIRROR)) == Say.MIRRORED
    assert heard.mirror == MIRROR
    assert pages(heard, of_pages([(3, 2)])) == [(3, 2)]
    unnamed = incoming()
    assert say(unnamed, hello()) == Say.ACK
    assert unnamed.mirror is None


@pytest.mark.parametrize(
    "changes",
    [
        {"mirror": 1},
        {"mirror": {}},
        {"mirror": [*MIRROR.values()]},
        {"mirror": {"memory": "m"}},
        {"mirror": {**MIRROR, "memory": ""}},
        {"mirror": {**MIRROR, "disk": 3}},
        {"mirror": {**MIRROR, "number": 1}},
        {"mirror": MIRROR, "channel": 1},
        {"mirror": MIRROR, "channel": ASKED_CHANNEL},
    ],
)
def test_a_mirror_that_is_named_wrongly_is_refused(changes: dict[str, object]) -> None:
    heard = incoming()
    with pytest.raises(ProtocolError, match="mirror"):
        say(heard, hello(**changes))
    assert heard.mirror is None
    with pytest.raises(ProtocolError):
        pages(heard, of_pages([(0, 1)]))


@pytest.mark.parametrize("channel", [1, ASKED_CHANNEL])
def test_another_channel_only_carries_pages(channel: int) -> None:
    heard = incoming()
    say(heard, hello(channel=channel))
    assert pages(heard, of_pages([(3, 2)])) == [(3, 2)]
    assert say(heard, message(Say.ROUND)) == Say.ACK
    for each in (Say.STOPPED, Say.FINISH, Say.DIGEST):
        with pytest.raises(ProtocolError, match="channel"):
            say(heard, message(each))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"token": "x"}, "registered"),
        ({"version": 1}, "pages"),
        ({"pages": 1}, "pages"),
        ({"channel": None}, "channel"),
        ({"channel": -2}, "channel"),
    ],
)
def test_a_stranger_is_refused(changes: dict[str, object], why: str) -> None:
    heard = incoming()
    with pytest.raises(ProtocolError, match=why):
        say(heard, hello(**changes))
    with pytest.raises(ProtocolError):
        pages(heard, of_pages([(0, 1)]))


@given(
    st.lists(st.sampled_from([Say.HELLO, Say.ROUND, Say.STOPPED, Say.FINISH, Say.DIGEST, Say.ACK]))
)
def test_nothing_is_believed_at_the_wrong_time(said: list[Say]) -> None:
    """Whatever comes in whatever order: HELLO first and once, DIGEST only after FINISH."""
    to = incoming()
    heard: list[Say] = []
    for each in said:
        try:
            say(to, hello() if each == Say.HELLO else message(each))
        except ProtocolError:
            continue
        if each != Say.STOPPED:
            heard.append(each)
        assert not (to.urgent and to.finished)
    allowed = [Say.ROUND] * heard.count(Say.ROUND) + [Say.FINISH] * heard.count(Say.FINISH)
    assert heard[:1] in ([], [Say.HELLO])
    assert heard.count(Say.HELLO) <= 1
    assert heard.count(Say.FINISH) <= 1
    assert heard[1 : 1 + len(allowed)] == allowed
    assert set(heard[1 + len(allowed) :]) <= {Say.DIGEST}
