"""Due times never drift, and what is too old is skipped, neither sent nor lost."""

from hypothesis import given
from hypothesis import strategies as st

from experiments.probes.pacing import CATCH_UP_NS, NS_PER_S, Pacing, phases_ns

rates = st.floats(0.1, 20_000)


def schedule(rate_pps=1000.0, duration_s=10.0, phase_ns=0):
    return Pacing(
        start_ns=5 * NS_PER_S, rate_pps=rate_pps, duration_s=duration_s, phase_ns=phase_ns
    )


def test_due_times_come_from_one_start():
    paced = schedule(phase_ns=123)
    assert paced.packets == 10_000
    assert paced.due_ns(0) == 5 * NS_PER_S + 123
    assert paced.due_ns(9_999) == 5 * NS_PER_S + 123 + 9_999_000_000


def test_a_decimal_duration_is_not_one_packet_too_long():
    assert schedule(duration_s=1.1).packets == 1100


def test_a_packet_that_is_a_little_late_is_still_sent():
    paced = schedule()
    assert paced.next_worth_sending(40, paced.due_ns(40) + CATCH_UP_NS) == 40


def test_after_a_pause_of_50_ms_only_the_last_10_ms_are_caught_up_with():
    paced = schedule()
    resumed_ns = paced.due_ns(40) + 50_000_000
    assert paced.next_worth_sending(40, resumed_ns) == 40 + 50 - 10


def test_after_the_end_nothing_is_worth_sending():
    paced = schedule()
    assert paced.next_worth_sending(40, paced.due_ns(10_000) + NS_PER_S) == paced.packets


@given(rates, st.integers(0, 1000), st.integers(0, 20 * NS_PER_S))
def test_what_is_skipped_is_too_old_and_what_is_sent_is_not(rate_pps, seq, elapsed_ns):
    paced = schedule(rate_pps, duration_s=1000)
    now_ns = paced.start_ns + elapsed_ns
    worth_sending = paced.next_worth_sending(seq, now_ns)
    rounding_ns = 2
    assert worth_sending >= seq
    assert paced.due_ns(worth_sending) >= now_ns - CATCH_UP_NS - rounding_ns
    if worth_sending > seq:
        assert paced.due_ns(worth_sending - 1) <= now_ns - CATCH_UP_NS + rounding_ns


@given(st.lists(rates, min_size=1, max_size=8))
def test_phases_differ_and_stay_within_the_shortest_interval(rates_pps):
    phases = phases_ns(rates_pps)
    assert len(set(phases)) == len(rates_pps)
    assert max(phases) < NS_PER_S / max(rates_pps)


def test_no_flows_have_no_phases():
    assert phases_ns([]) == []
