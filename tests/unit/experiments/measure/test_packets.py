"""Loss, duplication, reordering and silence are counted exactly, whatever a network does."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.measure.packets import (
    END_OF_TIME,
    Delay,
    delay_variation_ms,
    duplicates,
    flows_of,
    late_mask,
    longest_silence_ns,
    lost_mask,
    reordered_mask,
)
from tests.helpers.packets import MS, START_NS, packets, samples

WAITING_NS = 2000 * MS


def silence_ms(measured, start_ms=0, end_ms=None):
    end_ns = END_OF_TIME if end_ms is None else START_NS + end_ms * MS
    return longest_silence_ns(measured, START_NS + start_ms * MS, end_ns) / MS


def test_nothing_wrong():
    measured = samples([1.0] * 5)
    assert not lost_mask(measured, WAITING_NS).any()
    assert not reordered_mask(measured).any()
    assert duplicates(measured) == 0
    assert measured.interval_ns == MS


def test_late_is_lost_and_counted_as_late():
    measured = samples([1.0, 2000.0, 2000.1, None])
    assert lost_mask(measured, WAITING_NS).tolist() == [False, False, True, True]
    assert late_mask(measured, WAITING_NS).tolist() == [False, False, True, False]


def test_reordering_follows_rfc_4737():
    """Packet 0 is overtaken by 1 and 2: only 0 arrives when a higher number was there before."""
    assert reordered_mask(samples([5.0, 1.0, 1.0, 3.0])).tolist() == [True, False, False, False]


def test_no_packets():
    measured = samples([])
    assert measured.interval_ns == 0
    assert not len(lost_mask(measured, WAITING_NS))
    assert not len(reordered_mask(measured))
    assert silence_ms(measured) == 0
    assert Delay.of(measured) == Delay(None, None, None)
    assert delay_variation_ms(measured) is None


def test_all_lost():
    measured = samples([None] * 10)
    assert lost_mask(measured, WAITING_NS).all()
    assert silence_ms(measured) == 9
    assert Delay.of(measured) == Delay(None, None, None)


def test_delays():
    measured = samples([1.0] * 98 + [5.0, None])
    assert Delay.of(measured).p50_ms == pytest.approx(1.0)
    assert Delay.of(measured).max_ms == pytest.approx(5.0)
    assert delay_variation_ms(samples([2.0, 2.5])) == pytest.approx(0.495)


def test_the_interval_ignores_the_senders_lateness():
    late = packets([1.0, 1.0, 1.0], late_ns=[0, 700_000, 300_000])
    assert flows_of(late)["vm2>vm1/ipv4"].interval_ns == MS


def test_flows_are_told_apart_in_whatever_order_their_rows_are():
    delays_ms: dict[str, list[float | None]] = {
        "vm3>vm1/ipv4": [1.0, None, 3.0],
        "vm2>vm1/ipv4": [4.0, 5.0],
    }
    rows = pd.concat(packets(delays, flow) for flow, delays in delays_ms.items())
    found = flows_of(rows.iloc[[4, 2, 0, 3, 1]])

    assert list(found) == sorted(delays_ms)
    for flow, delays in delays_ms.items():
        for name, values in vars(samples(delays)).items():
            assert getattr(found[flow], name).tolist() == values.tolist()
    assert flows_of(rows[:0]) == {}


def test_silence_is_what_the_receiver_saw():
    measured = samples([1.0] * 10 + [None] * 5 + [1.0] * 10)
    assert silence_ms(measured) == 6
    assert silence_ms(measured, start_ms=12) == 6, "it began before, and reaches into the window"
    assert silence_ms(measured, start_ms=17) == 1
    assert silence_ms(measured, end_ms=5) == 1


def test_a_silence_that_never_ends_lasts_until_the_last_packet_was_sent():
    assert silence_ms(samples([1.0] * 10 + [None] * 5)) == 4


def test_held_packets_that_arrive_in_a_burst_end_a_silence_that_was_there():
    held = samples([1.0] * 5 + [50.0 - n for n in range(45)] + [6.0] * 50)
    assert silence_ms(held) == pytest.approx(50)
    assert not lost_mask(held, WAITING_NS).any()


@st.composite
def deliveries(draw):
    """How often each packet is delivered, and in which order the delivered ones arrive."""
    copies = draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    delivered = [seq for seq, number in enumerate(copies) if number]
    return copies, draw(st.permutations(delivered))


@given(deliveries())
def test_permuting_duplicating_and_dropping_gives_exactly_the_counts(case):
    copies, order = case
    long_after_ms = len(copies)
    delays = [None] * len(copies)
    for place, seq in enumerate(order):
        delays[seq] = long_after_ms - seq + place * 0.001
    measured = samples(delays, copies=dict(enumerate(copies)))

    assert lost_mask(measured, WAITING_NS).sum() == copies.count(0)
    assert duplicates(measured) == sum(number - 1 for number in copies if number)
    overtaken = {
        seq for place, seq in enumerate(order) if any(earlier > seq for earlier in order[:place])
    }
    assert set(np.flatnonzero(reordered_mask(measured))) == overtaken
