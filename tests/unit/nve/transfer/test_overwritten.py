"""What a transfer has overwritten of a mirror can be put back, whatever was written how often."""

from hypothesis import given
from hypothesis import strategies as st

from nve.guest.spec import PAGE_SIZE
from nve.transfer.framing import PageRun
from nve.transfer.overwritten import Overwritten

PAGES = 6
RUNS = st.integers(0, PAGES - 1).flatmap(
    lambda first: st.tuples(st.just(first), st.integers(1, PAGES - first))
)


@given(st.lists(st.tuples(RUNS, st.integers(1, 255)), max_size=8))
def test_everything_is_as_it_was_before_the_first_write(writes: list[tuple[PageRun, int]]) -> None:
    state = bytearray(b"".join(bytes([100 + page]) * PAGE_SIZE for page in range(PAGES)))
    before = bytes(state)

    def at(run: PageRun) -> memoryview:
        first, count = run
        return memoryview(state)[first * PAGE_SIZE : (first + count) * PAGE_SIZE]

    overwritten = Overwritten(at)
    for run, value in writes:
        overwritten.keep(run)
        at(run)[:] = bytes([value]) * PAGE_SIZE * run[1]
    touched = {page for (first, count), _ in writes for page in range(first, first + count)}
    assert len(overwritten) == len(touched)
    overwritten.put_back()
    assert bytes(state) == before
    assert len(overwritten) == 0
