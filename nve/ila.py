"""Identifier-locator addressing: its addresses, and how checksums stay right.

A task is known by its *SIR address* (standard identifier representation): the 64 bits of the
network's SIR prefix, and its 64-bit identifier.  On the underlay the upper half is the *locator* of
the server where the task is.  NVEs translate; no header is put around the packet
(draft-herbert-intarea-ila; section 4.2 of draft-ietf-nvo3-vmm).

    SIR address   fd51:0:1388:0 : 0:0:0:7        what tasks see
    on the wire   fd10:0:2:xxxx : 0:0:0:7        48 bits of the server, 16 of the network

The checksums of TCP, UDP and ICMPv6 cover the addresses, so a translation has to keep the one's
complement sum of the address, or the checksums have to be corrected:

    neutral    the last 16 bits of the locator make its sum that of the SIR prefix (the arithmetic
               of RFC 6296 section 3.1): no checksum changes, whoever translates
    adjusted   they do not, and each NVE corrects the packet's checksum (RFC 1624)

An ICMPv6 error of the destination quotes the packet as it was received there, with the SIR address.
One of an underlay's router quotes it with the locator, which the NVA translates back
(`controller.core.router_errors`).
"""

from ipaddress import IPv6Address, IPv6Network
from itertools import chain

from nve.model import RoutedNetwork, Vni

HALF = 64
"""The number of bits of the SIR prefix, of a locator, and of an identifier."""
SERVER_BITS = 48
"""The number of bits of a locator that identify the server."""
LOCATORS = IPv6Network("fd10::/32")
"""The range that contains all servers' prefixes."""
_WORD, _MASK = 16, 0xFFFF


def server(number: int) -> IPv6Network:
    """Return the prefix of the locators of a server: fd10:0:NUMBER::/48."""
    first = int(LOCATORS.network_address)
    return IPv6Network((first | number << 128 - SERVER_BITS, SERVER_BITS))


def words(prefix: IPv6Network) -> list[int]:
    """Return the four 16-bit words of the upper half."""
    return [int(prefix.network_address) >> shift & _MASK for shift in (112, 96, 80, 64)]


def ones_complement(*numbers: int) -> int:
    """Return the one's complement sum in 16 bits; zero is 0, never 0xffff (RFC 6296 section
    3.1).
    """
    total = sum(numbers)
    while total >> _WORD:
        total = (total & _MASK) + (total >> _WORD)
    return 0 if total == _MASK else total


def adjustment(inside: IPv6Network, outside: IPv6Network) -> int:
    """Return what to add, in one's complement, to a word of an address to keep its sum.

    The address's prefix `inside` is replaced by `outside` (RFC 6296 section 3.1).
    """
    negative = [word ^ _MASK for word in words(outside)]
    return ones_complement(*words(inside), *negative)


def corrected(checksum: int, before: IPv6Address, after: IPv6Address) -> int:
    """Return a checksum over an address after that is replaced by another (RFC 1624, equation
    3).
    """
    old, new = (
        [int(each) >> shift & _MASK for shift in range(0, 128, _WORD)] for each in (before, after)
    )
    negative = [word ^ _MASK for word in old]
    total = (checksum ^ _MASK) + sum(chain(negative, new))
    while total >> _WORD:
        total = (total & _MASK) + (total >> _WORD)
    return total ^ _MASK


def locator(network: RoutedNetwork, server: IPv6Network) -> IPv6Network:
    """Return the locator of a network at a server, whose own prefix has 48 bits."""
    assert network.sir_prefix is not None, network
    neutral = adjustment(network.sir_prefix, server)
    last = neutral if network.checksum == "neutral" else ones_complement(neutral, 1)
    return IPv6Network((int(server.network_address) | last << HALF, HALF))


def usual_sir_prefix(vni: Vni) -> IPv6Network:
    """Return the SIR prefix of a network that names none: every VNI has its own."""
    words_of_it = (0xFD51, vni >> _WORD, vni & _MASK, 0)
    number = 0
    for word in words_of_it:
        number = number << _WORD | word
    return IPv6Network((number << HALF, HALF))


def translated(address: IPv6Address, prefix: IPv6Network) -> IPv6Address:
    """Return the address with another upper half."""
    return IPv6Address(int(prefix.network_address) | int(address) & (1 << HALF) - 1)
