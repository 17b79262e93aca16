"""TCP segments are read as they were written, and nothing else passes for one."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.model import IPAddress
from nve.wire.frames import IPV4, IPV6, UDP, checksum, ethernet, ip, udp
from nve.wire.segments import ACK, FIN, RST, SYN, TCP, TcpSegment, read_segment, segment

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
V4 = (IPv4Address("192.168.0.1"), IPv4Address("192.168.9.50"))
V6 = (IPv6Address("fd77::1"), IPv6Address("fd77::50"))
PORTS = st.integers(0, 65535)


def framed(packet: bytes, version: int) -> bytes:
    return ethernet(*MACS, IPV4 if version == 4 else IPV6, packet)


@given(st.sampled_from([V4, V6]), PORTS, PORTS, st.integers(0, 2**33), st.integers(0, 63))
def test_it_is_read_as_it_was_written(
    ends: tuple[IPAddress, IPAddress], here: int, there: int, seq: int, flags: int
) -> None:
    packet = segment((ends[0], here), (ends[1], there), seq, 7, flags)
    found = read_segment(framed(packet, ends[0].version))
    assert found == TcpSegment(*ends, here, there, flags)
    assert found.opens == (flags & (SYN | ACK | RST | FIN) == SYN)
    body = packet[20 if ends[0].version == 4 else 40 :]
    pseudo = ends[0].packed + ends[1].packed + len(body).to_bytes(4, "big") + bytes([0, 0, 0, TCP])
    assert checksum(pseudo + body) == bytes(2)


@given(st.binary(max_size=120))
def test_anything_may_come(frame: bytes) -> None:
    read_segment(frame)


@pytest.mark.parametrize("ends", [V4, V6])
def test_what_is_no_segment_is_none(ends: tuple[IPAddress, IPAddress]) -> None:
    whole = framed(segment((ends[0], 1), (ends[1], 2), 0, 0, ACK), ends[0].version)
    assert read_segment(whole) is not None
    assert read_segment(whole[:-1]) is None
    assert read_segment(framed(ip(*ends, UDP, udp(1, 2, bytes(40))), ends[0].version)) is None


def test_a_fragment_is_none() -> None:
    packet = bytearray(segment((V4[0], 1), (V4[1], 2), 0, 0, ACK))
    packet[6] = 0x20
    assert read_segment(framed(bytes(packet), 4)) is None
