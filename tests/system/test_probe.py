"""The probe between two plain namespaces: what it reports is what happened, to the packet."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.namespaces import joined_pair
from experiments.measure.packets import flows_of, lost_mask
from experiments.probes.fleet import ProbeError, ProbeFleet
from experiments.probes.udp import FlowPlan, Plan
from experiments.workloads import WorkloadError
from experiments.workloads.iperf3.transfer import BulkPlan, TcpBulk
from tests.helpers.wait import wait_until

pytestmark = pytest.mark.alone

WAITING_S = 0.2
LOSE_EVERY_16TH = "5,48 0 0 61,84 0 0 15,21 0 1 3,6 0 0 2,6 0 0 0"
"""cBPF: take the last byte of the sequence number (over IPv4), drop if its lower 4 bits are 3."""


@pytest.fixture(scope="module")
def vms():
    with joined_pair() as pair:
        yield pair


class Probing:
    """A fleet in the two namespaces, with its processes at hand."""

    def __init__(self, vms, directory: Path, *flows: FlowPlan, duration_s: float = 2.0) -> None:
        self._vms = vms
        self.processes: dict[str, subprocess.Popen] = {}
        self.duration_s = duration_s
        self.fleet = ProbeFleet(Plan(1, duration_s, flows), directory, self._spawn)

    def _spawn(self, vm, argv, **options):
        process = self._vms[vm].popen(argv, **options)
        self.processes[argv[2].rpartition(".")[2]] = process
        return process

    def __enter__(self):
        try:
            self.fleet.launch()
        except BaseException:
            self.fleet.stop()
            raise
        return self

    def __exit__(self, *_):
        self.fleet.stop()
        assert all(process.poll() is not None for process in self.processes.values())

    def measure(self):
        return self.fleet.collect(self.duration_s + 10, WAITING_S)


def flow(family, rate_pps=1000.0, address=None):
    addresses = {"ipv4": "10.0.0.2", "ipv6": "fd00::2"}
    return FlowPlan(f"vm1>vm2/{family}", "vm1", "vm2", address or addresses[family], rate_pps)


@pytest.mark.shows("T2")
def test_a_thousand_packets_per_second_lose_nothing(vms, tmp_path):
    with Probing(vms, tmp_path, flow("ipv4"), flow("ipv6")) as probing:
        probing.fleet.begin()
        probed = probing.measure()
    assert probed.problems == []
    flows = flows_of(probed.packets)
    assert set(flows) == {"vm1>vm2/ipv4", "vm1>vm2/ipv6"}
    for name, samples in flows.items():
        of_sender = probed.summary["senders"]["vm1"]["flows"][name]
        assert len(samples) == of_sender["sent"] == 2000 - of_sender["skipped"]
        assert (samples.copies == 1).all()
        assert (samples.delay_ns > 0).all()


@pytest.mark.shows("T2")
def test_injected_loss_is_counted_to_the_packet(vms, tmp_path):
    vms["vm1"].run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    lose = ("bpf", "da", "bytecode", LOSE_EVERY_16TH)
    vms["vm1"].run("tc", "filter", "add", "dev", "eth0", "egress", *lose)
    try:
        with Probing(vms, tmp_path, flow("ipv4"), duration_s=3) as probing:
            start_ns = probing.fleet.begin()
            wait_until(lambda: None if time.time_ns() > start_ns + 25 * 10**8 else "half done")
            so_far = probing.fleet.so_far()
            probed = probing.measure()
    finally:
        vms["vm1"].run("tc", "qdisc", "del", "dev", "eth0", "clsact")
    [samples] = flows_of(probed.packets).values()
    lost = samples.seq[lost_mask(samples, waiting_time_ns=10**9)]
    assert lost.tolist() == [seq for seq in samples.seq.tolist() if seq % 16 == 3]
    assert len(lost) > 100
    # Told while it went on: what came in, and no more losses than there were.
    assert so_far is not None
    assert so_far.missing is not None
    assert 0 < so_far.packets_per_s < 1000
    assert 0 < so_far.missing < len(lost)


def test_a_sender_that_was_frozen_skips_and_loses_nothing(vms, tmp_path):
    with Probing(vms, tmp_path, flow("ipv4")) as probing:
        start_ns = probing.fleet.begin()
        sender = probing.processes["sender"]
        wait_until(
            lambda: None if time.time_ns() > start_ns + 10**9 else "the probe is not half done"
        )
        sender.send_signal(signal.SIGSTOP)
        frozen_ns = time.time_ns()
        wait_until(lambda: None if time.time_ns() > frozen_ns + 10**8 else "not long enough")
        sender.send_signal(signal.SIGCONT)
        probed = probing.measure()
    [samples] = flows_of(probed.packets).values()
    skipped = probed.summary["senders"]["vm1"]["flows"]["vm1>vm2/ipv4"]["skipped"]
    assert skipped >= 80
    assert len(samples) == 2000 - skipped
    assert not lost_mask(samples, waiting_time_ns=10**9).any()


def test_a_sender_that_is_stopped_keeps_what_it_has_measured(vms, tmp_path):
    with Probing(vms, tmp_path, flow("ipv4"), duration_s=60) as probing:
        start_ns = probing.fleet.begin()
        wait_until(lambda: None if time.time_ns() > start_ns + 5 * 10**8 else "not begun")
        probing.processes["sender"].terminate()
        probed = probing.measure()
    assert probed.problems == ["the sender in vm1 was stopped before its last packet was due"]
    assert 300 < len(probed.packets) < 5000
    assert (probed.packets["copies"] == 1).all()


def test_packets_that_the_kernel_refuses_are_errors_and_not_losses(vms, tmp_path):
    lost_way = flow("ipv4", rate_pps=100, address="192.0.2.1")
    with Probing(vms, tmp_path, lost_way, duration_s=0.5) as probing:
        probing.fleet.begin()
        probed = probing.measure()
    assert probed.packets.empty
    of_sender = probed.summary["senders"]["vm1"]["flows"]["vm1>vm2/ipv4"]
    assert of_sender["send_errors"] == {"ENETUNREACH": 50}


def test_packets_of_others_are_foreign(vms, tmp_path):
    with Probing(vms, tmp_path, flow("ipv4", rate_pps=10), duration_s=0.5) as probing:
        probing.fleet.begin()
        stranger = ["bash", "-c", "echo hello > /dev/udp/10.0.0.2/62001"]
        assert vms["vm1"].popen(stranger).wait() == 0
        probed = probing.measure()
    assert probed.summary["receivers"]["vm2"]["foreign"] == 1


def test_a_receiver_that_cannot_listen_says_so(vms, tmp_path):
    with (
        Probing(vms, tmp_path / "first", flow("ipv4")),
        pytest.raises(ProbeError, match=r"receiver in vm2 did not become ready.*UDP port 62001"),
        Probing(vms, tmp_path / "second", flow("ipv4")),
    ):
        pass


def test_tcp_throughput_is_sampled_and_dated(vms):
    transfer = TcpBulk(BulkPlan("tcp", "vm1", "vm2", "10.0.0.2", 1.0, rate_mbit=20), _in(vms))
    try:
        transfer.launch()
        began_ns = time.time_ns()
        transfer.begin()
        measured = transfer.collect(timeout_s=10)
    finally:
        transfer.stop()
    assert len(measured) >= 9
    rates = [sample.bits_per_second for sample in measured]
    assert sum(rates) / len(rates) == pytest.approx(20e6, rel=0.2)
    end_s = (measured[-1].t_ns - began_ns) / 1e9
    assert 0.9 < end_s < 1.6


def test_a_workload_that_cannot_connect_says_so(vms):
    transfer = TcpBulk(BulkPlan("tcp", "vm1", "vm2", "192.0.2.1", 1.0), _in(vms))
    try:
        transfer.launch()
        transfer.begin()
        with pytest.raises(WorkloadError, match="unable to connect"):
            transfer.collect(timeout_s=10)
    finally:
        transfer.stop()


def _in(vms):
    return lambda vm, argv, **options: vms[vm].popen(argv, **options)
