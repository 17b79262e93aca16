"""What tc is told for a link."""

from topologies.shaping import both_directions, loss_program, netem, token_bucket
from topologies.spec import LinkSpec


def test_netem_always_has_a_rate_so_that_jitter_never_reorders() -> None:
    assert netem(LinkSpec(delay_ms=5, jitter_ms=2)).endswith("rate 100000000kbit")


def test_netem_does_all_four() -> None:
    spec = LinkSpec(delay_ms=5, jitter_ms=2, loss_pct=0.5, rate_mbit=10)

    assert netem(spec) == (
        "netem limit 47 delay 5.000000ms 2.000000ms loss 0.500000% rate 10000kbit"
    )


def test_netem_holds_the_packets_in_delay_and_a_queue_of_50_ms() -> None:
    """1000 Mbit/s is 82563 full frames a second, for 250 + 50 ms."""
    assert "limit 24769 " in netem(LinkSpec(delay_ms=250, rate_mbit=1000))


def test_a_narrow_link_still_has_room_for_a_burst() -> None:
    assert "limit 30 " in netem(LinkSpec(rate_mbit=0.1))
    assert token_bucket(0.1) == "tbf rate 100kbit burst 4542 limit 45420"


def test_a_wide_token_bucket_has_2_ms_of_burst_and_50_ms_of_queue() -> None:
    assert token_bucket(1000) == "tbf rate 1000000kbit burst 250000 limit 6250000"


def test_loss_is_a_comparison_with_a_random_number() -> None:
    assert loss_program(25, 7) == "4,32 0 0 4294963256,53 1 0 1073741824,6 0 0 2,6 0 0 7"


def test_all_is_lost_but_at_most_one_in_four_billion() -> None:
    assert f" {2**32 - 1}," in loss_program(100, 0)


def test_a_plain_link_needs_nothing() -> None:
    assert both_directions("to-a", LinkSpec(delay_ms=3)) == []


def test_without_netem_arriving_packets_are_filtered_before_they_are_queued() -> None:
    egress, ingress, redirect, leaving, arriving = both_directions(
        "to-nve1", LinkSpec(loss_pct=1, rate_mbit=10)
    )

    assert "egress pref 2" in egress
    assert "ingress pref 2" in ingress
    assert "6 0 0 4294967295" in ingress  # TC_ACT_UNSPEC: on to the next filter
    assert "ingress pref 3" in redirect
    assert redirect.endswith("redirect dev q-nve1")
    assert leaving.startswith("qdisc add dev to-nve1 root tbf rate 10000kbit")
    assert arriving.startswith("qdisc add dev q-nve1 root tbf rate 10000kbit")
