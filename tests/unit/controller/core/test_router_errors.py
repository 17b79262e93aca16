"""What the NVA makes of errors that routers of the underlay have sent about translated packets."""

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from controller.core.dissemination import strategy
from nve import ila
from nve.messages import Emit, Malformed, RouterError
from nve.model import NVE_MAC, RoutedNetwork, VmSpec
from nve.pipeline.rules import UNDERLAY_PORT, Output
from nve.wire import frames
from nve.wire.icmpv6_error import read
from tests.helpers.authority import VM1, VM2, VM3
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import BLUE, underlay, vteps

SIR, OTHER_SIR = IPv6Network("fd51:0:1388::/64"), IPv6Network("fd51:0:1770::/64")
NEUTRAL, ADJUSTED = RoutedNetwork("ila", SIR), RoutedNetwork("ila", SIR, "adjusted")
ROUTER = IPv6Address("fd00:0:0:2::1")


def in_network(vm: VmSpec, network: RoutedNetwork) -> VmSpec:
    assert network.sir_prefix
    return replace(vm, routed=network, ipv6=ila.translated(vm.ipv6, network.sir_prefix))


@pytest.fixture(params=[NEUTRAL, ADJUSTED], ids=["neutral", "adjusted"])
def network(request: pytest.FixtureRequest) -> Fabric:
    """vm1 and vm3 at nve1, vm2 at nve2; another tenant has "blue" at nve2."""
    made = Fabric(vteps(), strategy("push", None), underlay=underlay())
    for each in (VM1, VM2, VM3):
        made.associate(in_network(each, request.param))
    blue = replace(VM2, name="blue", vni=BLUE)
    made.associate(in_network(blue, RoutedNetwork("ila", OTHER_SIR)))
    made.settle()
    return made


def located(at: Fabric, vm: str, nve: str = "") -> IPv6Address:
    """The destination of packets to a VM, on the underlay."""
    spec = at.vms[vm]
    place = at.authority.desired.state(nve or at.where[vm]).underlay
    assert spec.routed
    assert place
    return ila.translated(spec.ipv6, ila.locator(spec.routed, place.server))


def echo(source: IPv6Address, to: IPv6Address) -> bytes:
    """An echo request with its last hop limit, and a right checksum wherever it is."""
    message = frames.icmpv6(source, to, 128, b"\0\7\0\1hello")
    return frames.ip(source, to, frames.ICMPV6, message, 1)


def relayed(
    at: Fabric,
    to: IPv6Address | None = None,
    quoted: tuple[IPv6Address, IPv6Address] | None = None,
    source: IPv6Address = ROUTER,
    kind: int = 3,
    value: int = 0,
    nve: str = "nve3",
) -> list[Emit]:
    """What the NVA has sent after an error; if nothing else is said, it quotes vm1's to vm2."""
    vm1 = at.vms["vm1"].ipv6
    packet = echo(*(quoted or (vm1, located(at, "vm2"))))
    message = frames.icmpv6(source, to or vm1, kind, value.to_bytes(4, "big") + packet)
    whole = frames.ip(source, to or vm1, 58, message, 62)
    error = read(frames.ethernet("06:00:00:00:00:09", "06:00:00:00:00:01", frames.IPV6, whole))
    at.emitted.clear()
    at.ask(at.authority.reported, nve, RouterError(UNDERLAY_PORT, error))
    at.settle()
    return at.emitted


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_the_sender_is_told_of_the_packet_that_it_has_sent(network: Fabric, kind: int) -> None:
    """By the NVE where it is, whichever has reported; the MTU stays as it is."""
    (emit,) = relayed(network, kind=kind, value=1400)

    assert (emit.nve, emit.way) == ("nve1", Output(network.port("vm1")))
    assert emit.frame[:14] == bytes.fromhex((VM1.mac + NVE_MAC).replace(":", "")) + b"\x86\xdd"
    told = read(emit.frame)
    assert (told.kind, told.source, told.to) == (kind, ROUTER, network.vms["vm1"].ipv6)
    assert told.packet[48:] == echo(network.vms["vm1"].ipv6, network.vms["vm2"].ipv6)
    assert told.mtu == (1400 if kind == 2 else None)
    line = network.trace[-1]
    assert (line.event, line.subject) == ("router-error", "vm1")
    assert line.details == {
        **{"nve": "nve3", "router": str(ROUTER), "kind": told.name, "to": "vm2"},
        "mtu": told.mtu,
    }
    assert network.refused() == {}


@pytest.mark.shows("R4.2.2", "R4.1.4")
def test_an_error_follows_its_vm(network: Fabric) -> None:
    """Also about a packet to where its destination was before."""
    before = located(network, "vm2")
    network.move("vm2", "nve3")
    move = network.request_move("vm1", "nve2")
    network.settle()
    vm1, places = network.vms["vm1"].ipv6, []
    for step in (lambda _: None, network.redirect, network.activate):
        step(move)
        network.settle()
        places.append([emit.nve for emit in relayed(network, quoted=(vm1, before))])

    assert places == [["nve1"], ["nve2"], ["nve2"]]


def test_nobody_is_told_by_an_nve_that_is_away(network: Fabric) -> None:
    network.disconnect("nve1")

    assert relayed(network) == []
    assert network.refused() == {}


STRANGER = IPv6Address("fd99::1")


@pytest.mark.shows("R9.4")
@pytest.mark.parametrize("nve", ["nve1", "nve3"])
def test_a_forged_error_does_nothing_and_is_counted(network: Fabric, nve: str) -> None:
    vm1, vm2, vm3 = (network.vms[vm].ipv6 for vm in ("vm1", "vm2", "vm3"))
    there = located(network, "vm2")
    forged: list[dict[str, Any]] = [
        {"to": SIR[0x99], "quoted": (SIR[0x99], there)},  # nobody's
        {"to": STRANGER, "quoted": (STRANGER, there)},  # in no network
        {"source": vm3},  # no router
        {"source": OTHER_SIR[7]},
        {"quoted": (vm3, there)},  # another VM's packet
        {"quoted": (STRANGER, there)},
        {"quoted": (vm1, vm2)},  # was never translated
        {"quoted": (vm1, ila.translated(SIR[0x99], IPv6Network((int(there) >> 64 << 64, 64))))},
        {"quoted": (vm1, ila.translated(vm2, ila.server(9).supernet(new_prefix=32)))},
        {"quoted": (vm1, located(network, "blue"))},  # another network's locator
        {"quoted": (vm1, STRANGER)},
        {"kind": 2, "value": 1279},  # RFC 8201 section 4
        {"kind": 2, "value": 0},
    ]
    for number, each in enumerate(forged, start=1):
        assert relayed(network, nve=nve, **each) == [], each
        assert network.refused() == {"forged-error": number}, each
        assert network.trace[-1].event == "refused-forged-error"
    assert "router-error" not in network.events()
    assert relayed(network, kind=2, value=1280)


def test_a_malformed_error_is_counted(network: Fabric) -> None:
    network.ask(network.authority.reported, "nve1", Malformed(UNDERLAY_PORT, "a wrong checksum"))

    assert network.refused() == {"malformed": 1}
