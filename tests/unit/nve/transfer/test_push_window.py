"""What is pushed keeps a path busy, and hardly queues there."""

import pytest

from nve.guest.spec import PAGE_SIZE
from nve.transfer.push_window import LEAST, MOST_QUEUED_S, PushWindow
from tests.helpers.examples import some_of

STEP_S = 0.0001


def pushed(
    rate_mbit: float, round_trip_s: float, seconds: float, late_s: float = 0
) -> tuple[float, list[float]]:
    """The share of a path that was used in the second half, and how long a page would have queued,
    at each step.  The sender sleeps `late_s` longer than it wants to."""
    octets_per_s = rate_mbit * 1e6 / 8
    window = PushWindow(round_trip_s, 0, 0.0)
    queue, sent, left, arrived = 0.0, 0, [], 0.0
    asleep_until_s, queued_s = 0.0, []
    steps = int(seconds / STEP_S)
    half = 0.0
    for step in range(steps):
        now_s = step * STEP_S
        carried = min(queue, octets_per_s * STEP_S)
        queue -= carried
        left.append(carried)
        delay = int(round_trip_s / STEP_S)
        arrived += left[step - delay] if step >= delay else 0
        while now_s >= asleep_until_s:
            window.seen(int(arrived), now_s)
            if wait_s := window.wait_s(sent - int(arrived)):
                asleep_until_s = now_s + wait_s + late_s
                break
            octets = window.pages_at_once * PAGE_SIZE
            sent, queue = sent + octets, queue + octets
        if step >= steps // 2:
            half += carried
            queued_s.append(queue / octets_per_s)
    return half / (octets_per_s * seconds / 2), sorted(queued_s)


@pytest.mark.parametrize("rate_mbit", some_of([40, 200, 1000], every=2))
@pytest.mark.parametrize("round_trip_s", some_of([0.0002, 0.004, 0.02], every=2))
def test_it_finds_out_what_a_path_carries(rate_mbit: float, round_trip_s: float) -> None:
    share, queued_s = pushed(rate_mbit, round_trip_s, 4)
    assert share > 0.8
    page_s = PAGE_SIZE * 8 / rate_mbit / 1e6
    assert queued_s[len(queued_s) // 2] < 0.0015 + 2 * page_s


def test_a_sender_that_comes_too_late_lets_more_queue() -> None:
    share, queued_s = pushed(200, 0.001, 4, late_s=0.004)
    assert share > 0.7
    assert queued_s[len(queued_s) // 2] < MOST_QUEUED_S


def test_two_pages_may_be_on_their_way_before_anything_is_known() -> None:
    window = PushWindow(0.0, 0, 0.0)
    assert window.wait_s(0) == 0
    assert window.wait_s(2 * LEAST) > 0
    assert window.pages_at_once == 1
