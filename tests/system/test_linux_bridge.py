"""An NVE as a Linux bridge with VXLAN devices: three of them on one wire, real frames, the kernel's
own FDB as judge."""

import itertools
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from benchmarks.namespaces import Namespace
from nve.edge import EdgePlace, UnderlayPort
from nve.linux.namespace import inside, ip
from nve.linux_bridge.bridge import LinuxBridge, vxlan_device
from nve.linux_bridge.fdb import FdbChange, Learned, Way
from nve.linux_bridge.watch import FdbWatch
from nve.model import Mac, TenantSystem, Vtep, vni
from nve.wire.frames import EXPERIMENTAL
from tests.helpers.lab import vm_spec
from tests.helpers.wait import wait_until

BLUE, RED = vni(5000), vni(6000)
EVERYBODY = "ff:ff:ff:ff:ff:ff"
VM, OTHER = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:02")
UPLINK = "up0"
NVES = ("nve1", "nve2", "nve3")
VTEPS = {4: "10.9.0.{}", 6: "fd09::{}"}


class Station:
    """A VM without a kernel: one end of a cable whose other end is its port at an NVE."""

    def __init__(self, edge: LinuxBridge, network: int) -> None:
        self.vm = replace(vm_spec(1, edge.name), name=f"{edge.name}{network}", vni=vni(network))
        self.port = f"p-{network}"
        ip(
            edge.pid,
            [
                f"link add {self.port} type veth peer name e-{network}",
                f"link set e-{network} addrgenmode none up",
                f"link set {self.port} addrgenmode none up",
            ],
        )
        edge.plug_in(self.port, self.vm, 10)
        with inside(edge.pid):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((f"e-{network}", EXPERIMENTAL))

    def send(self, source: str, destination: str, text: str) -> None:
        header = bytes.fromhex((destination + source).replace(":", ""))
        # Nothing in the kernel answers such a frame.
        self._socket.send(header + EXPERIMENTAL.to_bytes(2, "big") + text.encode().ljust(46))

    def hears(self, quiet_s: float = 0.1) -> list[str]:
        """What has come, up to when nothing has for a while."""
        heard = []
        self._socket.settimeout(quiet_s)
        while True:
            try:
                heard.append(self._socket.recv(2048)[14:].decode().strip())
            except TimeoutError:
                return heard

    def close(self) -> None:
        self._socket.close()


class Edges:
    """nve1, nve2, nve3 on one wire; a station of each network at each: `at["nve1", BLUE]`."""

    def __init__(self, family: int, ageing_s: int = 300) -> None:
        self.wire = Namespace()
        self.places = {name: Namespace() for name in NVES}
        self.vteps: dict[str, Vtep] = {
            name: ip_address(VTEPS[family].format(number)) for number, name in enumerate(NVES, 1)
        }
        self.edges: dict[str, LinuxBridge] = {}
        self.at: dict[tuple[str, int], Station] = {}
        ip(self.wire.pid, ["link add br0 type bridge forward_delay 0", "link set br0 up"])
        for name in NVES:
            self._wire(name)
            self.edges[name] = LinuxBridge(self._place(name), ageing_s)
            for network in (BLUE, RED):
                self.edges[name].serve(network)
                self.at[name, network] = Station(self.edges[name], network)
        self._numbers = itertools.count()
        for here, there in itertools.permutations(NVES, 2):
            self.await_heard(here, there)
        for station in self.at.values():
            station.hears()

    def _wire(self, name: str) -> None:
        pid = self.places[name].pid
        ip(
            self.wire.pid,
            [
                f"link add {name} type veth peer name {UPLINK} netns {pid}",
                f"link set {name} master br0 up",
            ],
        )
        vtep = self.vteps[name]
        length = "/24" if vtep.version == 4 else "/64 nodad"
        ip(pid, [f"addr add {vtep}{length} dev {UPLINK}", f"link set {UPLINK} mtu 1500 up"])

    def _place(self, name: str) -> EdgePlace:
        peers = {each: vtep for each, vtep in self.vteps.items() if each != name}
        uplink = UnderlayPort(UPLINK, Mac("06:00:00:00:00:01"))
        return EdgePlace(
            name, 1, self.places[name].pid, Path(), uplink, self.vteps[name], peers, {}
        )

    def await_heard(self, here: str, there: str) -> None:
        """Returns when what is sent to everybody here arrives there."""
        wait_until(lambda: self._unheard(here, there))

    def _unheard(self, here: str, there: str) -> str | None:
        word = f"hello {next(self._numbers)}"
        self.at[here, BLUE].send(OTHER, EVERYBODY, word)
        heard = self.at[there, BLUE].hears(quiet_s=0.02)
        return None if word in heard else f"{there} does not hear {here}"

    def way(self, nve: str, network: int = BLUE) -> Way | None:
        """Where an NVE sends what is for VM, as the kernel says when it is asked."""
        edge, learned, system = self.edges[nve], Learned(), TenantSystem(vni(network), VM)
        for entry in edge.entries():
            if entry.mac == VM and entry.learned and self.device(nve, entry.interface) == network:
                change = FdbChange(system, entry.interface, entry.vtep)
                learned.apply(change, is_plug=edge.is_plug(entry.interface))
        return learned.way(system)

    def device(self, nve: str, interface: str) -> int | None:
        """The virtual network of an interface."""
        with inside(self.places[nve].pid):
            found = self.edges[nve].device(socket.if_nametoindex(interface))
        return found[0] if found else None

    def close(self) -> None:
        for station in self.at.values():
            station.close()
        for place in (self.wire, *self.places.values()):
            place.close()


