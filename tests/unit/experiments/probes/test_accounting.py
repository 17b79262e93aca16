"""Every packet sent has one row; what a network may do to packets is counted exactly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.measure.rows import PACKETS
from experiments.probes.accounting import account

FLOWS = ("vm2>vm1/ipv4", "vm3>vm1/ipv6")


def sent_rows(count, flow=0):
    return np.array([[flow, seq, 1000 + seq, 5] for seq in range(count)], dtype=np.int64)


def received_rows(seqs, flow=0):
    rows = [[flow, seq, 2000 + place] for place, seq in enumerate(seqs)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def test_a_packet_that_arrives_has_its_time_and_place():
    packets = account(FLOWS, sent_rows(3), received_rows([0, 2, 1])).packets
    assert list(packets.columns) == list(PACKETS.columns)
    assert packets["received_ns"].tolist() == [2000, 2002, 2001]
    assert packets["rx_index"].tolist() == [0, 2, 1]
    assert packets["copies"].tolist() == [1, 1, 1]
    assert packets["late_ns"].tolist() == [5, 5, 5]


def test_a_lost_packet_has_neither():
    packets = account(FLOWS, sent_rows(2), received_rows([1])).packets
    assert packets["copies"].tolist() == [0, 1]
    assert packets["received_ns"].isna().tolist() == [True, False]


def test_the_first_copy_counts_and_the_place_counts_first_copies_only():
    packets = account(FLOWS, sent_rows(2), received_rows([0, 0, 1])).packets
    assert packets["copies"].tolist() == [2, 1]
    assert packets["received_ns"].tolist() == [2000, 2002]
    assert packets["rx_index"].tolist() == [0, 1]


def test_flows_do_not_mix():
    sent = np.concatenate([sent_rows(1, flow=0), sent_rows(1, flow=1)])
    packets = account(FLOWS, sent, received_rows([0], flow=1)).packets
    assert packets["flow"].tolist() == list(FLOWS)
    assert packets["copies"].tolist() == [0, 1]


def test_a_delivery_without_a_packet_is_counted_apart():
    accounted = account(FLOWS, sent_rows(1), received_rows([0, 7]))
    assert accounted.unmatched == 1
    assert accounted.packets["copies"].tolist() == [1]


def test_nothing_sent_nothing_received():
    accounted = account(FLOWS, sent_rows(0).reshape(-1, 4), received_rows([]))
    assert accounted.packets.empty
    assert list(accounted.packets.columns) == list(PACKETS.columns)


@given(st.lists(st.integers(0, 3), max_size=40), st.randoms())
def test_copies_are_what_the_network_delivered(copies, random):
    deliveries = [seq for seq, number in enumerate(copies) for _ in range(number)]
    random.shuffle(deliveries)
    packets = account(
        FLOWS, sent_rows(len(copies)).reshape(-1, 4), received_rows(deliveries)
    ).packets
    assert packets["copies"].tolist() == copies
    places = packets["rx_index"].dropna().tolist()
    assert sorted(places) == list(range(len(places)))
