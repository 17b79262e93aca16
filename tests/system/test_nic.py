"""A VM's NIC: plugged, re-plugged and paused, with real packets through two real NVEs."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from subprocess import PIPE

import pytest

from experiments.run.lab import Lab
from nve.edge import Edge
from nve.hypervisor.freezer import freeze, thaw
from nve.hypervisor.hypervisor import Hypervisor
from nve.hypervisor.plug import NIC, Plug
from nve.linux.namespace import inside, run_in
from nve.linux.wait import waiting_in
from nve.model import Mac
from nve.wire import frames
from tests.helpers.lab import data_centre, round_trips_ms, vm_spec
from tests.helpers.nvo3 import nvo3, ovs
from tests.helpers.runs import scenario
from tests.helpers.wait import wait_until
from topologies.configuration import KEEPER
from topologies.emulation.data_centre import DataCentre, Vm

PORT = 10
DISCARD = 9


@pytest.fixture(scope="module", params=["ipv4", "ipv6"])
def running(request: pytest.FixtureRequest) -> Iterator[DataCentre]:
    """vm1 at nve1 and vm2 at nve2, in a star of three NVEs, over either underlay."""
    vms = (vm_spec(1, "nve1"), vm_spec(2, "nve2"))
    with data_centre(vms=vms, underlay=request.param) as started:
        yield started


@pytest.fixture
def plugs(running: DataCentre) -> Iterator[dict[tuple[str, str], Plug]]:
    """vm1 plugged into nve1 and nve3, vm2 into nve2; all frames go to nve2 or come from there."""
    made = {(vm, nve): plug(running, vm, nve) for vm, nve in (
        *(("vm1", "nve1"), ("vm1", "nve3"), ("vm2", "nve2")),
    )}  # fmt: skip
    for nve in ("nve1", "nve3"):
        tunnel(running, nve, to="nve2")
    tunnel(running, "nve2", to="nve1")
    made["vm2", "nve2"].set_forwarding(True)
    for vm in running.vms.values():  # unanswered requests of the test before
        run_in(vm.pid, ["ip", "neigh", "flush", "dev", NIC])
    yield made
    for (_, nve), cable in made.items():
        ovs(running.nves[nve]).vsctl("del-port", "br-int", cable.nve_interface)
        cable.remove()


def plug(running: DataCentre, vm: str, nve: str) -> Plug:
    offloads = running.nves[nve].edge.offloads
    made = Plug.create(vm, nve, running.vms[vm].pid, running.nves[nve].pid, offloads=offloads)
    ovs(running.nves[nve]).add_port(made.nve_interface, PORT)
    return made


def tunnel(running: DataCentre, nve: str, to: str) -> None:
    """What the NVA's rules will do, by hand: the VM's port and a tunnel joined in VNI 5000."""
    vtep = running.nves[to].vtep
    field = "tun_dst" if vtep.version == 4 else "tun_ipv6_dst"
    encapsulate = f"set_field:5000->tun_id,set_field:{vtep}->{field},output:1"
    bridge = ovs(running.nves[nve])
    bridge.ofctl("add-flow", "br-int", f"in_port={PORT},actions={encapsulate}")
    bridge.ofctl("add-flow", "br-int", f"in_port=1,tun_id=5000,actions=output:{PORT}")


def udp_in(running: DataCentre, vm: str) -> socket.socket:
    with inside(running.vms[vm].pid):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def pings(running: DataCentre, family: str = "ipv4", count: int = 3) -> int:
    """How many pings from vm1 to vm2 come back."""
    target = getattr(running.vms["vm2"].spec, family)
    return len(round_trips_ms(running, running.vms["vm1"], str(target), count))


def test_the_nic_is_as_the_vm_is_specified(running: DataCentre) -> None:
    shown = run_in(running.vms["vm1"].pid, ["ip", "addr", "show", NIC])

    assert "link/ether 02:00:00:00:00:01" in shown
    assert f"mtu {running.tenant_mtu}" in shown
    assert "inet 10.0.0.1/16" in shown
    assert "inet6 fd50::1/64 scope global nodad" in shown
    assert "inet6 fe80::ff:fe00:1/64 scope link" in shown
    assert "tentative" not in shown


def test_a_new_plug_does_not_forward(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    assert not plugs["vm1", "nve1"].forwarding
    assert pings(running, count=1) == 0


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_frames_cross_from_nve_to_nve(
    running: DataCentre, plugs: dict[tuple[str, str], Plug], family: str
) -> None:
    plugs["vm1", "nve1"].set_forwarding(True)

    assert pings(running, family) == 3


def test_a_frame_of_the_tenants_mtu_crosses_whole(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    plugs["vm1", "nve1"].set_forwarding(True)
    payload = running.tenant_mtu - 28
    ping = ["ping", "-M", "do", "-c1", f"-s{payload}", str(running.vms["vm2"].spec.ipv4)]

    assert running.in_vm("vm1", ping, stdout=PIPE).wait() == 0


def test_what_had_come_from_the_underlay_is_dealt_with_once_a_switch_says_so(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    """More than it takes in at once, while it stands still."""
    switch = ovs(running.nves["nve2"])
    if switch.datapath == "system":
        pytest.skip("the kernel's datapath deals with a packet when that comes")
    plugs["vm1", "nve1"].set_forwarding(True)
    assert pings(running) == 3
    sender, receiver = (udp_in(running, vm) for vm in ("vm1", "vm2"))
    receiver.bind(("", DISCARD))
    waiting = threading.Thread(target=switch.await_underlay, args=(5,))
    os.kill(switch.switch_pid, signal.SIGSTOP)
    try:
        for _ in range(100):
            sender.sendto(b"here", (str(running.vms["vm2"].spec.ipv4), DISCARD))
        time.sleep(0.1)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    finally:
        os.kill(switch.switch_pid, signal.SIGCONT)
    waiting.join(5)
    assert len(list(waiting_in(receiver))) == 100
    sender.close()
    receiver.close()


def test_counting_leaves_the_flows_of_a_kernel_datapath_alone(
    running: DataCentre, plugs: dict[tuple[str, str], Plug], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet that finds no flow there takes the longer way, and the next may overtake it."""
    plugs["vm1", "nve1"].set_forwarding(True)
    assert pings(running) == 3

    bridge = ovs(running.nves["nve1"])
    monkeypatch.setattr(bridge, "datapath", "system")
    bridge.have_counted()

    assert "actions" in bridge.appctl("dpctl/dump-flows")
    rule = bridge.ofctl("dump-flows", "br-int", f"in_port={PORT}")
    counted = re.search(r"n_packets=(\d+)", rule)
    assert counted
    assert int(counted[1]) >= 3


