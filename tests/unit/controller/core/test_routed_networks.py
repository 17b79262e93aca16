"""Layer 3 networks at the NVA: host routes, moves that take them along, and who may say what."""

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.authority import Authority
from controller.core.dissemination import strategy
from controller.core.refusals import RequestRefused
from nve import ila
from nve.messages import AnswerSolicitation, Emit, TooBig, TraceRecord
from nve.model import GATEWAY_IPV6, NVE_MAC, IPAddress, Mac, RoutedNetwork
from nve.pipeline.evaluator import Frame
from nve.pipeline.rules import Output, Purpose
from nve.wire.frames import ICMPV6, IPV4, NEIGHBOUR_SOLICITATION, UDP, destination, ethernet, ip
from tests.helpers import authority, frames
from tests.helpers.examples import examples, some_of
from tests.helpers.fabric import Fabric
from tests.helpers.frames import entering
from tests.helpers.tenants import RED, underlay, vteps

VM1, VM2, VM3 = (
    replace(each, routed=RoutedNetwork()) for each in (authority.VM1, authority.VM2, authority.VM3)
)
SHARED: frozenset[IPAddress] = frozenset(
    {IPv4Address("192.168.9.50"), IPv6Address("fd77::50"), IPv6Address("fd51:0:1388::50")}
)
STRATEGIES = {"push": None, "pull": 2}


SIR = IPv6Network("fd51:0:1388::/64")
NETWORKS = {
    "vxlan": RoutedNetwork(),
    "vxlan-l3": RoutedNetwork("vxlan-l3"),
    "ila": RoutedNetwork("ila", SIR),
    "ila-adjusted": RoutedNetwork("ila", SIR, "adjusted"),
}
KINDS = [
    *(("push", "vxlan"), ("pull", "vxlan"), ("push", "vxlan-l3"), ("pull", "vxlan-l3")),
    *(("push", "ila"), ("pull", "ila"), ("push", "ila-adjusted")),
]


@pytest.fixture(params=some_of([(each,) for each in KINDS], every=3), ids="-".join)
def network(request: pytest.FixtureRequest) -> Fabric:
    """vm1 and vm3 at nve1, vm2 at nve2, all of one layer 3 network."""
    mapping, kind = request.param
    made = Fabric(vteps(), strategy(mapping, STRATEGIES[mapping]), underlay=underlay())
    for each in (VM1, VM2, VM3):
        vm = replace(each, routed=NETWORKS[kind])
        if kind.startswith("ila"):
            vm = replace(vm, ipv6=ila.translated(vm.ipv6, SIR))
        made.associate(vm, claimable=SHARED if each is not VM3 else frozenset())
    made.settle()
    return made


def own(at: Fabric, vm: str) -> tuple[IPAddress, ...]:
    """The addresses of a VM that its network carries."""
    spec = at.vms[vm]
    return tuple(each for each in (spec.ipv4, spec.ipv6) if each.version in spec.versions)


def to(at: Fabric, sender: str, address: IPAddress) -> Frame:
    """What a VM sends to an address."""
    make, field = (frames.ipv4, "ipv4_dst") if address.version == 4 else (frames.ipv6, "ipv6_dst")
    return make(at.vms[sender], NVE_MAC, nw_ttl=64, **{field: str(address)})


def reached(at: Fabric, sender: str, address: IPAddress) -> tuple[tuple[str, int], ...]:
    """Where a packet to an address comes, if need be after the NVA was asked."""
    frame = to(at, sender, address)
    at.send(sender, frame)
    at.settle()
    return at.deliveries(entering(frame, at.port(sender)), at.where[sender])


@pytest.mark.shows("R3.3", "R4.2.1")
def test_a_host_route_leads_to_the_vm_wherever_it_moves(network: Fabric) -> None:
    addresses = own(network, "vm1")
    for to in ("nve2", "nve3", "nve1"):
        network.move("vm1", to)
        for sender in ("vm2", "vm3"):
            for address in addresses:
                assert reached(network, sender, address) == ((to, network.port("vm1")),)


