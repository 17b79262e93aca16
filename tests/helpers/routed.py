"""A lab whose networks are of layer 3, what its VMs say of it, and what is on its wires."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Network
from subprocess import PIPE

from experiments.run.lab import Lab
from nve import ila
from nve.model import RoutedNetwork
from tests.helpers.runs import scenario
from topologies import locators

WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
CHECKSUMS = {"n": "neutral", "a": "adjusted"}
"""By the first letter of the VMs' names in a tenant of `located_lab` that has it."""


class Routed:
    """The lab, and what its VMs say of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.vms = {vm.name: vm for vm in lab.scenario.vms()}

    def run(self, vm: str, *argv: str) -> str:
        process = self.lab.data_centre.in_vm(vm, argv, stdout=PIPE, stderr=PIPE, text=True)
        said, complained = process.communicate()
        return said + complained

    def ping(self, source: str, address: object, *more: str) -> str:
        return self.run(source, "ping", "-c", "2", "-i", "0.1", "-W", "2", *more, str(address))

    def neighbours(self, vm: str) -> dict[str, str]:
        told = json.loads(self.run(vm, "ip", "-j", "neigh", "show", "dev", "eth0"))
        return {each["dst"]: each.get("lladdr", "?") for each in told}


def wire_octets(routed: Routed, of: str) -> int:
    """How long the frame of one IPv6 echo request of 100 octets is on the underlay."""
    uplink = routed.lab.data_centre.fabric.uplink("nve1").interface
    capture = ["tcpdump", "-ni", uplink, "-e", "-c", "1", "-Q", "out", "udp or ip6[6] = 58"]
    sniffer = routed.lab.data_centre.in_node("nve1", capture, stdout=PIPE, stderr=PIPE, text=True)
    assert sniffer.stderr
    assert "listening" in sniffer.stderr.readline() + sniffer.stderr.readline()
    routed.ping(f"{of}1", routed.vms[f"{of}4"].ipv6, "-s", "100")
    said, _ = sniffer.communicate()
    return int(re.findall(r"length (\d+):", said)[0])


@contextmanager
def located_lab() -> Iterator[Routed]:
    """Behind routers; one tenant with neutral locators, one with checksums that are adjusted."""
    wanted = scenario(
        traffic=[],
        moves=[],
        topology={"kind": "leaf-spine", "leaves": 3, "underlay": "ipv6"},
        tenants=[
            {
                **{"vni": vni, "layer": 3, "encapsulation": "ila", "checksum": checksum},
                "vms": {letter + vm[-1]: nve for vm, nve in WHERE.items()},
            }
            for vni, (letter, checksum) in enumerate(CHECKSUMS.items(), start=5000)
        ],
        duration_s=1,
    )
    with Lab(wanted) as lab:
        yield Routed(lab)


def captured(located: Routed, node: str, interface: str, what: str) -> subprocess.Popen[bytes]:
    """A capture of one frame that leaves or comes in, once it listens."""
    argv = ["tcpdump", "-ni", interface, "-U", "-w", "-", "-c", "1", what]
    sniffer = located.lab.data_centre.in_node(node, argv, stdout=PIPE, stderr=PIPE)
    assert sniffer.stderr
    while b"listening" not in sniffer.stderr.readline():
        pass
    return sniffer


def packet_of(sniffer: subprocess.Popen[bytes]) -> bytes:
    """The IPv6 packet in the captured frame: behind the headers of the file, the record, and
    Ethernet."""
    written, _ = sniffer.communicate(timeout=10)
    return written[24 + 16 + 14 :]


def network_of(located: Routed, of: str) -> tuple[RoutedNetwork, IPv6Network]:
    """A tenant's network, and its locator at vm4's NVE."""
    network = located.vms[f"{of}1"].routed
    assert network
    return network, ila.locator(network, servers(located)["nve3"])


def servers(located: Routed) -> Mapping[str, IPv6Network]:
    """The locators of the servers, by their NVEs."""
    return locators.servers(located.lab.data_centre.fabric)
