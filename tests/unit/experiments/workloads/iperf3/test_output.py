"""Captured output of iperf3's client becomes samples."""

import pytest

from experiments.workloads.iperf3.output import Interval, Sample, parse_interval, samples
from experiments.workloads.iperf3.transfer import BulkPlan
from tests.helpers.data import DATA

SERVER = (DATA / "iperf3_server.txt").read_text().splitlines()
CLIENT = (DATA / "iperf3_client.txt").read_text().splitlines()
START_NS = 50_000_000_000
TENTH_NS = 100_000_000


def stamped(lines):
    """The captured lines, each as if it had come in when its interval ended."""
    parsed = [(parse_interval(line), line) for line in lines]
    return [
        (START_NS + round((interval.end_s if interval else 0) * 1e9), line)
        for interval, line in parsed
    ]


def test_only_the_lines_about_intervals_count():
    parsed = [parse_interval(line) for line in CLIENT]
    assert [interval for interval in parsed if interval] == [
        Interval(0.1, 15163562e3, 0),
        Interval(0.2, 14883380e3, 8),
        Interval(0.3, 0.0, 1),
    ]


def test_the_receivers_lines_have_no_retransmissions():
    parsed = [parse_interval(line) for line in SERVER]
    assert [interval.end_s for interval in parsed if interval] == [0.1, 0.2, 0.3]
    assert all(interval.retransmits == 0 for interval in parsed if interval)


def test_throughput_is_the_receivers_and_retransmissions_are_the_senders():
    assert samples(stamped(SERVER), stamped(CLIENT)) == [
        Sample(START_NS + TENTH_NS, 15000000e3, 0),
        Sample(START_NS + 2 * TENTH_NS, 14700000e3, 8),
        Sample(START_NS + 3 * TENTH_NS, 12.5e3, 1),
    ]


def test_one_line_that_comes_in_late_does_not_move_the_others():
    lines = stamped(SERVER)
    lines[8] = (lines[8][0] + 10 * TENTH_NS, lines[8][1])
    assert samples(lines, stamped(CLIENT)) == samples(stamped(SERVER), stamped(CLIENT))


def test_no_retransmission_is_left_out_when_the_receiver_was_frozen():
    first_only = stamped(SERVER)[:7]
    assert [sample.retransmits for sample in samples(first_only, stamped(CLIENT))] == [9]


def test_no_output_no_samples():
    assert samples([], []) == []
    assert samples([(1, "iperf3: error - unable to connect to server")], stamped(CLIENT)) == []


@pytest.mark.parametrize(("duration_s", "whole"), [(0.3, 1), (11.0, 11), (11.2, 12)])
def test_iperf3_is_never_asked_to_run_for_ever(duration_s, whole):
    plan = BulkPlan("f", "vm1", "vm2", "10.0.0.2", duration_s)
    argv = plan.client_argv
    assert argv[argv.index("--time") + 1] == str(whole)


def test_a_rate_limit_is_passed_on():
    plan = BulkPlan("f", "vm1", "vm2", "10.0.0.2", 1, rate_mbit=8)
    argv = plan.client_argv
    assert argv[argv.index("--bitrate") + 1] == "8M"
