"""What a host is told whose packet is too big, octet by octet, and who is told nothing."""

import struct
from ipaddress import IPv4Address, IPv6Address
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import path_mtu
from controller.core.authority import Authority
from controller.core.dissemination import strategy
from nve.messages import Emit, Malformed, Missed, Tell, TooBig, TraceRecord
from nve.model import NVE_MAC, VmSpec, link_local
from nve.pipeline.mtu_check import ETHERNET_OCTETS, REPORTED_OCTETS
from nve.pipeline.rules import FIRST_VM_PORT, VXLAN_PORT, CheckLarger, Output, Rule, Tunnel
from nve.pipeline.state import Redirect
from nve.wire.frames import EXPERIMENTAL, ICMP, ICMPV6, IPV4, IPV6
from tests.helpers.tenants import RED, vm, vteps

SENDER, RECEIVER = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
PORT = FIRST_VM_PORT
MTU, BIG = 1350, 1450
UDP = 17
DONT_FRAGMENT = 0x4000


def ethernet(ethertype: int, packet: bytes) -> bytes:
    ends = (RECEIVER.mac + SENDER.mac).replace(":", "")
    return bytes.fromhex(ends) + ethertype.to_bytes(2, "big") + packet


def ipv4(
    source: IPv4Address = SENDER.ipv4,
    destination: IPv4Address = RECEIVER.ipv4,
    flags: int = DONT_FRAGMENT,
    protocol: int = UDP,
    start: bytes = b"",
) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, BIG, 7, flags, 64, protocol, 0)
    packet = header + source.packed + destination.packed + start
    return ethernet(IPV4, packet + bytes(range(256)) * 6)[: ETHERNET_OCTETS + BIG]


def ipv6(
    source: IPv6Address = SENDER.ipv6,
    destination: IPv6Address = RECEIVER.ipv6,
    protocol: int = UDP,
    start: bytes = b"",
) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, BIG - 40, protocol, 64)
    packet = header + source.packed + destination.packed + start
    return ethernet(IPV6, packet + bytes(range(256)) * 6)[: ETHERNET_OCTETS + BIG]


def told(frame: bytes) -> bytes | None:
    report = path_mtu.reported(PORT, RED, len(frame), frame[:REPORTED_OCTETS])
    assert isinstance(report, TooBig)
    return path_mtu.answer(report, MTU)


def checksum(octets: bytes) -> int:
    """Zero where the checksum inside is right; written otherwise than the code that is tested."""
    total = int.from_bytes(octets + bytes(len(octets) % 2), "big") % 0xFFFF
    return (0xFFFF - total) % 0xFFFF


@pytest.mark.shows("R5.3")
def test_ipv4_is_told_that_fragmentation_is_needed() -> None:
    frame = ipv4()
    answer = told(frame)

    assert answer is not None
    assert answer[:14] == bytes.fromhex((SENDER.mac + NVE_MAC).replace(":", "")) + b"\x08\x00"
    header, icmp = answer[14:34], answer[34:]
    assert (header[0], header[9]) == (0x45, ICMP)
    assert int.from_bytes(header[2:4], "big") == len(header) + len(icmp) == 576
    assert header[12:16] == IPv4Address("192.0.0.8").packed
    assert header[16:20] == SENDER.ipv4.packed
    assert struct.unpack("!BBxxHH", icmp[:8]) == (3, 4, 0, MTU)
    assert icmp[8:] == frame[14 : 14 + 548]
    assert checksum(header) == checksum(icmp) == 0


@pytest.mark.shows("R5.3")
def test_ipv6_is_told_that_its_packet_is_too_big() -> None:
    frame = ipv6()
    answer = told(frame)

    assert answer is not None
    assert answer[12:14] == b"\x86\xdd"
    header, icmp = answer[14:54], answer[54:]
    assert struct.unpack("!IHBB", header[:8]) == (6 << 28, len(icmp), ICMPV6, 64)
    assert len(header) + len(icmp) == 1280
    assert IPv6Address(header[8:24]) == link_local(NVE_MAC)
    assert header[24:40] == SENDER.ipv6.packed
    assert struct.unpack("!BBxxI", icmp[:8]) == (2, 0, MTU)
    assert icmp[8:] == frame[14 : 14 + 1232]
    assert checksum(header[8:40] + struct.pack("!II", len(icmp), ICMPV6) + icmp) == 0


