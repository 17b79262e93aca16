"""What a standby makes of what its primary says: a mirror counts if it is whole, and the next."""

from collections.abc import Callable

import pytest

from nve.transfer.framing import HEADER, VERSION, Head, ProtocolError, Say, message, of_pages
from nve.transfer.mirror import MirrorIncoming, MirrorStamp

PAGES = 8
STAMP = MirrorStamp(1, 123, "m", "d")


def parts(octets: bytes) -> tuple[Head, bytes]:
    return Head.of(octets[: HEADER.size]), octets[HEADER.size :]


def hello(**changed: object) -> tuple[Head, bytes]:
    given: dict[str, object] = {"version": VERSION, "token": "t", "pages": PAGES}
    return parts(message(Say.HELLO, **{**given, **changed}))


def mirrored(stamp: MirrorStamp = STAMP, **changed: object) -> tuple[Head, bytes]:
    return parts(message(Say.MIRRORED, **{**stamp.row(), **changed}))


def known() -> MirrorIncoming:
    incoming = MirrorIncoming("t", PAGES)
    incoming.hello(*hello())
    return incoming


@pytest.mark.shows("R7.3")
def test_a_mirror_counts_once_it_is_whole_and_in_place() -> None:
    incoming = known()
    assert incoming.last == MirrorStamp()
    assert incoming.pages(*parts(of_pages([(2, 3), (7, 1)]))) == [(2, 3), (7, 1)]
    assert incoming.pages(*mirrored()) == []

    assert incoming.whole(*mirrored()) == STAMP
    assert incoming.last == MirrorStamp(), "it is not in place yet"
    incoming.counts(STAMP)
    assert incoming.last == STAMP
    assert STAMP.digests == {"memory": "m", "disk": "d"}


@pytest.mark.parametrize("number", [0, 1, 3])
def test_no_mirror_is_left_out_or_comes_twice(number: int) -> None:
    incoming = known()
    incoming.counts(incoming.whole(*mirrored()))
    with pytest.raises(ProtocolError, match=f"mirror {number} after mirror 1"):
        incoming.whole(*mirrored(number=number))


WRONG: dict[str, Callable[[], object]] = {
    "pages of a stranger": lambda: MirrorIncoming("t", PAGES).pages(*parts(of_pages([(0, 1)]))),
    "mirror of a stranger": lambda: MirrorIncoming("t", PAGES).whole(*mirrored()),
    "token": lambda: MirrorIncoming("t", PAGES).hello(*hello(token="x")),
    "pages": lambda: MirrorIncoming("t", PAGES).hello(*hello(pages=9)),
    "version": lambda: MirrorIncoming("t", PAGES).hello(*hello(version=0)),
    "hello twice": lambda: known().hello(*hello()),
    "no hello": lambda: MirrorIncoming("t", PAGES).hello(*mirrored()),
    "beyond": lambda: known().pages(*parts(of_pages([(7, 2)]))),
    "transfer": lambda: known().whole(*parts(message(Say.FINISH))),
    "number": lambda: known().whole(*mirrored(number="1")),
    "truth": lambda: known().whole(*mirrored(number=True)),
    "more": lambda: known().whole(*mirrored(extra=1)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_may_not_be_said_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ProtocolError):
        wrong()