@pytest.mark.shows("R4.1.4", "R4.2.1")
def test_the_source_forwards_while_old_entries_live(network: Fabric) -> None:
    address = own(network, "vm1")[-1]
    reached(network, "vm2", address)
    move = network.request_move("vm1", "nve3")
    network.settle()
    network.redirect(move)
    network.settle()

    frame = frames.ipv6(network.vms["vm2"], NVE_MAC, ipv6_dst=str(address), nw_ttl=64)
    way = network.way(entering(frame, network.port("vm2")), "nve2")
    assert [nve for nve, _ in way] == ["nve2", "nve1", "nve3"]
    at_source = way[1][1].last
    assert at_source
    assert at_source.purpose in (Purpose.IN_FLIGHT, Purpose.LOCATE)
    assert way[-1][1].ports == (network.port("vm1"),)
    assert way[-1][1].frame["nw_ttl"] == 63, "only one NVE is its router"


@pytest.mark.shows("R3.3", "R4.2.1")
def test_an_address_goes_from_vm_to_vm_where_the_orchestrator_says_so(network: Fabric) -> None:
    versions = network.vms["vm1"].versions
    shared = sorted((each for each in SHARED if each.version in versions), key=str)
    before = None
    for vm in (VM1, VM2, VM1):
        for address in shared:
            told = network.ask(network.authority.route, vm.name, address)
            network.settle()
            assert told == before
            place = (network.where[vm.name], network.port(vm.name))
            assert reached(network, "vm3", address) == (place,)
        before = vm.name
    assert network.events().count("host-route-moved") == 3 * len(shared)


def test_a_route_that_the_nva_has_told_survives_its_death(network: Fabric) -> None:
    address = IPv6Address("fd51:0:1388::50")
    network.ask(network.authority.route, "vm2", address)
    network.settle()
    network.kill()
    network.connect_all()
    network.settle()

    assert reached(network, "vm3", address) == (("nve2", network.port("vm2")),)


@pytest.mark.parametrize(
    ("vm", "address", "remedy"),
    [
        ("vm3", "192.168.9.50", "vm3 may not have 192.168.9.50"),
        ("vm9", "192.168.9.50", "no VM 'vm9'"),
    ],
)
def test_an_address_that_a_vm_may_not_have_stays(
    network: Fabric, vm: str, address: str, remedy: str
) -> None:
    with pytest.raises(RequestRefused, match=remedy):
        network.ask(network.authority.route, vm, IPv4Address(address))


def test_at_layer_2_nothing_is_routed() -> None:
    flat = authority.push()
    with pytest.raises(RequestRefused, match="layer 2, which has no host routes"):
        flat.ask(flat.authority.route, "vm1", IPv4Address("192.168.0.1"))


def test_a_network_is_of_one_layer(network: Fabric) -> None:
    flat = replace(authority.VM1, name="vm9", mac=authority.GHOST, ipv4=IPv4Address("10.0.0.9"))
    with pytest.raises(RequestRefused, match="another kind of network"):
        network.associate(flat)


@pytest.mark.shows("R4.2.4")
def test_the_nva_answers_for_the_gateway_and_for_nobody_else(network: Fabric) -> None:
    for target in (GATEWAY_IPV6, VM2.ipv6):
        nd = {"ip_proto": ICMPV6, "icmpv6_type": NEIGHBOUR_SOLICITATION}
        asked = {"ipv6_dst": "ff02::1:ff00:0", "ipv6_nd_target": str(target)}
        to = Mac("33:33:ff:00:00:00")
        network.send("vm1", frames.ipv6(network.vms["vm1"], to, **nd, **asked))
    network.settle()

    (answer,) = network.answered
    assert isinstance(answer, AnswerSolicitation)
    assert (answer.nve, answer.mac) == ("nve1", NVE_MAC)
    assert network.refused() == {}


