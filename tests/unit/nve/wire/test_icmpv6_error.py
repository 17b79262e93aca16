"""ICMPv6 errors against octets put together by hand from RFC 4443 section 3, and the translation of
what they quote against packets that never were translated."""

import struct
from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.wire.frames import NotWellFormed
from nve.wire.icmpv6_error import Icmpv6Error, read, with_quoted_destination
from tests.helpers.examples import examples

ETHERNET = "02ff00000001 06000000000a 86dd"
ROUTER, VM1 = "fd000000000000020000000000000001", "fd510000138800000000000000000001"
PEER = "fd510000138800000000000000000004"
LOCATED = {
    # by the checksum of its network: where the peer is, and the UDP checksum on the way there
    "neutral": ("fd100000000313c60000000000000004", "da3f"),
    "adjusted": ("fd100000000313c70000000000000004", "da3e"),
}
"""Of the SIR prefix fd51:0:1388::/64, at server 3."""
SENT = "60000000 000d 11 01" + VM1 + "{to}" + "c000 0009 000d {checksum} 68656c6c6f"
"""A UDP datagram with "hello" in it, whose hop limit is over."""
ERROR = "60000000 003d 3a 3e" + ROUTER + VM1 + "03 00 {checksum} 00000000"
"""Time exceeded, hop limit exceeded in transit (RFC 4443 section 3.3)."""


def octets(text: str, **values: str) -> bytes:
    return bytes.fromhex(text.format(**values))


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("mode", LOCATED)
def test_time_exceeded_quotes_in_the_end_what_the_vm_has_sent(mode: str) -> None:
    to, checksum = LOCATED[mode]
    header = octets(ERROR, checksum="7db9")
    frame = octets(ETHERNET) + header + octets(SENT, to=to, checksum=checksum)

    error = read(frame)
    assert (error.name, error.mtu) == ("time-exceeded", None)
    assert error.source.packed + error.to.packed == octets(ROUTER + VM1)
    assert error.quoted_source.packed + error.quoted_destination.packed == octets(VM1 + to)
    peer = IPv6Address(octets(PEER))
    assert with_quoted_destination(error, peer) == (header + octets(SENT, to=PEER, checksum="da3f"))


def summed(message: bytes, source: IPv6Address, to: IPv6Address, protocol: int) -> int:
    """Zero where the checksum in it is right; written otherwise than the code that is tested."""
    pseudo = source.packed + to.packed + struct.pack("!II", len(message), protocol)
    whole = pseudo + message + bytes(len(message) % 2)
    return -int.from_bytes(whole, "big") % 0xFFFF


def error(quoted: bytes, kind: int = 3, code: int = 0, value: int = 0, wrong: int = 0) -> bytes:
    """The frame of an error from the router to vm1."""
    source, to = IPv6Address(octets(ROUTER)), IPv6Address(octets(VM1))
    message = struct.pack("!BBHI", kind, code, 0, value) + quoted
    checksum = summed(message, source, to, 58) ^ wrong
    message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
    header = struct.pack("!IHBB", 6 << 28 | 0x0A00001, len(message), 58, 62)
    return octets(ETHERNET) + header + source.packed + to.packed + message


PROTOCOLS = {6: 16, 17: 6, 58: 2}
"""TCP, UDP and ICMPv6, and where each has its checksum."""
EXTENSIONS: dict[str, list[tuple[int, str]]] = {
    # the number of each extension header, and its octets behind the number of the next one
    "none": [],
    "options": [(0, "01 010c" + 12 * "00"), (60, "00 010400000000")],
    "first fragment": [(44, "00 0001 00000007")],
}


