"""Layer 3 networks on real parts: the kernel's neighbour tables and `ping` are the judges."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import pytest

from experiments.run.lab import Lab
from experiments.scenario.load import find, resolve
from experiments.scenario.yaml_source import read
from nve import ila
from nve.hypervisor.plug import nve_interface
from nve.linux.namespace import inside, run_in
from nve.model import GATEWAY_IPV4, GATEWAY_IPV6, NVE_MAC, RoutedNetwork
from nve.wire import frames
from tests.helpers import kernel_ila
from tests.helpers.kernel_ila import ADJUSTED, UNCHANGED
from tests.helpers.nvo3 import nvo3
from tests.helpers.runs import END_MARKER_S, probe, recorded, scenario, times_of
from tests.helpers.streams import Stream, error_of, open_in, path_mtu, set_hop_limit, tell_errors
from tests.helpers.wait import wait_until
from topologies import locators
from topologies.spec import Port

WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
TENANT = {"vni": 5000, "layer": 3, "subnets": "per-nve", "vms": WHERE}
ENCAPSULATIONS = {"v": "vxlan", "p": "vxlan-l3"}
"""By the first letter of the VMs' names in a tenant that has it."""


def tenants() -> list[dict[str, object]]:
    """One for each encapsulation, in one data centre, with the same addresses."""
    return [
        {
            **TENANT,
            "vni": vni,
            "encapsulation": encapsulation,
            "vms": {letter + vm[-1]: nve for vm, nve in WHERE.items()},
        }
        for vni, (letter, encapsulation) in enumerate(ENCAPSULATIONS.items(), start=5000)
    ]


CHECKSUMS = {"n": "neutral", "a": "adjusted"}


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


@pytest.fixture(scope="module")
def routed() -> Iterator[Routed]:
    wanted = scenario(traffic=[], moves=[], tenants=tenants(), duration_s=1)
    with Lab(wanted) as lab:
        yield Routed(lab)


@pytest.mark.shows("R4.2.1", "R4.2.4")
@pytest.mark.parametrize("of", ENCAPSULATIONS)
def test_a_vm_has_one_neighbour_however_many_peers(routed: Routed, of: str) -> None:
    for peer in ("2", "3", "4"):
        for address in (routed.vms[of + peer].ipv4, routed.vms[of + peer].ipv6):
            said = routed.ping(f"{of}1", address)
            assert " 0% packet loss" in said, said
    gateways = {str(GATEWAY_IPV4): NVE_MAC, str(GATEWAY_IPV6): NVE_MAC}
    assert routed.neighbours(f"{of}1") == gateways
    assert nvo3(routed.lab).differences() == []


def dropped(routed: Routed, what: str, vm: str | None = None) -> int:
    found = nvo3(routed.lab).refused()
    return sum(
        int(row["packets"])
        for row in found
        if row["what"] == what and (vm is None or row["vm"] == vm)
    )


@pytest.mark.shows("R4.2.1", "R4.2.4")
def test_the_nve_answers_for_nobody_but_itself(routed: Routed) -> None:
    """Asked for a peer on its own link, it is silent; nothing is broadcast to the peer, and what
    was asked is counted."""
    peer = routed.vms["v2"]
    before = dropped(routed, "not-routed", "v1")
    routed.run("v1", "ip", "route", "add", f"{peer.ipv4}/32", "dev", "eth0")
    routed.run("v1", "ip", "route", "add", f"{peer.ipv6}/128", "dev", "eth0")
    try:
        for address in (peer.ipv4, peer.ipv6):
            assert " 100% packet loss" in routed.ping("v1", address)
    finally:
        routed.run("v1", "ip", "route", "del", f"{peer.ipv4}/32", "dev", "eth0")
        routed.run("v1", "ip", "route", "del", f"{peer.ipv6}/128", "dev", "eth0")
    assert dropped(routed, "not-routed", "v1") > before
    heard = {*routed.neighbours("v2")}
    assert heard <= {str(GATEWAY_IPV4), str(GATEWAY_IPV6)}


