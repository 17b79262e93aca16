"""The arithmetic of locators (`nve.ila`) against Linux's own translator, packet by packet.

What switches make of packets by these rules is compared in `test_ila.py`.
"""

import os
from ipaddress import IPv6Address

import pytest

from nve import ila
from nve.model import RoutedNetwork, vni
from nve.wire import frames
from tests.helpers import kernel_ila
from tests.helpers.kernel_ila import ADJUSTED, UNCHANGED

pytestmark = pytest.mark.skipif(bool(kernel_ila.lacking()), reason=kernel_ila.lacking())

SIR = ila.usual_sir_prefix(vni(5000))
SENDER, RECEIVER = (ila.translated(IPv6Address(number), SIR) for number in (1, 4))
HOP_LIMIT = 7
"""Its place in an IPv6 header; the translator takes one off, as a router."""
PROTOCOLS = {6: (20, 16), 17: (8, 6), 58: (8, 2)}
"""TCP, UDP, ICMPv6: how long the header is, and where the checksum is in it."""


def packet(protocol: int, octets: int) -> bytes:
    """A packet with a random body and the right checksum."""
    header, at = PROTOCOLS[protocol]
    body = bytearray(os.urandom(header + octets))
    body[at : at + 2] = bytes(2)
    if protocol == 6:
        body[12] = 0x50  # its header has five words
    if protocol == 17:
        body[4:6] = len(body).to_bytes(2, "big")
    pseudo = b"".join(
        (SENDER.packed, RECEIVER.packed, len(body).to_bytes(4, "big"), bytes((0, 0, 0, protocol)))
    )
    body[at : at + 2] = frames.checksum(pseudo + body)
    return frames.ip(SENDER, RECEIVER, protocol, bytes(body))


def translated(sent: bytes, to: IPv6Address, checksum: int) -> bytes:
    at = 40 + PROTOCOLS[sent[6]][1]
    return sent[:24] + to.packed + sent[40:at] + checksum.to_bytes(2, "big") + sent[at + 2 :]


def without_hop_limit(octets: bytes) -> bytes:
    return octets[:HOP_LIMIT] + octets[HOP_LIMIT + 1 :]


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["tcp", "udp", "icmpv6"])
@pytest.mark.parametrize(
    ("checksum", "mode"),
    [("neutral", UNCHANGED), ("neutral", ADJUSTED), ("adjusted", ADJUSTED)],
)
def test_both_make_the_same_of_a_packet_and_of_that_again(
    checksum: str, mode: str, protocol: int
) -> None:
    """Linux 6.1 adds the difference of two prefixes where RFC 1624 subtracts it, so that its
    checksums are right again only behind a second translator."""
    there = ila.locator(RoutedNetwork("ila", SIR, checksum), ila.server(3))  # type: ignore[arg-type]
    locator = ila.translated(RECEIVER, there)
    with (
        kernel_ila.translator(SIR, there, mode) as leave,
        kernel_ila.translator(there, SIR, mode) as come_back,
    ):
        for octets in range(0, 140, 7):
            sent = packet(protocol, octets)
            at = 40 + PROTOCOLS[protocol][1]
            before = int.from_bytes(sent[at : at + 2], "big")
            ours = before if checksum == "neutral" else ila.corrected(before, RECEIVER, locator)
            linux = before if checksum == "neutral" else ila.corrected(before, locator, RECEIVER)
            allowed = {without_hop_limit(translated(sent, locator, each)) for each in {ours, linux}}
            left = leave(sent)
            assert without_hop_limit(left) in allowed
            assert without_hop_limit(come_back(left)) == without_hop_limit(sent)
