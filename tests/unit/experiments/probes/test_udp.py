"""What is on the wire, and the plan that sender and receiver share."""

import pytest

from experiments.probes.udp import MIN_SIZE_BYTES, FlowPlan, Packet, Plan, flow_name, parse


def flow(name="vm2>vm1/ipv4", source="vm2", rate_pps=1000.0, size_bytes=100):
    return FlowPlan(name, source, "vm1", "10.0.0.1", rate_pps, size_bytes)


def test_a_packet_is_read_as_it_was_stamped():
    packet = Packet(nonce=7, flow=3, size_bytes=100)
    packet.stamp(seq=41, sent_ns=1_700_000_000_000_000_001)
    assert len(packet.buffer) == 100
    assert parse(packet.buffer, nonce=7) == (3, 41, 1_700_000_000_000_000_001)


def test_a_packet_of_another_run_is_not_ours():
    packet = Packet(nonce=7, flow=3, size_bytes=100)
    assert parse(packet.buffer, nonce=8) is None


@pytest.mark.parametrize("payload", [b"", b"x" * (MIN_SIZE_BYTES - 1), b"x" * 100])
def test_anything_else_is_not_ours(payload):
    assert parse(payload, nonce=7) is None


def test_the_plan_survives_its_file():
    plan = Plan(nonce=1, duration_s=2.5, flows=(flow(), flow("vm3>vm1/ipv6", source="vm3")))
    assert Plan.from_json(plan.to_json()) == plan


def test_the_plan_says_who_sends_and_who_receives():
    plan = Plan(nonce=1, duration_s=1, flows=(flow(), flow("b", source="vm3"), flow("c")))
    assert plan.sources == ["vm2", "vm3"]
    assert plan.destinations == ["vm1"]
    assert list(plan.flows_from("vm2")) == [0, 2]


@pytest.mark.parametrize("rate", [0, -1, 20_001])
def test_a_rate_that_cannot_be_sent_is_refused(rate):
    with pytest.raises(ValueError, match="give a rate above 0"):
        flow(rate_pps=rate)


@pytest.mark.parametrize("size", [MIN_SIZE_BYTES - 1, 65_001])
def test_a_size_without_room_for_the_header_is_refused(size):
    with pytest.raises(ValueError, match="bytes of payload"):
        flow(size_bytes=size)


def test_two_flows_of_one_name_are_refused():
    with pytest.raises(ValueError, match="name them apart"):
        Plan(nonce=1, duration_s=1, flows=(flow(), flow()))


def test_a_plan_without_time_is_refused():
    with pytest.raises(ValueError, match="give a time above 0"):
        Plan(nonce=1, duration_s=0, flows=())


def test_how_a_flow_is_called():
    assert flow_name("vm3", "vm1", "ipv6") == "vm3>vm1/ipv6"
