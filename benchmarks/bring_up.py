"""Bring-up: a star of 3 NVEs and 6 VMs beside plain Mininet with as many switches and hosts.

Both are built and taken down in turn, in one run, so that the ratio means something on a machine
whose speed varies.  Plain Mininet gets its Linux bridges, since its Open vSwitch needs the
machine's own.  Needs root.  Run: python -m benchmarks.bring_up [--times 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

from mininet.net import Mininet
from mininet.nodelib import LinuxBridge

from benchmarks import run_as_command
from experiments.run.lab import Lab
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario
from nve.ovs.bridge import OvsInstance

NVES, VMS = 3, 6


def scenario() -> Scenario:
    """Return a scenario with VMs spread over the NVEs and, as in plain Mininet, no emulated
    delay.
    """
    return resolve(
        {
            "name": "bring-up",
            "topology": {"kind": "star", "nves": NVES},
            "tenants": [
                {"vni": 5000, "vms": {f"vm{n + 1}": f"nve{n % NVES + 1}" for n in range(VMS)}}
            ],
            "duration_s": 1,
        },
        "benchmark",
    )


def build_lab() -> tuple[float, float, float]:
    """Return the seconds for the data centre and until VMs are reachable, and the MiB per NVE."""
    began_s = time.monotonic()
    with Lab(scenario()) as lab:
        whole_s = time.monotonic() - began_s
        rss_kib = max(OvsInstance.of(nve.edge).rss_kib() for nve in lab.data_centre.nves.values())
        return lab.bring_up_s, whole_s, rss_kib / 1024


def build_plain_mininet() -> float:
    """Return the seconds until Mininet's `start` returns, for as many bridges and hosts in a
    star.
    """
    began_s = time.monotonic()
    net = Mininet(controller=None)
    try:
        core = net.addSwitch("s0", cls=LinuxBridge)
        for number in range(NVES):
            switch = net.addSwitch(f"s{number + 1}", cls=LinuxBridge)
            net.addLink(switch, core)
            for place in range(VMS // NVES):
                net.addLink(net.addHost(f"h{number}{place}"), switch)
        net.start()
        return time.monotonic() - began_s
    finally:
        net.stop()


def measure(times: int, say: Callable[[str], None] = print) -> None:
    """Build both in turn and print medians."""
    labs, plains = [], []
    for _ in range(times):
        labs.append(build_lab())
        plains.append(build_plain_mininet())
    centre_s, whole_s, rss_mib = (statistics.median(values) for values in zip(*labs, strict=True))
    plain_s = statistics.median(plains)
    say(f"data centre, {NVES} NVEs and {VMS} VMs: {centre_s:.2f} s (median of {times})")
    say(f"with the NVA and every VM associated: {whole_s:.2f} s")
    say(f"plain Mininet, {NVES + 1} bridges and {VMS} hosts: {plain_s:.2f} s")
    say(f"ratio data centre / plain Mininet: {centre_s / plain_s:.2f}")
    say(f"Open vSwitch memory per NVE, largest: {rss_mib:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark bring-up.")
    parser.add_argument("--times", type=int, default=5)
    measure(parser.parse_args().times)


if __name__ == "__main__":
    run_as_command(main)