def packet(to: IPv6Address, protocol: int, extensions: str, rest: bytes) -> bytes:
    """What vm1 sends, or what becomes of it, with a right checksum."""
    source, found = IPv6Address(octets(VM1)), EXTENSIONS[extensions]
    at = PROTOCOLS[protocol]
    body = bytes(range(at)) + bytes(2) + bytes(range(18 - at)) + rest
    checksum = summed(body, source, to, protocol) or 0xFFFF
    body = body[:at] + checksum.to_bytes(2, "big") + body[at + 2 :]
    kinds = [*(kind for kind, _ in found), protocol]
    for (_, behind), following in reversed(list(zip(found, kinds[1:], strict=True))):
        body = bytes([following]) + bytes.fromhex(behind) + body
    start = struct.pack("!IHBB", 6 << 28, len(body), kinds[0], 1)
    return start + source.packed + to.packed + body


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("extensions", EXTENSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(
    rest=st.binary(max_size=40),
    word=st.integers(0, 0xFFFF),
    kept=st.integers(20, 60).map(lambda words: 2 * words),
)
@examples(50)
def test_the_checksum_of_the_quoted_packet_is_that_before_its_adjustment(
    protocol: int, extensions: str, rest: bytes, word: int, kept: int
) -> None:
    """Whatever the locator, and however much of the packet the router quotes."""
    peer = IPv6Address(octets(PEER))
    located = IPv6Address((0xFD10_0000_0003_0000 | word) << 64 | 4)
    quoted = packet(located, protocol, extensions, rest)[:kept]
    found = with_quoted_destination(read(error(quoted)), peer)

    assert found[48:] == packet(peer, protocol, extensions, rest)[:kept]
    assert summed(found[40:], IPv6Address(found[8:24]), IPv6Address(found[24:40]), 58) == 0
    assert found[:40] == error(quoted)[14:54], "the header is the router's"


def test_a_udp_checksum_is_put_back_as_all_ones_where_it_would_be_zero() -> None:
    """Zero says that there is none (RFC 768)."""
    peer, located = (IPv6Address(octets(each)) for each in (PEER, LOCATED["adjusted"][0]))
    rest = packet(peer, 17, "none", bytes(2))[46:48]
    found = with_quoted_destination(read(error(packet(located, 17, "none", rest))), peer)

    assert found[48:] == packet(peer, 17, "none", rest)
    assert found[48 + 46 :][:2] == b"\xff\xff"


@pytest.mark.parametrize(
    "rest",
    [
        bytes([44]) + bytes.fromhex("1100 0009 00000007") + bytes(20),  # a later fragment
        bytes([50]) + bytes(20),  # ESP
        bytes([43]) + bytes.fromhex("1102 0001 00000000") + bytes(32),  # a routing header
        bytes([17]) + octets("c000 0009 000d 0000"),  # UDP without a checksum
    ],
    ids=["fragment", "esp", "routing", "no checksum"],
)
def test_where_no_checksum_was_adjusted_none_is_put_back(rest: bytes) -> None:
    start, source = bytes.fromhex("60000000 0028"), octets(VM1)
    quoted = start + rest[:1] + b"\1" + source + octets(LOCATED["adjusted"][0]) + rest[1:]
    found = with_quoted_destination(read(error(quoted)), IPv6Address(octets(PEER)))

    assert found[48:] == quoted[:24] + octets(PEER) + quoted[40:]
    assert summed(found[40:], IPv6Address(found[8:24]), IPv6Address(found[24:40]), 58) == 0


@pytest.mark.parametrize(
    ("kind", "code", "value", "name"),
    [
        (1, 3, 0, "destination-unreachable"),
        (2, 0, 1400, "packet-too-big"),
        (3, 1, 0, "time-exceeded"),
        (4, 1, 6, "parameter-problem"),
    ],
)
def test_type_code_and_value_stay(kind: int, code: int, value: int, name: str) -> None:
    quoted = octets(SENT, to=LOCATED["neutral"][0], checksum="da3f")
    said = read(error(quoted, kind, code, value))
    found = with_quoted_destination(said, IPv6Address(octets(PEER)))

    assert said.name == name
    assert said.mtu == (value if kind == 2 else None)
    assert struct.unpack("!BBxxI", found[40:48]) == (kind, code, value)


QUOTED = octets(SENT, to=PEER, checksum="da3f")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        error(QUOTED)[:-1],
        error(QUOTED[:39]),
        error(QUOTED, wrong=1),
        error(QUOTED + bytes(1280 - 40 - 8 - len(QUOTED) + 1)),
        error(QUOTED, kind=128),
        error(QUOTED, kind=5),
        error(b"\x45" + QUOTED[1:]),
        error(QUOTED)[:12] + b"\x08\x00" + error(QUOTED)[14:],
        error(QUOTED)[:14] + b"\x45" + error(QUOTED)[15:],
    ],
    ids=[
        *("nothing", "cut off", "no whole header quoted", "wrong checksum", "longer than 1280"),
        *("an echo", "an unknown error", "about IPv4", "in an IPv4 frame", "not version 6"),
    ],
)
def test_what_no_receiver_may_accept_is_not_read(frame: bytes) -> None:
    with pytest.raises(NotWellFormed):
        read(frame)


def test_the_longest_error_is_read() -> None:
    assert read(error(QUOTED + bytes(1280 - 40 - 8 - len(QUOTED)))).to == IPv6Address(octets(VM1))


@given(st.binary(max_size=120), st.sampled_from([b"", error(QUOTED)[:54]]))
def test_anything_may_come(rest: bytes, start: bytes) -> None:
    try:
        found = read(start + rest)
    except NotWellFormed:
        return
    assert isinstance(found, Icmpv6Error)


@given(st.binary(max_size=120))
def test_anything_may_be_quoted(rest: bytes) -> None:
    quoted = b"\x60" + rest.ljust(39, b"\0")
    found = with_quoted_destination(read(error(quoted)), IPv6Network("fd51::/64")[1])
    assert len(found) == 48 + len(quoted)
