"""What goes around a packet between NVEs at layer 3, and what a TCP connection gets through it.

Two VMs behind two NVEs of a star without delay: the length of one IPv6 echo request with 100 octets
of data, captured on the underlay, and the rate of one iperf3 connection over IPv6, for each
encapsulation that an underlay has.  Needs root.
Run: python -m benchmarks.encapsulation [--seconds 4] [--only ipv6,vxlan ipv6,ila]
"""

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from subprocess import PIPE
from typing import Any

from benchmarks import run_as_command
from experiments.run.lab import Lab
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario

COMBINATIONS = (
    *(("ipv4", "vxlan"), ("ipv4", "vxlan-l3")),
    *(("ipv6", "vxlan"), ("ipv6", "vxlan-l3"), ("ipv6", "ila")),
)
INSIDE_OCTETS = 100 + 8 + 40
"""The octets of data, ICMPv6 header and IPv6 header."""


def scenario(underlay: str, encapsulation: str) -> Scenario:
    content: dict[str, Any] = {
        "name": "encapsulation",
        "topology": {"kind": "star", "nves": 2, "underlay": underlay},
        "tenants": [
            {
                **{"vni": 5000, "layer": 3, "encapsulation": encapsulation},
                "vms": {"vm1": "nve1", "vm2": "nve2"},
            }
        ],
        "duration_s": 1,
        "datapath": "netdev",
    }
    return resolve(content, "benchmark", {})


def on_the_wire(lab: Lab, address: str) -> int:
    """Return the length of an echo request's frame on the underlay."""
    uplink = lab.data_centre.fabric.uplink("nve1").interface
    capture = ["tcpdump", "-ni", uplink, "-e", "-c", "1", "-Q", "out", "udp or ip6[6] = 58"]
    sniffer = lab.data_centre.in_node("nve1", capture, stdout=PIPE, stderr=PIPE, text=True)
    assert sniffer.stderr
    while "listening" not in sniffer.stderr.readline():
        pass
    ping = ["ping", "-c", "2", "-i", "0.2", "-s", "100", address]
    lab.data_centre.in_vm("vm1", ping, stdout=PIPE).communicate()
    said, _ = sniffer.communicate(timeout=10)
    return int(re.findall(r"length (\d+):", said)[0])


def rate_mbit(lab: Lab, address: str, seconds: int) -> float:
    """Return the median rate over the seconds of one connection."""
    argv = ["iperf3", "-s", "-1", "--forceflush"]
    server = lab.data_centre.in_vm("vm2", argv, stdout=PIPE, text=True)
    assert server.stdout
    while "listening" not in server.stdout.readline():
        pass
    argv = ["iperf3", "-6", "-c", address, "-t", str(seconds), "-J"]
    client = lab.data_centre.in_vm("vm1", argv, stdout=PIPE, text=True)
    told, _ = client.communicate()
    server.communicate()
    intervals = json.loads(told)["intervals"]
    rates: list[float] = [each["sum"]["bits_per_second"] for each in intervals]
    return statistics.median(rates) / 1e6


def combination(text: str) -> tuple[str, str]:
    underlay, _, encapsulation = text.partition(",")
    if (underlay, encapsulation) not in COMBINATIONS:
        raise ValueError(text)
    return underlay, encapsulation


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", type=combination, nargs="+", metavar="UNDERLAY,ENCAPSULATION")
    given = parser.parse_args(argv)
    print("underlay  encapsulation  on the wire  around the packet  VMs' MTU  Mbit/s  of vxlan's")
    plain: dict[str, float] = {}
    for underlay, encapsulation in given.only or COMBINATIONS:
        with Lab(scenario(underlay, encapsulation)) as lab:
            vm = lab.data_centre.vms["vm2"]
            address = str(vm.spec.ipv6)
            octets = on_the_wire(lab, address)
            rate = rate_mbit(lab, address, given.seconds)
        ratio = rate / plain.setdefault(underlay, rate)
        around = octets - INSIDE_OCTETS
        cells = f"{underlay:9} {encapsulation:14} {octets:11} {around:18} {vm.mtu:9} {rate:7.0f}"
        print(f"{cells} {ratio:11.2f}", flush=True)


if __name__ == "__main__":
    run_as_command(main)
