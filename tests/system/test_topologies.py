"""Every topology comes up, joins its NVEs with at least the delay it says, and leaves nothing."""

import os
import sys
import time
from itertools import permutations
from pathlib import Path

import pytest

from experiments.measure import kernel_counters
from nve.linux.capabilities import netem_available
from nve.linux.namespace import run_in
from nve.linux_bridge import bridge as linux_bridge
from nve.ovs.bridge import edges
from tests.helpers.lab import (
    data_centre,
    machine_interfaces,
    round_trips_ms,
    running_processes,
    vm_spec,
)
from tests.helpers.underlay import delay_ms
from topologies import catalogue, star
from topologies.emulation.data_centre import DataCentre
from topologies.emulation.session import Session
from topologies.spec import LinkSpec


@pytest.mark.parametrize("underlay", ["ipv4", "ipv6"])
@pytest.mark.parametrize("kind", catalogue.names())
def test_smoke(kind: str, underlay: str) -> None:
    before = machine_interfaces()

    with data_centre(kind, underlay=underlay, link={"delay_ms": 2}) as running:
        assert machine_interfaces() == before
        for source, target in permutations(running.nves.values(), 2):
            configured_ms = delay_ms(running.fabric, source.name, target.name)
            measured_ms = round_trips_ms(running, source, str(target.vtep), count=20)
            # On a machine with other work, one of some thousand pings was seen to be lost.
            assert len(measured_ms) >= 19, f"{source.name} > {target.name} loses packets"
            assert min(measured_ms) >= 2 * configured_ms
        directory, cgroup = running.session.directory, running.session.cgroup
        pids = [nve.pid for nve in running.nves.values()]

    assert not directory.exists()
    assert not cgroup.exists()
    assert running_processes(pids) == set()
    assert machine_interfaces() == before


@pytest.mark.parametrize("kind", catalogue.names())
def test_a_packet_between_nves_keeps_within_the_mtu(kind: str) -> None:
    with data_centre(kind, vms=(vm_spec(1, "nve1"),)) as running:
        first, *_, last = running.nves.values()
        ping = running.in_node(
            first.name, ["ping", "-M", "do", "-c1", "-s1472", str(last.vtep)], stdout=-1
        )
        printed, _ = ping.communicate()
        assert b" 0% packet loss" in printed
        assert running.tenant_mtu == 1450


def emulators() -> list[str]:
    return ["delay-line", *(["netem"] if netem_available() else [])]


@pytest.mark.parametrize("emulator", emulators())
@pytest.mark.parametrize("delay", [0, 1])
def test_a_link_loses_what_it_says_in_both_directions(emulator: str, delay: float) -> None:
    link = {"delay_ms": delay, "loss_pct": 20}
    with data_centre(nves=2, link=link, emulator=emulator) as running:
        first, second = running.nves.values()
        measured_ms = round_trips_ms(running, first, str(second.vtep), count=400)

    # Two links there and two back: 0.8 ** 4 of 400 pings return, give or take.
    assert 120 < len(measured_ms) < 208


@pytest.mark.alone
@pytest.mark.parametrize("emulator", emulators())
@pytest.mark.parametrize("delay", [0, 1])
def test_a_link_is_as_narrow_as_it_says(emulator: str, delay: float) -> None:
    link = {"delay_ms": delay, "rate_mbit": 4}
    with data_centre(nves=2, link=link, emulator=emulator) as running:
        first, second = running.nves.values()
        flood = ["ping", "-n", "-q", "-f", "-c400", "-l20", "-s1000", str(second.vtep)]
        printed, _ = running.in_node(first.name, flood, stdout=-1, text=True).communicate()
        statistics = running.link_statistics()

    # 400 packets of 1042 bytes at 4 Mbit/s take 834 ms; ping adds a little at the end.
    took_ms = int(printed.split("time ")[1].split("ms")[0])
    assert " 0% packet loss" in printed
    assert 750 < took_ms < 1400
    assert len(statistics) == 4