@pytest.mark.shows("R4.2.1")
@pytest.mark.parametrize("peer", ["v2", "v4", "p4"])
def test_a_packet_passes_one_router(routed: Routed, peer: str) -> None:
    """The NVE takes one off the TTL, tells whose is over, and answers for itself."""
    for address, gateway in (
        (routed.vms[peer].ipv4, GATEWAY_IPV4),
        (routed.vms[peer].ipv6, GATEWAY_IPV6),
    ):
        assert "ttl=63" in routed.ping(f"{peer[0]}1", address)
        assert f"From {gateway}" in routed.ping(f"{peer[0]}1", address, "-t", "1")
        assert "ttl=63" in routed.ping(f"{peer[0]}1", address, "-t", "2")
        scope = "%eth0" if gateway.is_link_local and gateway.version == 6 else ""
        assert " 0% packet loss" in routed.ping(f"{peer[0]}1", f"{gateway}{scope}")


@pytest.mark.shows("R9.4")
def test_an_address_that_is_not_its_own_gets_a_vm_nowhere(routed: Routed) -> None:
    forged = "192.168.9.9"
    before = dropped(routed, "spoofed")
    routed.run("v1", "ip", "addr", "add", f"{forged}/32", "dev", "eth0")
    try:
        assert " 100% packet loss" in routed.ping("v1", routed.vms["v4"].ipv4, "-I", forged)
    finally:
        routed.run("v1", "ip", "addr", "del", f"{forged}/32", "dev", "eth0")
    assert dropped(routed, "spoofed") - before == 2


@pytest.mark.shows("R4.2.1")
def test_without_an_inner_ethernet_header_14_octets_less_are_on_the_wire(routed: Routed) -> None:
    """Captured on the underlay; the draft says 16, which an Ethernet header has only with a tag."""
    octets = {of: wire_octets(routed, of) for of in ENCAPSULATIONS}
    assert octets["v"] - octets["p"] == 14
    mtus = {of: routed.lab.data_centre.vms[f"{of}1"].mtu for of in ENCAPSULATIONS}
    assert mtus["p"] - mtus["v"] == 14
    for of, mtu in mtus.items():
        whole = ("-M", "do", "-s", str(mtu - 20 - 8))
        assert " 0% packet loss" in routed.ping(f"{of}1", routed.vms[f"{of}4"].ipv4, *whole)


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


@pytest.mark.shows("R3.3", "R4.2.1")
def test_a_host_route_takes_an_address_to_another_vm(tmp_path: Path) -> None:
    """From a VM at nve1 to one at nve2: who sends to it reaches the other one.  Fifty addresses are
    as many peers, and the VM has no more neighbours for that."""
    shared, *peers = (f"192.168.200.{number}" for number in range(1, 52))
    may_have = {shared: ["vm1", "vm3"], **{peer: ["vm3"] for peer in peers}}
    tenant = {**TENANT, "shared": may_have}
    wanted = scenario(traffic=[], moves=[], tenants=[tenant], duration_s=1)
    with Lab(wanted) as lab:
        routed = Routed(lab)
        for vm in ("vm1", "vm3"):
            assert " 100% packet loss" in routed.ping("vm4", shared)
            routed.run(vm, "ip", "addr", "add", f"{shared}/32", "dev", "eth0")
            said = nvo3(lab).can.commands["route"].answer(f"{shared} {vm}")
            assert str(said).startswith(f"{shared} is {vm}'s")
            assert " 0% packet loss" in routed.ping("vm4", shared)
            assert " 0% packet loss" in routed.ping("vm2", shared)
            routed.run(vm, "ip", "addr", "del", f"{shared}/32", "dev", "eth0")
        for peer in peers:
            routed.run("vm3", "ip", "addr", "add", f"{peer}/32", "dev", "eth0")
            nvo3(lab).nva.route("vm3", peer)
            assert " 0% packet loss" in routed.run("vm4", "ping", "-c", "1", "-W", "2", peer)
        assert len(peers) == 50
        assert routed.neighbours("vm4") == {str(GATEWAY_IPV4): NVE_MAC}
        assert nvo3(lab).differences() == []


