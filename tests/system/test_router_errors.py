"""What routers of the underlay tell VMs that are reached by locators: errors of ICMPv6.

The VMs' kernels are the judges: they believe an error only if it quotes a packet of their own.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

import pytest

from nve import ila
from nve.hypervisor.plug import nve_interface
from nve.linux.namespace import inside, run_in
from nve.wire import frames
from tests.helpers.ipv6_packets import right_checksum, without_hop_limit
from tests.helpers.nvo3 import nvo3
from tests.helpers.routed import CHECKSUMS, Routed, captured, located_lab, network_of, packet_of
from tests.helpers.streams import Stream, error_of, open_in, path_mtu, set_hop_limit, tell_errors
from tests.helpers.wait import wait_until
from topologies.spec import Port


@pytest.fixture(scope="module")
def located() -> Iterator[Routed]:
    with located_lab() as lab:
        yield lab


def node_with(located: Routed, address: str) -> str:
    """The node of the underlay that has an address."""
    return next(
        port.node
        for port, interfaces in located.lab.data_centre.fabric.addresses.items()
        if IPv6Address(address) in {interface.ip for interface in interfaces}
    )


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("of", CHECKSUMS)
def test_a_vm_sees_the_routers_of_the_underlay(located: Routed, of: str) -> None:
    """As with traceroute: each router tells whose hop limit was over.  A VM's kernel takes an error
    for its own by the addresses that it quotes; all else in it is as it was sent, too."""
    vm, peer = located.lab.data_centre.vms[f"{of}1"], located.vms[f"{of}4"].ipv6
    sender = open_in(vm, "ipv6", socket.SOCK_DGRAM)
    sender.connect((str(peer), 9))
    tell_errors(sender)
    # Packets of different flows may take different spines.
    for hops, node in ((2, "leaf1"), (3, "spine"), (4, "leaf3")):
        said = located.ping(f"{of}1", peer, "-c", "1", "-t", str(hops))
        (router,) = re.findall(r"From (\S+) icmp_seq=1 Time exceeded: Hop limit", said)
        assert node_with(located, router).startswith(node)
        set_hop_limit(sender, hops)
        port = ("nve1", nve_interface(f"{of}1"))
        sniffers = [captured(located, *port, each) for each in ("ip6[6] = 17", "ip6[40] = 3")]
        sender.send(b"x" * 101)
        sent, told = map(packet_of, sniffers)
        icmp_type, router = error_of(sender)
        assert icmp_type == 3
        assert node_with(located, router).startswith(node)
        assert without_hop_limit(told[48:]) == without_hop_limit(sent)
        assert right_checksum(told)
    sender.close()


@contextmanager
def altered(located: Routed, node: str, *commands: str) -> Iterator[None]:
    """A router in which the first command has been carried out; the second one takes it back."""
    do, undo = (["ip", *command.split()] for command in commands)
    pid = located.lab.data_centre.pids[node]
    run_in(pid, do)
    try:
        yield
    finally:
        run_in(pid, undo)


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("of", CHECKSUMS)
def test_tcp_gets_through_a_link_whose_mtu_has_become_smaller(located: Routed, of: str) -> None:
    """The router before it says how small; nothing is put around a packet, so that is the MTU."""
    link = Port("leaf3", "nve3").interface
    vms = located.lab.data_centre.vms
    with Stream(vms[f"{of}1"], vms[f"{of}4"], "ipv6") as stream:
        stream.await_more()
        assert path_mtu(stream.sending) == 1500
        with altered(located, "leaf3", f"link set {link} mtu 1400", f"link set {link} mtu 1500"):
            stream.await_more()
            assert path_mtu(stream.sending) == 1400
        stream.finish()
    route = located.run(f"{of}1", "ip", "-6", "route", "get", str(located.vms[f"{of}4"].ipv6))
    assert "mtu 1400" in route
    located.run(f"{of}1", "ip", "-6", "route", "flush", "cache")


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("of", CHECKSUMS)
def test_a_vm_hears_that_a_router_does_not_forward(located: Routed, of: str) -> None:
    peer = located.vms[f"{of}4"].ipv6
    _, there = network_of(located, of)
    route = f"prohibit {ila.translated(peer, there)}"
    with altered(located, "leaf3", f"-6 route add {route}", f"-6 route del {route}"):
        said = located.ping(f"{of}1", peer)
    assert "Destination unreachable: Administratively prohibited" in said
    assert " 0% packet loss" in located.ping(f"{of}1", peer)


@pytest.mark.shows("R4.2.2", "R9.4")
def test_forged_errors_do_nothing_and_are_counted(located: Routed) -> None:
    """From leaf1, where somebody else might be: of packets that vm1 cannot have sent, and more than
    an NVE reports."""
    vm1, vm2, vm4 = (located.vms[f"n{number}"].ipv6 for number in "124")
    _, there = network_of(located, "n")
    peer = located.lab.data_centre.vms["n4"]
    receiver = open_in(peer, "ipv6", socket.SOCK_DGRAM)
    sender = open_in(located.lab.data_centre.vms["n1"], "ipv6", socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname()[:2])
    with inside(located.lab.data_centre.pids["leaf1"]):
        forger = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)

    def forge(source: IPv6Address, to: IPv6Address) -> None:
        ports = sender.getsockname()[1], receiver.getsockname()[1]
        quoted = frames.ip(source, to, frames.UDP, frames.udp(*ports, b"hello"))
        too_big = bytes([frames.PACKET_TOO_BIG, 0, 0, 0]) + (1300).to_bytes(4, "big")
        forger.sendto(too_big + quoted, (str(vm1), 0))

    def counted(what: str) -> int:
        rows = [row for row in nvo3(located.lab).refused() if row["nve"] == "nve1"]
        return sum(int(row["packets"]) for row in rows if row["what"] == what)

    def errors_counted(number: int) -> str | None:
        found = {what: counted(what) for what in ("forged-error", "rate-limited-report")}
        return None if sum(found.values()) == number else f"{found} of {number}"

    located_vm4 = ila.translated(vm4, there)
    for source, to in ((vm2, located_vm4), (vm1, vm4), (vm1, ila.translated(vm4 + 0x99, there))):
        forge(source, to)
    wait_until(lambda: errors_counted(3))
    assert counted("forged-error") == 3
    assert path_mtu(sender) == 1500

    forge(vm1, located_vm4)  # what a router might have sent
    wait_until(lambda: None if path_mtu(sender) == 1300 else f"MTU {path_mtu(sender)}")
    located.run("n1", "ip", "-6", "route", "flush", "cache")

    for _ in range(500):
        forge(vm2, located_vm4)
    wait_until(lambda: errors_counted(503))
    assert counted("rate-limited-report") > 0
    for each in (sender, receiver, forger):
        each.close()