@pytest.mark.parametrize("emulator", emulators())
def test_jitter_varies_and_keeps_its_bounds(emulator: str) -> None:
    link = {"delay_ms": 5, "jitter_ms": 4}
    with data_centre(nves=2, link=link, emulator=emulator) as running:
        first, second = running.nves.values()
        measured_ms = round_trips_ms(running, first, str(second.vtep), count=40)

    assert min(measured_ms) >= 4.0
    assert max(measured_ms) - min(measured_ms) > 3.0


FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    print("sending", flush=True)
    while True:
        s.sendto(b"", (sys.argv[1], 9))
"""


def test_a_disturbance_drops_what_it_says_and_nothing_when_it_begins() -> None:
    with data_centre(nves=2) as running:
        first, second = running.nves.values()
        cables = [running.cabling.between(nve, "core") for nve in running.nves]
        command = [sys.executable, "-c", FLOOD, str(second.vtep)]
        with running.in_node(first.name, command, stdout=-1) as flood:
            assert flood.stdout
            flood.stdout.readline()
            for cable in cables:
                running.cabling.impair(cable, 0, 0.0)
                time.sleep(0.1)
                running.cabling.repair(cable, 0)
            flood.kill()
        not_sent = kernel_counters.not_sent(control=False)
        dropped = {
            name: not_sent(Path(f"/proc/{pid}/net/dev").read_text())
            for name, pid in running.pids.items()
        }

    assert not any(dropped.values()), dropped


def test_the_control_network_has_the_delay_of_the_nvas_link() -> None:
    with data_centre(control=LinkSpec(delay_ms=3)) as running:
        for nve in running.nves.values():
            measured_ms = round_trips_ms(running, nve, running.control_node.address, count=3)
            assert min(measured_ms) >= 6.0


def test_the_delay_line_says_what_it_did() -> None:
    with data_centre(nves=2, link={"delay_ms": 1}, emulator="delay-line") as running:
        first, second = running.nves.values()
        round_trips_ms(running, first, str(second.vtep), count=5)
        during = {row["direction"]: row for row in running.link_statistics()}
    after = {row["direction"]: row for row in running.link_statistics()}

    assert set(during) == {"nve1>core", "core>nve1", "nve2>core", "core>nve2"}
    assert during["nve1>core"]["forwarded"] >= 5
    assert after["nve1>core"]["forwarded"] >= during["nve1>core"]["forwarded"]
    assert sum(row["overflowed"] + row["kernel_dropped"] for row in after.values()) == 0


@pytest.mark.parametrize(
    "step", ["starting namespaces", "laying cables, delay-line", "configuring nodes"]
)
def test_an_interrupted_bring_up_leaves_nothing(step: str) -> None:
    def interrupt(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    fabric = star.build(star.Parameters())
    with Session.create("test") as session:
        stopped = DataCentre(fabric, (), edges("auto"), session, link_emulator="delay-line")
        with pytest.raises(KeyboardInterrupt):
            stopped.start(interrupt)
        others = processes(session.cgroup) - {os.getpid()}
        stopped.stop()

    assert others == set()
    assert not session.cgroup.exists()


def processes(cgroup: Path) -> set[int]:
    return {int(pid) for file in cgroup.glob("**/cgroup.procs") for pid in file.read_text().split()}


def test_where_the_kernel_forwards_one_processor_receives_what_comes_by_a_cable() -> None:
    fabric = star.build(star.Parameters(nves=2))
    with (
        Session.create("test") as session,
        DataCentre(fabric, (), linux_bridge.edges(300), session) as running,
    ):
        for node in fabric.nodes:
            for port in fabric.ports(node.name):
                mask = f"/sys/class/net/{port.interface}/queues/rx-0/rps_cpus"
                shown = f"mount -t sysfs none /sys && cat {mask}"
                read = run_in(running.pids[node.name], ["unshare", "--mount", "sh", "-c", shown])
                assert int(read, 16).bit_count() == 1, f"{node.name} {port.interface}: {read}"