@pytest.mark.shows("R3.3", "R4.2.1")
@pytest.mark.parametrize(
    ("mapping", "encapsulation"), [("push", "vxlan"), ("pull", "vxlan"), ("push", "vxlan-l3")]
)
def test_a_move_takes_the_host_route_along(
    tmp_path: Path, mapping: str, encapsulation: str
) -> None:
    """Nothing is lost, and in the end nothing crosses the NVE that the VM has left."""
    overlay = {"mapping_update": mapping, "hold": True, "end_marker": True, "idle_s": 1}
    overlay["end_marker_s"] = END_MARKER_S
    if mapping == "pull":
        overlay |= {"lifetime_s": 2, "on_expiry": "keep"}
    tenant = {**TENANT, "encapsulation": encapsulation}
    wanted = scenario(overlay=overlay, tenants=[tenant], duration_s=6)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert set(result.moves["lost"]) == {0}
    assert set(result.moves["reordered"]) == {0}
    assert set(result.moves["packets_via_source_after_convergence"]) == {0}


@pytest.mark.shows("R4.2.1")
def test_tcp_goes_on_through_a_move_at_layer_3(tmp_path: Path) -> None:
    bulk = {"kind": "tcp-bulk", "from": "vm4", "to": "vm1", "family": "ipv6", "rate_mbit": 5}
    wanted = scenario(traffic=[bulk], tenants=[TENANT], overlay__hold=True, duration_s=4)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.throughput is not None
    (resumed_ns,) = times_of(result, "vm-resumed")
    after = result.throughput[result.throughput["t_ns"] > resumed_ns + 1e9]
    assert (after["bits_per_second"] > 0).any()


@pytest.fixture(scope="module")
def located() -> Iterator[Routed]:
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


@pytest.mark.shows("R4.2.1", "R4.2.2", "R4.2.4")
@pytest.mark.parametrize("of", CHECKSUMS)
def test_identifiers_are_reached_by_locators(located: Routed, of: str) -> None:
    for peer in ("2", "3", "4"):
        said = located.ping(f"{of}1", located.vms[of + peer].ipv6)
        assert " 0% packet loss" in said, said
    assert located.neighbours(f"{of}1") == {str(GATEWAY_IPV6): NVE_MAC}
    assert nvo3(located.lab).differences() == []


@pytest.mark.shows("R4.2.2")
def test_with_locators_nothing_is_put_around_a_packet(located: Routed) -> None:
    """An echo request of 100 octets, its ICMPv6, IPv6 and Ethernet headers; the underlay's MTU."""
    assert wire_octets(located, "n") == 100 + 8 + 40 + 14
    assert located.lab.data_centre.vms["n1"].mtu == 1500
    whole = ("-M", "do", "-s", str(1500 - 40 - 8))
    assert " 0% packet loss" in located.ping("n1", located.vms["n4"].ipv6, *whole)


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


SENDS = """
import socket, sys
kind, address = sys.argv[1:]
with socket.socket(socket.AF_INET6, getattr(socket, kind)) as client:
    client.settimeout(3)
    try:
        client.connect((address, 9))
        client.send(b"x" * 101)
        client.recv(1)
    except OSError as error:
        print(type(error).__name__)
"""
"""To a port where nobody listens: TCP is answered by a reset, UDP by an ICMPv6 error; a kernel
believes that only if the packet in it is its own."""


HOP_LIMIT = 7
"""Its place in an IPv6 header."""
CHECKSUM_AT = {"SOCK_STREAM": 16, "SOCK_DGRAM": 6, "ping": 2}
"""By what sends: in the header of TCP, UDP or ICMPv6."""


class Translated(NamedTuple):
    """A packet on its way, as captured at four places."""

    sent: bytes
    leaving: bytes
    coming: bytes
    delivered: bytes


def translated(located: Routed, of: str, protocol: str) -> Translated:
    """What vm1 has sent to vm4, what is on the underlay at either end, and what vm4 gets."""
    peer = located.vms[f"{of}4"].ipv6
    data_centre = located.lab.data_centre
    uplinks = {nve: data_centre.fabric.uplink(nve).interface for nve in ("nve1", "nve3")}
    number = {"SOCK_STREAM": 6, "SOCK_DGRAM": 17, "ping": 58}[protocol]
    echo = " and ip6[40] = 128" if protocol == "ping" else ""
    ours = f"ip6[6] = {number} and src host {located.vms[f'{of}1'].ipv6}{echo}"
    places = [
        ("nve1", nve_interface(f"{of}1")),
        ("nve1", uplinks["nve1"]),
        ("nve3", uplinks["nve3"]),
        ("nve3", nve_interface(f"{of}4")),
    ]
    sniffers = [captured(located, *place, ours) for place in places]
    if protocol == "ping":
        located.ping(f"{of}1", peer)
    else:
        said = located.run(f"{of}1", sys.executable, "-c", SENDS, protocol, str(peer))
        assert said == "ConnectionRefusedError\n"
    return Translated(*map(packet_of, sniffers))