def test_a_wrong_checksum_is_seen() -> None:
    """The check above, checked."""
    answer = told(ipv4())
    assert answer is not None
    assert checksum(answer[34:-1] + bytes([answer[-1] ^ 1])) != 0


def test_ipv4_that_may_be_fragmented_is_told_as_well() -> None:
    assert told(ipv4(flags=0)) is not None


def test_a_first_fragment_is_answered_and_no_other() -> None:
    more_fragments = 0x2000
    assert told(ipv4(flags=more_fragments)) is not None
    assert told(ipv4(flags=more_fragments | 170)) is None
    assert told(ipv4(flags=170)) is None


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_an_icmp_error_is_not_answered(kind: int) -> None:
    assert told(ipv4(protocol=ICMP, start=bytes([kind]))) is None


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 127])
def test_an_icmpv6_error_is_not_answered(kind: int) -> None:
    assert told(ipv6(protocol=ICMPV6, start=bytes([kind]))) is None


def test_a_ping_is_answered() -> None:
    assert told(ipv4(protocol=ICMP, start=b"\x08")) is not None
    assert told(ipv6(protocol=ICMPV6, start=b"\x80")) is not None


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255"])
def test_what_comes_from_no_host_or_goes_to_none_is_not_answered(address: str) -> None:
    assert told(ipv4(source=IPv4Address(address))) is None
    assert told(ipv4(destination=IPv4Address(address))) is None


@pytest.mark.parametrize("address", ["::", "ff02::1", "::1"])
def test_the_same_in_ipv6(address: str) -> None:
    assert told(ipv6(source=IPv6Address(address))) is None
    assert told(ipv6(destination=IPv6Address(address))) is None


def test_no_other_protocol_is_answered() -> None:
    assert told(ethernet(EXPERIMENTAL, bytes(1400))) is None


def test_a_frame_from_a_group_is_malformed() -> None:
    group = ipv4()[:6] + bytes.fromhex("ffffffffffff") + ipv4()[12:]

    assert isinstance(path_mtu.reported(PORT, RED, 1500, group), Malformed)
    assert isinstance(path_mtu.reported(PORT, RED, 1500, b"short"), Malformed)


@given(st.sampled_from([IPV4, IPV6, EXPERIMENTAL]), st.binary(max_size=80))
def test_whatever_a_vm_sends_nothing_breaks(ethertype: int, packet: bytes) -> None:
    told(ethernet(ethertype, packet))


# -- the NVA ---------------------------------------------------------------------------------------


TUNNEL_MTUS = {ends: MTU if "nve2" in ends else 1450 for ends in permutations(vteps(), 2)}


@pytest.fixture
def nva() -> Authority:
    """vm1 at nve1 and vm2 at nve2, both with a larger MTU than any tunnel to nve2 or from it."""
    return with_vms(mtu=BIG)


def with_vms(mtu: int) -> Authority:
    made = Authority(vteps(), strategy("push", None), tunnel_mtus=TUNNEL_MTUS)
    for nve in vteps():
        made.nve_connected(nve, 0)
    for of in (SENDER, RECEIVER):
        associate(made, of, mtu)
    made.take_effects()
    return made


def associate(nva: Authority, of: VmSpec, mtu: int) -> None:
    port = FIRST_VM_PORT + int(of.name.removeprefix("vm")) - 1
    nva.associate(of.name, of.tenant_system, of.addresses, of.nve, port, 0, mtu=mtu)


def emitted(nva: Authority, nve: str, port: int, frame: bytes) -> tuple[list[Emit], TraceRecord]:
    report = path_mtu.reported(port, RED, len(frame), frame[:REPORTED_OCTETS])
    nva.reported(nve, report, 0)
    effects = nva.take_effects()
    (record,) = (effect for effect in effects if isinstance(effect, TraceRecord))
    return [effect for effect in effects if isinstance(effect, Emit)], record