def test_a_packet_to_nobody_is_counted(network: Fabric) -> None:
    assert reached(network, "vm1", IPv6Address("fd51:0:1388::77")) == ()
    assert network.refused() == {"unknown-destination": 1}


def test_with_locators_a_vm_does_not_come_back_to_an_nve_that_sends_its_packets_on() -> None:
    """An `ila` packet does not say which NVE has sent it: it would go round in a circle."""
    made = Fabric(vteps(), strategy("push", None), underlay=underlay())
    for each in (VM1, VM2):
        made.associate(replace(each, routed=NETWORKS["ila"]))
    made.settle()
    move = made.request_move("vm1", "nve3")
    made.settle()
    made.redirect(move)
    made.settle()
    made.activate(move)
    made.settle()
    with pytest.raises(RequestRefused, match="wait for in-flight-ended"):
        made.request_move("vm1", "nve1")
    made.expire_all()
    made.request_move("vm1", "nve1")


@pytest.mark.shows("R5.3")
def test_the_sender_of_a_routed_packet_that_is_too_big_is_told() -> None:
    """Its frame has the NVE's MAC address as source by then: only the packet says whose it is."""
    made = Authority(vteps(), strategy("push", None), tunnel_mtus={("nve1", "nve2"): 1350})
    for nve in vteps():
        made.nve_connected(nve, 0)
    for port, vm in enumerate((VM1, VM2), start=10):
        associate = partial(made.associate, mtu=1500, routed=vm.routed)
        associate(vm.name, vm.tenant_system, vm.addresses, vm.nve, port, 0)
    packet = ip(VM1.ipv4, VM2.ipv4, UDP, bytes(1400))
    frame = ethernet(NVE_MAC, VM2.mac, IPV4, packet)
    made.take_effects()
    made.reported("nve1", TooBig(10, RED, NVE_MAC, VM2.mac, len(packet), frame), 0)

    told, said = made.take_effects()
    assert isinstance(told, Emit)
    assert (told.nve, told.way) == ("nve1", Output(10))
    assert told.frame[:6].hex(":") == VM1.mac
    assert destination(told.frame) == VM1.ipv4
    assert isinstance(said, TraceRecord)
    assert (said.subject, said.details["to"]) == ("vm1", "vm2")


@pytest.mark.shows("R3.4", "R4.2.1", "R4.2.2")
@pytest.mark.parametrize("kind", some_of(NETWORKS, every=2))
@given(st.data())
@examples(20)
def test_however_messages_interleave_a_packet_reaches_its_vm_once_and_nobody_else(
    kind: str, data: st.DataObject
) -> None:
    """Asked of every packet after every change of a rule, while the VM moves from NVE to NVE."""
    made = Fabric(vteps(), strategy("push", None), underlay=underlay())
    for each in (VM1, VM2, VM3):
        vm = replace(each, routed=NETWORKS[kind])
        if kind.startswith("ila"):
            vm = replace(vm, ipv6=ila.translated(vm.ipv6, SIR))
        made.associate(vm)
    made.settle()
    place = made.port("vm1")

    def look(_rule: object) -> None:
        for sender in ("vm2", "vm3"):
            for address in own(made, "vm1"):
                frame = entering(to(made, sender, address), made.port(sender))
                ports = [port for _, port in made.deliveries(frame, made.where[sender])]
                assert ports in ([], [place]), (sender, address, ports)

    made.on_change = look
    for there in ("nve3", "nve2"):
        move = made.request_move("vm1", there)
        for step in (lambda: None, partial(made.redirect, move), partial(made.activate, move)):
            step()
            while ways := made.under_way():
                made.deliver(*data.draw(st.sampled_from(ways)))
        for sender in ("vm2", "vm3"):
            for address in own(made, "vm1"):
                assert reached(made, sender, address) == ((there, place),)
    assert made.refused() == {}
