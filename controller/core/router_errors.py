"""Errors of the underlay's routers about packets that went by locators (`nve.ila`).

A router that cannot forward such a packet tells its source, a SIR address, that the destination is
unreachable, the packet is too big for the next link, or its hop limit is over (RFC 4443 section 3).
The underlay leads SIR addresses to the nearest NVE, which reports the error, wherever the VM is.
The NVA translates the quoted destination back to the SIR address that the VM knows, and has the
error sent to the VM where it is now.  The MTU in a packet too big stays as it is, because nothing
is put around a packet.

Whoever can send on the underlay can forge an error (RFC 4443 section 5.2).  One that quotes no
packet which the VM could have sent is dropped: the quoted source has to be the VM, the quoted
destination the locator of a server and the identifier of a VM of the network.  So is a packet too
big with an MTU below that of IPv6 (RFC 8201 section 4).  The VM judges the rest, as any host does:
its kernel looks for the quoted packet's connection.
"""

from dataclasses import dataclass

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from nve import ila
from nve.messages import Emit
from nve.model import NVE_MAC, TenantSystem
from nve.pipeline.rules import Output
from nve.wire.frames import IPV6, ethernet
from nve.wire.icmpv6_error import LEAST_MTU, Icmpv6Error, with_quoted_destination


@dataclass(frozen=True)
class TranslatedError:
    """An error as it is sent to its VM, and the VM that the quoted packet was for."""

    vm: TenantSystem
    destination: TenantSystem
    packet: bytes


def judge(error: Icmpv6Error, desired: DesiredState, directory: Directory) -> TranslatedError | str:
    """Return the error translated, or a sentence that says why it is forged."""
    vni, network = desired.sir_network(error.to) or (None, None)
    if vni is None or network is None or network.sir_prefix is None:
        return f"{error.to} is in no SIR prefix"
    vm = directory.find_address(vni, error.to)
    identified = ila.translated(error.quoted_destination, network.sir_prefix)
    destination = directory.find_address(vni, identified)
    places = (desired.state(nve).underlay for nve in desired)
    locators = [ila.locator(network, place.server) for place in places if place]
    if vm is None:
        return f"no VM has {error.to}"
    if desired.sir_network(error.source):
        return f"{error.source} is no router"
    if error.quoted_source != error.to:
        return f"it quotes a packet of {error.quoted_source}, not of {error.to}"
    if destination is None or not any(error.quoted_destination in each for each in locators):
        return f"it quotes a packet to {error.quoted_destination}, where no VM can be"
    if error.mtu is not None and error.mtu < LEAST_MTU:
        return f"an MTU of {error.mtu} is below that of IPv6"
    packet = with_quoted_destination(error, identified)
    return TranslatedError(vm.system, destination.system, packet)


def emits(error: TranslatedError, desired: DesiredState) -> list[Emit]:
    """Return what sends the error to its VM, at both places if it has two instances."""
    frame = ethernet(NVE_MAC, error.vm.mac, IPV6, error.packet)
    ports = desired.receiving(error.vm)
    return [
        Emit(nve, Output(port), frame) for nve, port in ports.items() if desired.is_connected(nve)
    ]