@pytest.mark.shows("R4.1.1")
def test_a_vm_does_not_notice_a_replug(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    old, new = plugs["vm1", "nve1"], plugs["vm1", "nve3"]
    old.set_forwarding(True)
    assert pings(running) == 3
    before = run_in(running.vms["vm1"].pid, ["ip", "-o", "link", "show", NIC])

    old.set_forwarding(False)
    tunnel(running, "nve2", to="nve3")
    new.set_forwarding(True)

    assert pings(running) == 3
    assert run_in(running.vms["vm1"].pid, ["ip", "-o", "link", "show", NIC]) == before
    assert "n_packets=0" not in ovs(running.nves["nve3"]).ofctl(
        "dump-flows", "br-int", f"in_port={PORT}"
    )


def test_a_vm_without_a_forwarding_plug_neither_sends_nor_receives(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    cable = plugs["vm1", "nve1"]
    cable.set_forwarding(True)
    assert pings(running) == 3
    cable.set_forwarding(False)
    counters = ["cat", f"/proc/net/dev_snmp6/{NIC}"]
    received = run_in(running.vms["vm1"].pid, counters).split()[3]

    assert pings(running, count=1) == 0
    target = running.vms["vm1"].spec.ipv4
    assert round_trips_ms(running, running.vms["vm2"], str(target), count=1) == []
    assert run_in(running.vms["vm1"].pid, counters).split()[3] == received

    cable.set_forwarding(True)
    assert pings(running, count=1) == 1


BOUNCES = {
    # which end of a cable, or what it is plugged into: how its carrier goes and comes back
    "VM's end": lambda running, nve: bounce(running.vms["vm1"].pid, f"p-{nve}"),
    "NVE's end": lambda running, nve: bounce(running.nves[nve].pid, "p-vm1"),
    "both ends, by Mininet": lambda running, nve: bounce_in_mininet(running, "vm1", nve),
    "NIC": lambda running, _nve: bounce_nic(running.vms["vm1"]),
}


def bounce(pid: int, interface: str) -> None:
    for state in ("down", "up"):
        run_in(pid, ["ip", "link", "set", interface, state])


def bounce_nic(vm: Vm) -> None:
    bounce(vm.pid, NIC)  # the kernel forgets what IPv6 address it had
    run_in(vm.pid, ["ip", "addr", "replace", f"{vm.spec.ipv6}/64", "dev", NIC, "nodad"])


def bounce_in_mininet(running: DataCentre, vm: str, nve: str) -> None:
    running.refresh_mininet_links()
    for state in ("down", "up"):
        running.net.configLinkStatus(vm, nve, state)


def without_carrier_at(pid: int) -> str | None:
    shown = run_in(pid, ["ip", "-brief", "link", "show", "master", NIC])
    return shown if "DOWN" in shown else None


def forwarding_at(pid: int) -> set[str]:
    """The plugs that the kernel forwards by."""
    ports = json.loads(run_in(pid, ["bridge", "-j", "link", "show"]))
    return {port["ifname"] for port in ports if port["state"] == "forwarding"} - {KEEPER[0]}


@pytest.mark.parametrize("end", BOUNCES)
def test_no_plug_begins_to_forward_because_of_its_carrier(
    running: DataCentre, plugs: dict[tuple[str, str], Plug], end: str
) -> None:
    """`link vm1 nve3 down` and `up` in `vmmlab shell`; the kernel opens a bridge port by itself
    when its carrier is there."""
    vm = running.vms["vm1"]
    target = str(vm.spec.ipv4)
    plugs["vm1", "nve1"].set_forwarding(True)
    plugs["vm1", "nve1"].follow_carrier(True)
    assert pings(running) == 3
    plugs["vm1", "nve1"].set_forwarding(False)

    for nve in ("nve1", "nve3"):
        BOUNCES[end](running, nve)
    wait_until(lambda: without_carrier_at(vm.pid))

    assert forwarding_at(vm.pid) == set()
    assert round_trips_ms(running, running.vms["vm2"], target, count=1) == []

    plugs["vm1", "nve1"].set_forwarding(True)
    plugs["vm1", "nve1"].follow_carrier(True)
    wait_until(lambda: None if pings(running, count=1) else "no ping comes back")
    BOUNCES[end](running, "nve1")
    wait_until(lambda: None if pings(running, count=1) else "the plug has not come back")
    assert forwarding_at(vm.pid) == {"p-nve1"}


def test_the_nves_own_kernel_stays_out_of_the_tenants_network(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    """It would answer ARP for its own addresses, and tell tenants its multicast groups."""
    plugs["vm1", "nve1"].set_forwarding(True)
    vm = running.vms["vm1"]
    vtep = running.nves["nve1"].vtep
    run_in(vm.pid, ["ip", "route", "replace", str(vtep), "dev", NIC])

    assert round_trips_ms(running, vm, str(vtep), count=1) == []
    assert Mac("lladdr") not in run_in(vm.pid, ["ip", "neigh", "show", str(vtep)])


def test_freezing_stops_what_runs_in_the_vm_and_nothing_else(running: DataCentre) -> None:
    count = "import time\nwhile True:\n print(time.time_ns(), flush=True); time.sleep(0.001)"
    process = running.in_vm("vm1", ["python3", "-c", count], stdout=PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    cgroup = running.vms["vm1"].cgroup

    freeze(cgroup)
    frozen_ns = time.time_ns()
    assert running.in_vm("vm2", ["true"]).wait() == 0
    wait_until(lambda: None if time.time_ns() > frozen_ns + 50_000_000 else "still early")
    thawed_ns = time.time_ns()
    thaw(cgroup)

    stamps: list[int] = []
    while not stamps or stamps[-1] < thawed_ns:
        stamps.append(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    assert not [stamp for stamp in stamps if frozen_ns < stamp < thawed_ns]


def test_a_process_started_in_a_frozen_vm_waits(running: DataCentre) -> None:
    cgroup = running.vms["vm1"].cgroup
    freeze(cgroup)
    process = running.in_vm("vm1", ["true"])

    def not_inside() -> str | None:
        inside_now = (cgroup / "cgroup.procs").read_text().split()
        return None if str(process.pid) in inside_now else f"only {inside_now}"

    wait_until(not_inside)
    assert process.poll() is None
    thaw(cgroup)
    assert process.wait(5) == 0


def test_a_command_in_mininets_shell_is_in_the_vm(running: DataCentre) -> None:
    shell = running.vms["vm1"].node

    assert shell.cmd("hostname -I").split()[0] == "10.0.0.1"
    assert str(shell.pid) in (running.vms["vm1"].cgroup / "cgroup.procs").read_text().split()


@pytest.mark.shows("T1")
def test_mininet_knows_what_is_plugged(
    running: DataCentre, plugs: dict[tuple[str, str], Plug]
) -> None:
    running.refresh_mininet_links()
    running.refresh_mininet_links()

    links = [str(link) for link in running.net.links]
    assert links.count("p-nve1<->p-vm1") == 1
    assert links.count("p-nve3<->p-vm1") == 1
    assert "to-core<->to-nve1" in links
    assert running.net["vm1"].defaultIntf().name == NIC


def test_mininets_shell_at_an_nve_talks_to_its_own_switch(running: DataCentre) -> None:
    names = [
        running.net[nve].cmd("ovs-vsctl get bridge br-int datapath_id") for nve in running.nves
    ]

    assert [int(name.strip().strip('"'), 16) for name in names] == [
        nve.number for nve in running.nves.values()
    ]


def test_a_namespace_is_left_again_also_after_an_error(running: DataCentre) -> None:
    here = socket.if_nameindex()

    def fail_inside() -> None:
        with inside(running.vms["vm1"].pid):
            assert NIC in [name for _, name in socket.if_nameindex()]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert socket.if_nameindex() == here


def test_a_vm_that_speaks_as_soon_as_it_is_plugged_in_is_no_stranger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its NVE knows its port before the NIC is plugged in, however slow the control network is:
    what a guest's kernel says by itself at once (MLD reports) is not refused."""
    associate = Hypervisor.associate

    def associate_and_speak(hypervisor: Hypervisor, nve: Edge) -> None:
        associate(hypervisor, nve)
        me = hypervisor.vm
        packet = frames.ip(
            me.ipv6, frames.ALL_NODES, frames.UDP, frames.udp(DISCARD, DISCARD, b"here I am")
        )
        frame = frames.ethernet(me.mac, frames.group_mac(frames.ALL_NODES), frames.IPV6, packet)
        with (
            inside(lab.data_centre.vms[me.name].pid),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw,
        ):
            raw.bind((NIC, 0))
            raw.send(frame)

    monkeypatch.setattr(Hypervisor, "associate", associate_and_speak)
    lab = Lab(scenario(traffic=[], moves=[], duration_s=1, control__delay_ms=100))
    with lab:
        assert nvo3(lab).refused() == []
