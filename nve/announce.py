"""How a VM says that it is here: the frames that announce it after a move.

    garp   gratuitous ARP request to the broadcast address (R4.1.2; RFC 5227 section 3)
    na     unsolicited neighbour advertisement (R4.1.6; RFC 4861 section 7.2.6) to all nodes
    rarp   reverse ARP request with the VM's MAC, as hypervisors send it for a silent VM (RFC 903)

Frames are built by hand: they are three, of fixed length, and have to be ready before the VM is
resumed.
"""

from ipaddress import IPv6Address

from nve.model import BROADCAST, VmSpec

ALL_NODES = IPv6Address("ff02::1")
FORMS = ("garp", "na", "rarp")


def frames(vm: VmSpec, form: str) -> list[bytes]:
    """The frames of an announcement; `both` is garp and na, `none` is nothing."""
    makers = {"garp": gratuitous_arp, "na": unsolicited_advertisement, "rarp": reverse_arp}
    forms = {"both": ["garp", "na"], "none": []}.get(form, [form])
    return [makers[each](vm) for each in forms]


def gratuitous_arp(vm: VmSpec) -> bytes:
    """An ARP request for the VM's own address, from it, to everybody."""
    sender = _octets(vm.mac) + vm.ipv4.packed
    target = bytes(6) + vm.ipv4.packed
    return _ethernet(BROADCAST, vm.mac, 0x0806) + _arp(1) + sender + target


def reverse_arp(vm: VmSpec) -> bytes:
    """A reverse ARP request for the VM's own MAC address."""
    hardware = _octets(vm.mac)
    return (
        _ethernet(BROADCAST, vm.mac, 0x8035) + _arp(3) + hardware + bytes(4) + hardware + bytes(4)
    )


def unsolicited_advertisement(vm: VmSpec) -> bytes:
    """A neighbour advertisement with the override flag, nobody having asked."""
    option = bytes([2, 1]) + _octets(vm.mac)
    body = bytes([0x20, 0, 0, 0]) + vm.ipv6.packed + option
    length = (4 + len(body)).to_bytes(4, "big")
    pseudo_header = vm.ipv6.packed + ALL_NODES.packed + length + bytes([0, 0, 0, 58])
    message = bytes([136, 0]) + _checksum(pseudo_header + bytes([136, 0, 0, 0]) + body) + body
    header = bytes([0x60, 0, 0, 0]) + len(message).to_bytes(2, "big") + bytes([58, 255])
    group = "33:33:00:00:00:01"
    return _ethernet(group, vm.mac, 0x86DD) + header + vm.ipv6.packed + ALL_NODES.packed + message


def _ethernet(destination: str, source: str, ethertype: int) -> bytes:
    return _octets(destination) + _octets(source) + ethertype.to_bytes(2, "big")


def _arp(operation: int) -> bytes:
    """Ethernet and IPv4, and the operation."""
    return bytes.fromhex("0001080006 04") + operation.to_bytes(2, "big")


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
