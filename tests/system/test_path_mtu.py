"""Packets that are too big for a tunnel, on real parts: hosts are told, and connections go on.

A star of three NVEs.  The link of nve2 is narrower than the others, and all VMs have the MTU of an
ordinary Ethernet, which no tunnel carries.
"""

import errno
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import PIPE

import pytest

from experiments.measure.trace import TraceEvent
from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from nve.pipeline.rules import PipelineTable
from tests.helpers.nvo3 import nvo3, ovs, told
from tests.helpers.runs import scenario
from tests.helpers.streams import (
    ALWAYS_DISCOVER,
    NEVER_DISCOVER,
    Stream,
    discover,
    open_in,
    path_mtu,
)
from tests.helpers.wait import wait_until

VM_MTU = 1500
NARROW_LINK_MTU = 1400
OVERHEAD = {"ipv4": 50, "ipv6": 70}
HEADERS = {"ipv4": 20, "ipv6": 40}
UDP_HEADER, ICMP_HEADER = 8, 8
ANSWERS_UNDER_WAY = 5
WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}


class Narrow:
    """The lab, and what its tunnels carry."""

    def __init__(self, lab: Lab, underlay: str) -> None:
        self.lab = lab
        self.vms = lab.data_centre.vms
        self.wide_mtu = 1500 - OVERHEAD[underlay]
        self.narrow_mtu = NARROW_LINK_MTU - OVERHEAD[underlay]
        self._moves = 0

    def move(self, vm: str, to: str) -> None:
        """A whole move; nothing is left of it afterwards."""
        self._moves += 1
        move = MoveSpec.model_validate({"at_s": 0, "vm": vm, "to": to, "pause_ms": 50})
        self.lab.orchestrator.move(self._moves, move).result(60)

    def ping(self, source: str, to: str, family: str, octets: int) -> str:
        """What ping says about a packet of that length that may not be fragmented."""
        payload = octets - HEADERS[family] - ICMP_HEADER
        target = str(getattr(self.vms[to].spec, family))
        version = "-4" if family == "ipv4" else "-6"
        argv = ["ping", version, "-n", "-M", "do", "-c", "1", "-W", "2", "-s", str(payload), target]
        process = self.lab.data_centre.in_vm(source, argv, stdout=PIPE, stderr=PIPE, text=True)
        said, complained = process.communicate()
        return said + complained

    def forget(self, vm: str) -> None:
        """The VM knows no path's MTU any more."""
        for family in ("-4", "-6"):
            argv = ["ip", family, "route", "flush", "cache"]
            assert self.lab.data_centre.in_vm(vm, argv).wait() == 0

    def route(self, vm: str, to: str, family: str) -> str:
        """What `ip route get` says in a VM."""
        version = "-4" if family == "ipv4" else "-6"
        target = str(getattr(self.vms[to].spec, family))
        process = self.lab.data_centre.in_vm(
            vm, ["ip", version, "route", "get", target], stdout=PIPE, text=True
        )
        return str(process.communicate()[0])

    def too_big(self, **details: object) -> list[TraceEvent]:
        """The events of packets that were too big, with these details."""
        return [
            event
            for event in told(self.lab)
            if event.name == "packet-too-big" and details.items() <= dict(event.details).items()
        ]


@contextmanager
def running(underlay: str, **changes: object) -> Iterator[Narrow]:
    usual: dict[str, object] = {
        "moves": [{"at_s": 0.5, "vm": "vm1", "to": "nve2", "pause_ms": 50}],
        "tenants": [{"vni": 5000, "vms": WHERE, "mtu": VM_MTU}],
        "topology__underlay": underlay,
        "topology__links": {"nve2": {"mtu": NARROW_LINK_MTU}},
    }
    with Lab(scenario(**{"traffic": [], "duration_s": 1, **usual, **changes})) as lab:
        yield Narrow(lab, underlay)


@pytest.fixture(scope="module", params=["ipv4", "ipv6"])
def narrow(request: pytest.FixtureRequest) -> Iterator[Narrow]:
    with running(request.param) as started:
        yield started


@pytest.fixture(autouse=True)
def nobody_knows_a_path(request: pytest.FixtureRequest) -> None:
    if "narrow" in request.fixturenames:
        found: Narrow = request.getfixturevalue("narrow")
        for vm in found.vms:
            found.forget(vm)


def told_mtu(said: str) -> int | None:
    """The MTU that ping was told by the network, not by its own kernel."""
    found = re.search(r"From (?!.*local).*(?:mtu ?= ?)(\d+)", said)
    return int(found[1]) if found else None


