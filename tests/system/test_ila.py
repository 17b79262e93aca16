"""Identifiers and locators on real parts: what is on the underlay, octet for octet.

The kernel's own translator is the judge, where there is one.
"""

import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import pytest

from nve import ila
from nve.hypervisor.plug import nve_interface
from nve.model import GATEWAY_IPV6, NVE_MAC
from tests.helpers import kernel_ila
from tests.helpers.ipv6_packets import right_checksum, without_hop_limit
from tests.helpers.kernel_ila import ADJUSTED, UNCHANGED
from tests.helpers.nvo3 import nvo3
from tests.helpers.routed import (
    CHECKSUMS,
    WHERE,
    Routed,
    captured,
    located_lab,
    network_of,
    packet_of,
    servers,
    wire_octets,
)
from tests.helpers.runs import probe, recorded, scenario


@pytest.fixture(scope="module")
def located() -> Iterator[Routed]:
    with located_lab() as lab:
        yield lab


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