@pytest.fixture(scope="module", params=[4, 6])
def edges(request: pytest.FixtureRequest) -> Iterator[Edges]:
    made = Edges(request.param)
    yield made
    made.close()


def test_a_group_frame_goes_everywhere_once_and_teaches_where_its_sender_is(edges: Edges) -> None:
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "here")

    assert edges.at["nve2", BLUE].hears() == ["here"]
    assert edges.at["nve3", BLUE].hears() == ["here"]
    assert edges.way("nve1") == edges.at["nve1", BLUE].port
    for nve in ("nve2", "nve3"):
        assert edges.way(nve) == edges.vteps["nve1"]


def test_what_is_learned_goes_to_one_nve_and_what_is_not_to_all(edges: Edges) -> None:
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "here")
    edges.at["nve3", BLUE].hears()
    edges.at["nve2", BLUE].hears()

    edges.at["nve2", BLUE].send(OTHER, VM, "to one")
    edges.at["nve2", BLUE].send(OTHER, "02:00:00:00:00:99", "to nobody known")

    assert edges.at["nve1", BLUE].hears() == ["to one", "to nobody known"]
    assert edges.at["nve3", BLUE].hears() == ["to nobody known"]


def test_networks_are_kept_apart(edges: Edges) -> None:
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "blue")
    edges.at["nve2", RED].send(VM, EVERYBODY, "red")

    assert edges.at["nve3", BLUE].hears() == ["blue"]
    assert edges.at["nve3", RED].hears() == ["red"]
    assert edges.way("nve3", BLUE) == edges.vteps["nve1"]
    assert edges.way("nve3", RED) == edges.vteps["nve2"]


def test_an_address_that_is_heard_elsewhere_is_elsewhere(edges: Edges) -> None:
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "first")
    edges.at["nve3", BLUE].hears()
    edges.at["nve2", BLUE].send(VM, EVERYBODY, "then")
    edges.at["nve3", BLUE].hears()

    assert edges.way("nve1") == edges.way("nve3") == edges.vteps["nve2"]
    assert edges.way("nve2") == edges.at["nve2", BLUE].port


def test_a_port_that_is_taken_away_is_forgotten(edges: Edges) -> None:
    edge, station = edges.edges["nve1"], edges.at["nve1", BLUE]
    station.send(VM, EVERYBODY, "here")
    edges.at["nve2", BLUE].hears()
    assert edges.way("nve1") == station.port

    edge.forget(station.vm.name)

    assert edges.way("nve1") in (None, edges.vteps["nve2"])  # where a test before had it


def test_a_flood_list_that_lacks_a_vtep_is_named(edges: Edges) -> None:
    edge = edges.edges["nve1"]
    assert edge.differences() == []
    missing = edges.vteps["nve3"]
    entry = ["00:00:00:00:00:00", "dev", vxlan_device(RED), "dst", str(missing)]
    edges.places["nve1"].run("bridge", "fdb", "del", *entry)
    try:
        (said,) = edge.differences()
    finally:
        edges.places["nve1"].run("bridge", "fdb", "append", *entry)

    assert said.startswith("nve1 floods VNI 6000 to ")
    assert edge.differences() == []


def test_a_dead_server_forwards_nothing_and_has_learned_nothing_when_it_is_back(
    edges: Edges,
) -> None:
    edge = edges.edges["nve2"]
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "here")
    edges.at["nve2", BLUE].hears()
    edges.at["nve3", BLUE].hears()
    edge.die()
    edges.at["nve1", BLUE].send(VM, EVERYBODY, "to the dead")
    assert edges.at["nve2", BLUE].hears() == []
    assert edges.at["nve3", BLUE].hears() == ["to the dead"]

    edge.revive()

    assert edges.way("nve2") is None
    assert edge.differences() == []
    edges.await_heard("nve1", "nve2")


def test_the_watch_tells_what_the_kernel_holds(edges: Edges) -> None:
    """There and back, and away: after each, it leads where the FDBs say."""
    heard = {name: Learned() for name in NVES}
    system = TenantSystem(BLUE, VM)

    def tell(_t_ns: int, edge: LinuxBridge, change: FdbChange) -> None:
        heard[edge.name].apply(change, is_plug=edge.is_plug(change.interface))

    def unlike() -> str | None:
        ways = {name: learned.way(system) for name, learned in heard.items()}
        held = {name: edges.way(name) for name in NVES}
        return None if ways == held else f"heard {ways}, held {held}"

    for edge in edges.edges.values():  # so that it hears of all that is learned
        edge.die()
        edge.revive()
    watch = FdbWatch(edges.edges.values(), tell)
    watch.start()
    try:
        for here in ("nve1", "nve2", "nve1"):
            edges.at[here, BLUE].send(VM, EVERYBODY, "here")
            edges.at["nve3", BLUE].hears()
            assert edges.way("nve3") == edges.vteps[here]
            wait_until(unlike)
        edges.edges["nve1"].forget(edges.at["nve1", BLUE].vm.name)
        assert edges.way("nve1") == edges.vteps["nve2"]  # that its VXLAN device has learned
        wait_until(unlike)
    finally:
        watch.stop()