@pytest.mark.shows("R5.3", "R3.1", "R3.2")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("to", ["vm4", "vm3"])
def test_what_just_fits_arrives_and_an_octet_more_is_answered(
    narrow: Narrow, family: str, to: str
) -> None:
    """A tunnel carries 50 octets less than the link below it over IPv4, 70 over IPv6."""
    mtu = narrow.wide_mtu if to == "vm4" else narrow.narrow_mtu

    assert " 0% packet loss" in narrow.ping("vm2", to, family, mtu)
    said = narrow.ping("vm2", to, family, mtu + 1)

    assert "100% packet loss" in said
    assert told_mtu(said) == mtu
    assert f"mtu {mtu}" in narrow.route("vm2", to, family)
    (event,) = narrow.too_big(to=to, octets=14 + mtu + 1, mtu=mtu, nve="nve1")[-1:]
    assert event.details["answered"] is True


@pytest.mark.shows("R5.3")
def test_without_the_check_an_octet_more_is_lost_in_silence(narrow: Narrow) -> None:
    """The overhead is the real one: the switch sends the packet, and the link does not carry it."""
    bridge = ovs(narrow.lab.data_centre.nves["nve1"])
    vtep = narrow.lab.data_centre.nves["nve2"].vtep
    field = "tun_dst" if vtep.version == 4 else "tun_ipv6_dst"
    unchecked = f"set_field:5000->tun_id,set_field:{vtep}->{field},output:1"
    table, vm3 = int(PipelineTable.FORWARD), narrow.vms["vm3"].spec.mac
    frames = f"table={table},priority=99,dl_dst={vm3}"
    bridge.ofctl("add-flow", "br-int", f"{frames},actions={unchecked}")
    try:
        assert " 0% packet loss" in narrow.ping("vm2", "vm3", "ipv4", narrow.narrow_mtu)
        said = narrow.ping("vm2", "vm3", "ipv4", narrow.narrow_mtu + 1)
    finally:
        bridge.ofctl("--strict", "del-flows", "br-int", frames)

    assert "100% packet loss" in said
    assert told_mtu(said) is None


@pytest.mark.shows("R5.3", "R4.1.1", "R4.1.7")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_tcp_lives_on_through_a_move_behind_a_narrower_link(
    narrow: Narrow, family: str, direction: str
) -> None:
    """To the VM that moves, and from it: every byte arrives, and the sender knows the new path."""
    vms = narrow.vms
    ends = (vms["vm4"], vms["vm1"]) if direction == "to" else (vms["vm1"], vms["vm4"])
    before = len(narrow.too_big(mtu=narrow.narrow_mtu))
    with Stream(*ends, family) as stream:
        stream.await_more()
        assert path_mtu(stream.sending) == narrow.wide_mtu
        narrow.move("vm1", "nve2")
        stream.await_more()
        assert path_mtu(stream.sending) == narrow.narrow_mtu
        assert f"mtu {narrow.narrow_mtu}" in narrow.route(
            ends[0].spec.name, ends[1].spec.name, family
        )
        narrow.move("vm1", "nve1")
        stream.await_more()
        stream.finish()
    assert len(narrow.too_big(mtu=narrow.narrow_mtu)) > before


@pytest.mark.shows("R5.3", "R4.1.1")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_udp_sender_that_must_not_be_fragmented_learns_of_a_move(
    narrow: Narrow, family: str
) -> None:
    sending, receiving = udp(narrow, "vm4", "vm1", family)
    discover(sending, ALWAYS_DISCOVER)
    headers = HEADERS[family] + UDP_HEADER
    learn(sending, narrow.wide_mtu, VM_MTU - headers)
    assert arrives(sending, receiving, narrow.wide_mtu - headers)

    narrow.move("vm1", "nve2")
    learn(sending, narrow.narrow_mtu, narrow.wide_mtu - headers)

    assert arrives(sending, receiving, narrow.narrow_mtu - headers)
    with pytest.raises(OSError, match="Message too long"):
        sending.send(bytes(narrow.narrow_mtu - headers + 1))
    narrow.move("vm1", "nve1")


@pytest.mark.shows("R5.3")
def test_a_packet_that_may_be_fragmented_is_by_its_sender(narrow: Narrow) -> None:
    """No NVE fragments; the sender is told all the same, and its next packets are in pieces."""
    sending, receiving = udp(narrow, "vm2", "vm3", "ipv4")
    discover(sending, NEVER_DISCOVER)
    big = narrow.narrow_mtu  # without headers

    sending.send(bytes(big))
    wait_until(lambda: None if path_mtu(sending) == narrow.narrow_mtu else f"{path_mtu(sending)}")

    assert arrives(sending, receiving, big)