def network_of(located: Routed, of: str) -> tuple[RoutedNetwork, IPv6Network]:
    """A tenant's network, and its locator at vm4's NVE."""
    network = located.vms[f"{of}1"].routed
    assert network
    return network, ila.locator(network, servers(located)["nve3"])


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("of", CHECKSUMS)
@pytest.mark.parametrize("protocol", CHECKSUM_AT, ids=["tcp", "udp", "icmpv6"])
def test_a_translated_packet_is_the_same_but_for_the_locator_and_adjusted_checksums(
    located: Routed, of: str, protocol: str
) -> None:
    peer = located.vms[f"{of}4"].ipv6
    sent, leaving, coming, delivered = translated(located, of, protocol)

    _, there = network_of(located, of)
    assert IPv6Address(sent[24:40]) == IPv6Address(delivered[24:40]) == peer
    assert IPv6Address(leaving[24:40]) == ila.translated(peer, there)
    assert len(leaving) == len(sent), "nothing is put around it"
    checksum = slice(40 + CHECKSUM_AT[protocol], 40 + CHECKSUM_AT[protocol] + 2)
    for packet in (leaving, coming):
        assert (packet[checksum] == sent[checksum]) == (of == "n")
        assert packet[8:24] == sent[8:24], "the source is the identifier"
        assert packet[checksum.stop :] == sent[checksum.stop :]
    assert delivered[40:] == sent[40:]
    correct = ila.corrected(
        int.from_bytes(sent[checksum], "big"), peer, IPv6Address(leaving[24:40])
    )
    assert int.from_bytes(leaving[checksum], "big") == correct


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("mode", [UNCHANGED, ADJUSTED])
@pytest.mark.parametrize("protocol", CHECKSUM_AT, ids=["tcp", "udp", "icmpv6"])
def test_the_kernels_translator_makes_the_same_packet_of_it(
    located: Routed, mode: str, protocol: str
) -> None:
    """Octet for octet, at the sender's NVE and at the receiver's; there the kernel takes one off
    the hop limit, too, and an NVE does not."""
    if lacking := kernel_ila.lacking():
        pytest.skip(lacking)
    sent, leaving, coming, delivered = translated(located, "n", protocol)
    network, there = network_of(located, "n")
    assert network.sir_prefix

    with kernel_ila.translator(network.sir_prefix, there, mode) as translate:
        assert translate(sent) == leaving
    with kernel_ila.translator(there, network.sir_prefix, mode) as translate:
        assert without_hop_limit(translate(coming)) == without_hop_limit(delivered)


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("protocol", CHECKSUM_AT, ids=["tcp", "udp", "icmpv6"])
def test_the_kernels_translator_adjusts_the_same_checksum(located: Routed, protocol: str) -> None:
    """Linux (seen in 6.1) adds the difference where RFC 1624 subtracts it, and takes it back where
    the locator is: on the underlay its checksum is wrong by that, and ours is right."""
    if lacking := kernel_ila.lacking():
        pytest.skip(lacking)
    sent, leaving, _, delivered = translated(located, "a", protocol)
    network, there = network_of(located, "a")
    assert network.sir_prefix
    assert [right_checksum(each) for each in (sent, leaving, delivered)] == [True] * 3

    at = slice(40 + CHECKSUM_AT[protocol], 40 + CHECKSUM_AT[protocol] + 2)
    with kernel_ila.translator(network.sir_prefix, there, ADJUSTED) as translate:
        found = translate(sent)
    before, after = IPv6Address(sent[24:40]), IPv6Address(leaving[24:40])
    other_way = ila.corrected(int.from_bytes(sent[at], "big"), after, before).to_bytes(2, "big")
    assert found in (leaving, leaving[: at.start] + other_way + leaving[at.stop :])
    with kernel_ila.translator(there, network.sir_prefix, ADJUSTED) as translate:
        assert without_hop_limit(translate(found)) == without_hop_limit(delivered)


