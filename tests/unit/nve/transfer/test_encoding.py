"""Pages as messages: whatever is chosen, what is read is what was written, in fewer octets."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.guest.spec import PAGE_SIZE
from nve.transfer.convergence import Compression
from nve.transfer.encoding import Encoded, Encoder, unpacked
from nve.transfer.framing import HEADER, Head, PageRun, ProtocolError, Say, runs_in, size_of

RANDOM = random.Random(1).randbytes(PAGE_SIZE)
KINDS = {"zero": bytes(PAGE_SIZE), "random": RANDOM, "regular": bytes(range(256)) * 16}


def read(encoded: Encoded, pages: int) -> dict[int, bytes]:
    """What a receiver makes of it, by page."""
    octets = b"".join(encoded.buffers)
    assert len(octets) == encoded.octets
    found: dict[int, bytes] = {}
    while octets:
        head = Head.of(octets[: HEADER.size])
        octets = octets[HEADER.size :]
        runs, frame = runs_in(head, octets[: head.follows], pages)
        octets, size = octets[head.follows :], size_of(runs) * PAGE_SIZE
        match head.say:
            case Say.ZEROS:
                content = bytes(size)
            case Say.PACKED:
                content = unpacked(frame, size_of(runs))
            case _:
                content, octets = octets[:size], octets[size:]
        for first, count in runs:
            for page in range(first, first + count):
                found[page], content = content[:PAGE_SIZE], content[PAGE_SIZE:]
    return found


@given(
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=20),
    st.booleans(),
    st.sampled_from(["none", "zstd"]),
)
def test_what_is_read_is_what_was_written(
    kinds: list[str], zero_pages: bool, compression: Compression
) -> None:
    state = memoryview(b"".join(KINDS[kind] for kind in kinds))

    def at(run: PageRun) -> memoryview:
        return state[run[0] * PAGE_SIZE : sum(run) * PAGE_SIZE]

    runs = [(0, len(kinds))] if len(kinds) < 4 else [(0, 2), (3, len(kinds) - 3)]
    encoded = Encoder(at, zero_pages=zero_pages, compression=compression).encoded(runs)
    wanted = [page for first, count in runs for page in range(first, first + count)]
    assert read(encoded, len(kinds)) == {page: KINDS[kinds[page]] for page in wanted}
    zeros = sum(kinds[page] == "zero" for page in wanted)
    assert encoded.zero_pages == (zeros if zero_pages else 0)
    assert encoded.normal_pages == len(wanted) - encoded.zero_pages
    dear = sum(kinds[page] == "random" for page in wanted) if compression == "zstd" else 0
    most = dear if compression == "zstd" else encoded.normal_pages
    assert encoded.octets < most * PAGE_SIZE + 600


@pytest.mark.parametrize(("frame", "pages"), [(b"", 1), (b"no frame at all", 1), (RANDOM, 1)])
def test_what_is_no_frame_is_refused(frame: bytes, pages: int) -> None:
    with pytest.raises(ProtocolError):
        unpacked(frame, pages)


def test_a_frame_of_another_size_is_refused() -> None:
    state = memoryview(bytes(4 * PAGE_SIZE))
    encoded = Encoder(lambda _run: state, compression="zstd").encoded([(0, 4)])
    octets = b"".join(encoded.buffers)
    head = Head.of(octets[: HEADER.size])
    frame = runs_in(head, octets[HEADER.size :], 4)[1]
    assert unpacked(frame, 4) == bytes(4 * PAGE_SIZE)
    with pytest.raises(ProtocolError, match="size"):
        unpacked(frame, 3)