@pytest.mark.shows("R5.3", "R4.1.4")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_sender_of_a_packet_in_flight_is_told_as_well(narrow: Narrow, family: str) -> None:
    """vm4's NVE believes that vm1 is where it was: the packet fits as far as nve1, and no further;
    nve1 answers through the overlay."""
    nva = nvo3(narrow.lab).nva
    port = narrow.lab.orchestrator.hypervisors["vm1"].port
    body = {"vm": "vm1", "to": "nve2", "port": port, "in_flight": "tunnel", "idle_s": 2}
    path = f"moves/{family}"
    nva.put(path, body, until="prepared")
    nva.post(f"{path}/redirect", until="redirected")
    try:
        assert " 100% packet loss" in narrow.ping("vm4", "vm1", family, narrow.wide_mtu + 1)
        said = narrow.ping("vm4", "vm1", family, narrow.wide_mtu)
        assert told_mtu(said) == narrow.narrow_mtu
    finally:
        nva.post(f"{path}/roll-back")
    assert narrow.too_big(nve="nve1", port=1, to="vm1", mtu=narrow.narrow_mtu, answered=True)


@pytest.mark.shows("R5.3", "R4.1.3")
def test_the_packet_that_asks_for_an_entry_is_answered_as_well() -> None:
    """With `pull`, the first packet of all comes to the NVA; it is as big as any other."""
    pull = {"overlay__mapping_update": "pull", "overlay__lifetime_s": 60}
    with running("ipv4", **pull) as asking:
        said = asking.ping("vm2", "vm3", "ipv4", asking.narrow_mtu + 1)

        assert told_mtu(said) == asking.narrow_mtu
        assert "entry-pulled" in [event.name for event in told(asking.lab)]


@pytest.mark.shows("R5.3", "R4.1.7")
@pytest.mark.parametrize("underlay", ["ipv4", "ipv6"])
def test_what_crosses_a_narrow_wide_area_link_has_to_fit_through_it(underlay: str) -> None:
    """Routed, and slow: sites with links of 1600 octets, and 1400 between them."""
    sites = {
        **{"kind": "two-site", "nves_per_site": 2, "link": {"delay_ms": 1, "mtu": 1600}},
        **{"wan": {"delay_ms": 2, "mtu": NARROW_LINK_MTU}, "underlay": underlay},
    }
    tenants = [{"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve2", "vm4": "nve4"}, "mtu": VM_MTU}]
    changes = {"topology": sites, "topology__links": {}, "tenants": tenants, "moves": []}
    with running(underlay, **changes) as two_sites:
        assert " 0% packet loss" in two_sites.ping("vm1", "vm2", "ipv4", VM_MTU)
        assert " 0% packet loss" in two_sites.ping("vm1", "vm4", "ipv4", two_sites.narrow_mtu)
        assert told_mtu(two_sites.ping("vm1", "vm4", "ipv4", VM_MTU)) == two_sites.narrow_mtu


def test_big_packets_are_counted_for_each_port(narrow: Narrow) -> None:
    narrow.ping("vm2", "vm3", "ipv4", narrow.narrow_mtu + 1)
    port = narrow.lab.orchestrator.hypervisors["vm2"].port
    wanted = {"nve": "nve1", "port": port, "what": "too-big"}
    rows = nvo3(narrow.lab).nva.get("refused")

    (row,) = (row for row in rows if wanted.items() <= row.items())
    assert row["packets"] == len(narrow.too_big(nve="nve1", port=port)), json.dumps(rows)


def udp(narrow: Narrow, source: str, to: str, family: str) -> tuple[socket.socket, socket.socket]:
    sending = open_in(narrow.vms[source], family, socket.SOCK_DGRAM)
    receiving = open_in(narrow.vms[to], family, socket.SOCK_DGRAM)
    receiving.settimeout(5)
    sending.connect(receiving.getsockname()[:2])
    return sending, receiving


def learn(sending: socket.socket, mtu: int, payload: int) -> None:
    """Sends until the kernel refuses, having heard of the path's MTU."""

    def told() -> str | None:
        try:
            sending.send(bytes(payload))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
        return None if path_mtu(sending) == mtu else f"the path's MTU is {path_mtu(sending)}"

    wait_until(told)


def arrives(sending: socket.socket, receiving: socket.socket, payload: int) -> bool:
    """Whether a datagram of that length gets through; earlier ones may still be on their way."""
    mark = bytes([payload % 251]) * payload
    for _ in range(ANSWERS_UNDER_WAY):
        # An answer to what was sent before is reported at the next call, whatever that sends.
        with suppress(OSError):
            sending.send(mark)
            break
    else:
        sending.send(mark)
    while True:
        try:
            if receiving.recv(65536) == mark:
                return True
        except TimeoutError:
            return False


def test_a_lost_byte_would_be_noticed(narrow: Narrow) -> None:
    """The stream's check, checked."""
    with Stream(narrow.vms["vm2"], narrow.vms["vm4"], "ipv4") as stream:
        stream.await_more()
        stream._sent.update(b"never sent")
        with pytest.raises(AssertionError):
            stream.finish()