def without_hop_limit(packet: bytes) -> bytes:
    return packet[:HOP_LIMIT] + packet[HOP_LIMIT + 1 :]


def right_checksum(packet: bytes) -> bool:
    """Of TCP, UDP or ICMPv6, whose sum with that of the pseudo header is zero (RFC 8200 8.1)."""
    body = packet[40:]
    pseudo = packet[8:40] + len(body).to_bytes(4, "big") + packet[6:7].rjust(4, b"\0")
    return frames.checksum(pseudo + body) == b"\0\0"


def servers(located: Routed) -> Mapping[str, IPv6Network]:
    return locators.servers(located.lab.data_centre.fabric)


@pytest.mark.shows("R9.3", "R9.4")
def test_forged_locators_and_identifiers_are_dropped_and_counted(located: Routed) -> None:
    network, _ = network_of(located, "n")
    here = ila.locator(network, servers(located)["nve1"])
    nobodys = located.vms["n1"].ipv6 + 0x99
    name = located.lab.data_centre.fabric.uplink("nve1").peer

    def stranger(address: IPv6Address) -> None:
        ping = ["ping", "-c", "2", "-i", "0.1", "-W", "1", str(address)]
        located.lab.data_centre.in_node(name, ping, stdout=PIPE).communicate()

    # A VM that knows a locator, and one that knows no identifier there
    assert " 100% packet loss" in located.ping("n1", ila.translated(nobodys, here))
    assert " 100% packet loss" in located.ping("n1", nobodys)
    stranger(next(iter(servers(located).values()))[1])  # no locator of a network
    stranger(ila.translated(located.vms["n1"].ipv6, here))  # an identifier, from outside

    counted = {
        (row["nve"], row["what"]): int(row["packets"]) for row in nvo3(located.lab).refused()
    }
    assert counted["nve1", "unknown-destination"] == 4
    assert counted["nve1", "unknown-locator"] == 2
    assert counted["nve1", "spoofed"] == 2


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


@pytest.mark.shows("R3.3", "R4.2.2")
@pytest.mark.parametrize("mapping", ["push", "pull"])
def test_a_move_takes_the_identifier_to_another_locator(tmp_path: Path, mapping: str) -> None:
    tenant = {"vni": 5000, "layer": 3, "encapsulation": "ila", "vms": WHERE}
    overlay = {"mapping_update": mapping, "hold": True, "idle_s": 1}
    overlay |= {"lifetime_s": 2, "on_expiry": "keep"} if mapping == "pull" else {}
    traffic = [probe(vm, "ipv6") for vm in ("vm2", "vm3", "vm4")]
    topology = {"kind": "leaf-spine", "leaves": 3, "underlay": "ipv6", "link": {"delay_ms": 1}}
    wanted = scenario(
        topology=topology, overlay=overlay, tenants=[tenant], traffic=traffic, duration_s=5
    )
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert set(result.moves["lost"]) == {0}
    assert set(result.moves["packets_via_source_after_convergence"]) == {0}


@pytest.mark.shows("R4.2.1.1", "R4.2.1.3")
def test_a_task_takes_its_address_along_by_a_host_route(tmp_path: Path) -> None:
    """Nobody hears it announced; its client's connection goes on."""
    file = find("task-move")
    content = read(file)
    tenants = [{**content["tenants"][0], "layer": 3}]
    moves = [{"at_s": 1, "task": "web", "to": "vm2"}]
    changes = {"tenants": tenants, "task_moves": moves, "traffic.*.rate_mbit": 8, "duration_s": 5}
    outcome, result = recorded(resolve(content, str(file), changes), tmp_path / "result")

    assert outcome.problems == []
    downloads = result.rows("download")
    assert downloads is not None
    assert set(downloads["outcome"]) == {"whole"}
    moved = [event for event in result.events if event.name == "host-route-moved"]
    assert [event.subject for event in moved] == ["vm1", "vm1", "vm2", "vm2"]
