"""What an NVE says as a router, octet by octet (RFC 792, RFC 4443)."""

from ipaddress import IPv4Address, IPv6Address

from controller.core import gateway
from nve.model import GATEWAY_IPV4, GATEWAY_IPV6, NVE_MAC, Mac
from nve.wire import frames
from nve.wire.frames import ICMP, ICMPV6, IPV4, IPV6

VM = Mac("02:00:00:00:00:01")
V4, V6 = IPv4Address("192.168.0.1"), IPv6Address("fd77::1")
PEER, PEER_V6 = IPv4Address("192.168.0.2"), IPv6Address("fd77::2")
UDP_V4 = frames.ip(V4, PEER, 17, frames.udp(4000, 9, b"hello"), 1)
UDP_V6 = frames.ip(V6, PEER_V6, 17, frames.udp(4000, 9, b"hello"), 1)


def sent(ethertype: int, packet: bytes) -> bytes:
    return frames.ethernet(VM, NVE_MAC, ethertype, packet)


def test_time_exceeded_quotes_the_packet() -> None:
    v4 = gateway.time_exceeded(sent(IPV4, UDP_V4), VM)
    v6 = gateway.time_exceeded(sent(IPV6, UDP_V6), VM)
    assert v4
    assert v6

    assert (frames.source(v4), frames.destination(v4)) == (GATEWAY_IPV4, V4)
    message = v4[14 + 20 :]
    assert message[:2] == bytes([11, 0])
    assert frames.checksum(message) == bytes(2)
    assert message[8:] == UDP_V4

    assert (frames.source(v6), frames.destination(v6)) == (GATEWAY_IPV6, V6)
    message = v6[14 + 40 :]
    assert message[:2] == bytes([3, 0])
    assert message == frames.icmpv6(GATEWAY_IPV6, V6, 3, message[4:])
    assert message[8:] == UDP_V6


def test_no_error_about_an_error() -> None:
    error = bytes([11, 0, 0, 0]) + bytes(4) + UDP_V4
    again = frames.ip(V4, PEER, ICMP, error, 1)

    assert gateway.time_exceeded(sent(IPV4, again), VM) is None


def test_who_looks_whether_the_gateway_is_there_gets_an_echo() -> None:
    asked = bytes([8, 0, 0, 0, 0, 7, 0, 1]) + b"abc"
    v4 = gateway.echo_reply(sent(IPV4, frames.ip(V4, GATEWAY_IPV4, ICMP, asked)), VM)
    question = frames.icmpv6(V6, GATEWAY_IPV6, 128, bytes([0, 7, 0, 1]) + b"abc")
    v6 = gateway.echo_reply(sent(IPV6, frames.ip(V6, GATEWAY_IPV6, ICMPV6, question)), VM)
    assert v4
    assert v6

    assert v4[14 + 20 :][:2] == bytes([0, 0])
    assert v4[14 + 20 :][4:] == asked[4:]
    assert frames.checksum(v4[14 + 20 :]) == bytes(2)
    assert v6[14 + 40 :][:1] == bytes([129])
    assert v6[14 + 40 :][4:] == question[4:]


def test_nothing_else_is_answered() -> None:
    padded = sent(IPV4, frames.ip(V4, GATEWAY_IPV4, ICMP, bytes([8, 0]))).ljust(60, b"\0")

    assert gateway.echo_reply(padded, VM) is None
    assert gateway.echo_reply(sent(IPV4, UDP_V4), VM) is None
    assert gateway.echo_reply(sent(IPV6, UDP_V6), VM) is None
