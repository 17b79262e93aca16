"""Bad input from every side, for a bounded time, while a tenant's packets go their way.

Malformed ARP, neighbour discovery and reverse ARP from a VM; malformed VXLAN from the underlay;
malformed OpenFlow, half-open connections and impostors on the control network.  Nothing crashes,
no mapping changes, nothing grows, and who has done nothing wrong loses nothing.

The seed is fixed.  VMMLAB_FUZZ_S gives it more time than the usual seconds, VMMLAB_FUZZ_SEED
another seed.
"""

import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from experiments.overlays.nvo3.nva import OPENFLOW_PORT
from experiments.run.lab import Lab
from experiments.run.traffic import RunTraffic
from experiments.workloads.forging import forged
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside
from nve.wire import announcement
from tests.helpers import impostor as openflow
from tests.helpers.impostor import EVERYTHING, Impostor, features, flow_removed, message, packet_in
from tests.helpers.mutation import garbage, mutations
from tests.helpers.nvo3 import nvo3, ovs
from tests.helpers.runs import scenario
from tests.helpers.wait import wait_until
from topologies.spec import Port

FUZZ_S = float(os.environ.get("VMMLAB_FUZZ_S", "12"))
SEED = int(os.environ.get("VMMLAB_FUZZ_SEED", "1"))
SIDES = 3
RATE_PPS = 400
GROWTH_KIB = 40 * 1024
"""More than a process grows by in so short a time, unless it keeps what it is sent."""
TENANTS = [
    {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve3", "vm3": "nve2"}},
    {"vni": 6000, "vms": {"red1": "nve2"}},
]
PROBE = {"kind": "udp-probe", "from": "vm2", "to": "vm1", "family": "ipv4", "rate_pps": 100}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    wanted = scenario(traffic=[PROBE], moves=[], tenants=TENANTS, duration_s=FUZZ_S / SIDES + 1)
    with Lab(wanted) as running:
        yield running


@contextmanager
def unharmed(lab: Lab, directory: Path) -> Iterator[None]:
    """Around bad input: everything lives, nothing has changed, and not a packet is lost."""
    before = nvo3(lab).nva.get("mapping")
    memory = resident_kib(lab)
    traffic = RunTraffic(lab.data_centre, lab.scenario, directory, lab.log)
    try:
        traffic.await_reachable()
        traffic.launch()
        traffic.begin()
        yield
        probed = traffic.collect()
    finally:
        traffic.stop()
    assert nvo3(lab).nva.get("mapping") == before
    assert all(nvo3(lab).nva.get("health")["connected"].values())
    wait_until(lambda: "; ".join(nvo3(lab).differences()) or None)
    grown = {who: kib - memory[who] for who, kib in resident_kib(lab).items()}
    assert [who for who, kib in grown.items() if kib > GROWTH_KIB] == [], grown
    assert probed.problems == []
    assert len(probed.packets) > 0
    assert (probed.packets["copies"] == 0).sum() == 0


def resident_kib(lab: Lab) -> dict[str, int]:
    """Memory of the NVA and of the switches; a process that is gone has none."""
    process = nvo3(lab).nva._process
    assert process is not None
    assert process.poll() is None, nvo3(lab).nva.log()
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    switches = {name: ovs(nve).rss_kib() for name, nve in lab.data_centre.nves.items()}
    assert all(switches.values())
    return {"nva": int(line.split()[1]), **switches}


def send_for_a_while(pid: int, interface: str, frames: Iterator[bytes]) -> int:
    """Sends frames at a steady rate for this side's part of the time; returns how many."""
    sent, began_s = 0, time.monotonic()
    with inside(pid), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((interface, 0))
        for frame in frames:
            if time.monotonic() - began_s > FUZZ_S / SIDES:
                return sent
            if len(frame) >= 14:  # what is shorter, the kernel does not send
                raw.send(frame)
            sent += 1
            time.sleep(1 / RATE_PPS)
    return sent


@pytest.mark.shows("R9.2", "R9.4")
def test_malformed_frames_of_a_vm(lab: Lab, tmp_path: Path) -> None:
    """Their sender's addresses are its own as often as not: the guard lets some of them pass."""
    me, you, group = (lab.data_centre.vms[vm].spec for vm in ("vm3", "vm1", "vm2"))
    originals = [
        *(frame for form in announcement.FORMS for frame in announcement.frames(me, form)),
        *(frame for what in ("garp", "na", "rarp") for frame in forged.of_vm(what, me, you)),
        *forged.of_vm("arp-flood", me, group)[:2],
        *forged.of_vm("nd-flood", me, group)[:4],
    ]
    with unharmed(lab, tmp_path):
        sent = send_for_a_while(
            lab.data_centre.vms["vm3"].pid, NIC, mutations(SEED, originals, longest=1400)
        )
    refused = {row["what"]: row["packets"] for row in nvo3(lab).refused() if row["vm"] == "vm3"}
    assert sent > 100
    assert {"spoofed", "malformed"} <= refused.keys()


@pytest.mark.shows("R9.1", "R9.3")
def test_malformed_packets_of_the_underlay(lab: Lab, tmp_path: Path) -> None:
    """VXLAN to nve1, whose outer and inner headers are changed, from the wire beside it."""
    fabric = lab.data_centre.fabric
    victim = lab.data_centre.vms["vm1"].spec
    uplink = fabric.uplink("nve1")
    vteps = frozenset(fabric.vteps.values())
    wire = forged.Wire(fabric.vteps["nve1"], fabric.macs[uplink], vteps, frozenset({victim.vni}))
    originals = [
        frame
        for what in ("unknown-vtep", "wrong-vni")
        for frame in forged.of_stranger(what, wire, victim)
    ]
    before = refused_of_the_underlay(lab)
    core = lab.data_centre.in_node(uplink.peer, ["sleep", "600"])
    try:
        with unharmed(lab, tmp_path):
            interface = Port(uplink.peer, uplink.node).interface
            sent = send_for_a_while(core.pid, interface, mutations(SEED, originals))
    finally:
        core.kill()
        core.wait()
    assert sent > 100
    wait_until(lambda: _not_refused(lab, before))


def refused_of_the_underlay(lab: Lab) -> Counter[str]:
    """What nve1 has dropped of what came to it by tunnel: how many packets of each kind."""
    found: Counter[str] = Counter()
    for row in nvo3(lab).refused():
        if (row["nve"], row["vm"]) == ("nve1", None):
            found[row["what"]] += row["packets"]
    return found


def _not_refused(lab: Lab, before: Counter[str]) -> str | None:
    """Packets that had kept enough of their form to be VXLAN have come in, and been dropped."""
    more = refused_of_the_underlay(lab) - before
    missing = {"unknown-vtep", "unknown-vni"} - more.keys()
    return f"no {', '.join(sorted(missing))} among {dict(more)}" if missing else None


def talks(lab: Lab) -> Iterator[Callable[[Impostor], None]]:
    """Endlessly: what somebody might say to the NVA, each on a connection of its own."""
    changed, noise = mutations(SEED, EVERYTHING, longest=4000), garbage(SEED, 4000)
    hello, dpids = EVERYTHING[0], [nve.number for nve in lab.data_centre.nves.values()]
    while True:
        yield partial(_say, next(noise))
        yield partial(_say, *itertools.islice(changed, 20))
        yield partial(_say, hello, *itertools.islice(changed, 20))
        for version in (0, 1, 5, 6, 0xFF):
            yield partial(_say, message(openflow.HELLO, version=version), *EVERYTHING[1:])
        yield partial(_say, hello[:5])
        yield partial(_say, b"\x04\x00\xff\xff" + bytes(60_000))  # that is more than it has
        yield partial(_say, b"\x04\x0a\x00\x00" + bytes(2000))  # and this has no length
        yield partial(_say, message(openflow.HELLO, bytes(8)))  # a part without a length
        yield partial(_say_as, 0xBAD, *itertools.islice(changed, 20))
        for dpid in dpids:
            yield partial(_say_as, dpid, *EVERYTHING, *itertools.islice(changed, 20))


def _say(*said: Any) -> None:
    """The messages, then to whom, as `partial` leaves it."""
    *messages, peer = said
    for each in messages:
        if not peer.send(each):
            return


def _say_as(dpid: int, *said: Any) -> None:
    said[-1].introduce(dpid)
    _say(*said)


@pytest.mark.shows("R9.3")
def test_malformed_openflow(lab: Lab, tmp_path: Path) -> None:
    """From the servers of nve2 and nve3, for nobody else is let in; nve1's only stay half open."""
    nva, nves = (lab.data_centre.control_node.address, OPENFLOW_PORT), lab.data_centre.nves
    with unharmed(lab, tmp_path), ExitStack() as half_open:
        with inside(nves["nve1"].pid):
            for _ in range(20):
                half_open.enter_context(openflow.impostor(nva))  # and not a word
        began_s, talked = time.monotonic(), 0
        for talk, server in zip(talks(lab), itertools.cycle(("nve2", "nve3")), strict=False):
            if time.monotonic() - began_s > FUZZ_S / SIDES:
                break
            with inside(nves[server].pid), openflow.impostor(nva, timeout_s=2) as peer:
                if peer.is_let_in():
                    talk(peer)
                    talked += 1
    assert talked > 10
    assert refused_on_control(lab, "malformed-openflow").keys() >= {"nve2", "nve3"}
    assert refused_on_control(lab, "connection").keys() >= {"nve1", "nve2", "nve3"}


@pytest.mark.shows("R9.3")
def test_who_is_not_at_an_nves_address_is_not_let_in(lab: Lab) -> None:
    nva = (lab.data_centre.control_node.address, OPENFLOW_PORT)
    before = refused_on_control(lab, "connection").get("?", 0)
    with inside(lab.data_centre.control_node.pid), openflow.impostor(nva) as stranger:
        assert not stranger.is_let_in()
    with inside(lab.data_centre.nves["nve3"].pid), openflow.impostor(nva) as peer:
        assert peer.is_let_in()
    assert refused_on_control(lab, "connection")["?"] == before + 1


def refused_on_control(lab: Lab, what: str) -> dict[str, int]:
    rows = nvo3(lab).refused()
    return {row["nve"]: row["packets"] for row in rows if row["what"] == what}


@pytest.mark.shows("R9.2", "R9.3")
@pytest.mark.parametrize(("claims", "comes_from"), [("nve1", "nve3"), ("nve1", "nve1")])
def test_an_impostor_does_not_become_the_nve(lab: Lab, claims: str, comes_from: str) -> None:
    """Neither from somewhere else nor from where the NVE is: that one is connected, and answers."""
    nva = (lab.data_centre.control_node.address, OPENFLOW_PORT)
    before = refused_on_control(lab, "connection").get(claims, 0)
    mapping, dpid = nvo3(lab).nva.get("mapping"), lab.data_centre.nves[claims].number
    told = len(nvo3(lab).nva.get("events"))
    with inside(lab.data_centre.nves[comes_from].pid), openflow.impostor(nva) as thief:
        assert thief.introduce(dpid)
        thief.send(packet_in(announcement.gratuitous_arp(lab.data_centre.vms["vm1"].spec), 10))
        thief.send(flow_removed(1))
        assert thief.is_sent_away()

    assert refused_on_control(lab, "connection")[claims] == before + 1
    assert nvo3(lab).nva.get("mapping") == mapping
    assert nvo3(lab).nva.get("health")["connected"][claims]
    news = {event["event"] for event in nvo3(lab).nva.get("events")[told:]}
    assert news <= {"refused-connection"}
    assert nvo3(lab).differences() == []


def test_somebody_who_is_no_nve_is_sent_away(lab: Lab) -> None:
    """And the helper can tell: the NVA does let a switch introduce itself."""
    nva = (lab.data_centre.control_node.address, OPENFLOW_PORT)
    with inside(lab.data_centre.nves["nve3"].pid):
        with openflow.impostor(nva) as peer:
            assert peer.introduce(0xBAD)
            assert peer.is_sent_away()
        with openflow.impostor(nva, timeout_s=0.3) as peer:
            assert not peer.is_sent_away()
    assert len(features(1)) == 24