@pytest.mark.shows("R5.3")
def test_a_vm_is_answered_at_its_port(nva: Authority) -> None:
    (emit,), record = emitted(nva, "nve1", PORT, ipv4())

    assert (emit.nve, emit.way) == ("nve1", Output(PORT))
    assert emit.frame == told(ipv4())
    assert (record.event, record.subject) == ("packet-too-big", "vm1")
    assert record.details == {
        **{"nve": "nve1", "port": PORT, "to": "vm2"},
        **{"octets": len(ipv4()), "mtu": MTU, "answered": True},
    }


@pytest.mark.shows("R5.3", "R4.1.3")
def test_a_packet_that_asks_for_an_entry_is_answered_if_it_does_not_fit(nva: Authority) -> None:
    """The first packet of all is as big as any: the NVA would else send it into the tunnel."""
    nva.desired.set_remote("nve1", RECEIVER.tenant_system, None)

    nva.reported("nve1", Missed(PORT, RECEIVER.mac, ipv4()), 0)

    (emit,) = (effect for effect in nva.take_effects() if isinstance(effect, Emit))
    assert (emit.way, emit.frame) == (Output(PORT), told(ipv4()))

    fits = ipv4()[: ETHERNET_OCTETS + MTU]
    nva.reported("nve1", Missed(PORT, RECEIVER.mac, fits), 0)

    (emit,) = (effect for effect in nva.take_effects() if isinstance(effect, Emit))
    assert (emit.way, emit.frame) == (Tunnel(RED, vteps()["nve2"]), fits)


@pytest.mark.shows("R5.3", "R4.1.4")
def test_the_sender_of_a_packet_in_flight_is_answered_through_the_overlay(nva: Authority) -> None:
    """nve3 was the receiver's NVE; what nve1 still sends there, it would have to send on."""
    nva.desired.set_redirect("nve3", RECEIVER.tenant_system, Redirect(vteps()["nve2"]))

    (emit,), record = emitted(nva, "nve3", VXLAN_PORT, ipv6())

    assert (emit.nve, emit.way) == ("nve3", Tunnel(RED, vteps()["nve1"]))
    assert (record.details["mtu"], record.details["nve"]) == (MTU, "nve3")


def test_a_frame_that_nobody_may_be_told_about_is_recorded(nva: Authority) -> None:
    emits, record = emitted(nva, "nve1", PORT, ipv4(flags=170))

    assert emits == []
    assert record.details["answered"] is False


def test_a_frame_to_a_group_is_counted_and_not_answered(nva: Authority) -> None:
    emits, record = emitted(nva, "nve1", PORT, b"\xff" * 6 + ipv4()[6:])

    assert emits == []
    assert record.details["answered"] is False
    assert nva.violations.refused["nve1", PORT, "too-big"] == 1


def test_an_entry_that_has_gone_since_is_no_reason_to_guess(nva: Authority) -> None:
    nva.desired.set_remote("nve1", RECEIVER.tenant_system, None)
    emits, record = emitted(nva, "nve1", PORT, ipv4())

    assert emits == []
    assert record.details["mtu"] is None


def test_a_vm_with_a_larger_mtu_has_all_its_network_checked() -> None:
    """Also the entries that were there before it came: any VM may be its correspondent."""
    nva = with_vms(mtu=MTU)
    assert not checked(nva, "nve1")

    associate(nva, vm("vm3", 3, "nve3"), BIG)

    assert {rule.about for rule in checked(nva, "nve1")} == {RECEIVER.tenant_system}
    (tell,) = (e for e in nva.take_effects() if isinstance(e, Tell) and e.nve == "nve1")
    assert checked(nva, "nve1") <= set(tell.change.added)


def checked(nva: Authority, nve: str) -> set[Rule]:
    return {
        rule
        for rule in nva.desired.rules(nve)
        if any(isinstance(action, CheckLarger) for action in rule.actions) and rule.about
    }
