"""What guests make of their network: kernels and clients that are not ours, and know the RFCs.

Before a guest uses an address it asks whether somebody has it (RFC 5227, RFC 4862 section 5.4).  It
has to be told if somebody has, and by nobody if it is its own; before and after a move.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import IO

import pytest

from experiments.run.lab import Lab
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside, set_sysctls
from nve.linux.wait import readable
from nve.model import BROADCAST, IPAddress, VmSpec
from nve.wire import end_marker, frames
from nve.wire.end_marker import MarkerKind, Signal
from nve.wire.frames import ArpPacket
from tests.helpers.runs import WHERE, scenario
from tests.helpers.wait import wait_until

ETH_P_ALL = 3  # linux/if_ether.h
ARRIVES_S = 2.0
"""A frame is given so long to arrive, and one that must not."""
SECONDARY = ["192.168.9.9", "fd77::99", "fe80::9c11:b9d2:57e0:4a93"]
"""Of vm1; the last as a guest makes it up that hides its MAC address (RFC 7217)."""
SHARED = ["192.168.9.50", "fd77::50"]
"""Of vm1 and vm2, in turn."""


class Started:
    """A command that goes on."""

    def __init__(self, process: "subprocess.Popen[str]", said: IO[str]) -> None:
        self.process = process
        self._said = said

    def says(self, what: str, times: int) -> None:
        """Wait until it has said something so often."""

        def lacking() -> str | None:
            self._said.seek(0)
            found = self._said.read()
            return None if found.count(what) >= times else found or "nothing"

        wait_until(lacking, 20)


class Guests:
    """The VMs of a lab, asked what their kernels say."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._moves = 0

    def spec(self, vm: str) -> VmSpec:
        return self.lab.data_centre.vms[vm].spec

    def run(self, vm: str, *argv: str) -> tuple[int, str]:
        """The exit status of a command in a VM, and what it has said."""
        process = self.lab.data_centre.in_vm(
            vm, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @contextmanager
    def running(self, vm: str, *argv: str) -> Iterator["Started"]:
        """A command that goes on in a VM while the block does."""
        with tempfile.TemporaryFile("w+") as said:
            process = self.lab.data_centre.in_vm(
                vm, argv, stdout=said, stderr=subprocess.STDOUT, text=True
            )
            try:
                yield Started(process, said)
            finally:
                process.kill()
                process.wait()

    def probe(self, vm: str, address: object) -> tuple[int, str]:
        """Ask from 0.0.0.0 whether somebody has an address; status 0: nobody has (RFC 5227)."""
        return self.run(vm, "arping", "-D", "-c", "2", "-w", "3", "-I", NIC, str(address))

    def add(self, vm: str, address: object) -> str:
        """Give a VM an IPv6 address, with duplicate address detection; what the kernel thinks."""
        conf = {f"ipv6/conf/{NIC}/{name}": 1 for name in ("accept_dad", "dad_transmits")}
        set_sysctls(self.lab.data_centre.vms[vm].pid, conf)
        self.run(vm, "ip", "-6", "addr", "add", f"{address}/64", "dev", NIC)

        def undecided() -> str | None:
            found = self._shown(vm, address)
            return found if "tentative" in found and "dadfailed" not in found else None

        wait_until(undecided)
        found = self._shown(vm, address)
        self.run(vm, "ip", "-6", "addr", "del", f"{address}/64", "dev", NIC)
        return found

    def check_again(self, vm: str, address: object) -> str:
        """Let a VM check an IPv6 address that it has; what the kernel thinks of it."""
        self.run(vm, "ip", "-6", "addr", "del", f"{address}/64", "dev", NIC)
        found = self.add(vm, address)
        self.run(vm, "ip", "-6", "addr", "add", f"{address}/64", "dev", NIC, "nodad")
        return found

    def _shown(self, vm: str, address: object) -> str:
        _, said = self.run(vm, "ip", "-6", "-o", "addr", "show", "dev", NIC, "to", str(address))
        return said

    def send(self, vm: str, frame: bytes) -> None:
        """Say something for a VM, octet by octet."""
        with closing(self.packet_socket(vm)) as opened:
            opened.send(frame)

    def packet_socket(self, vm: str) -> socket.socket:
        with inside(self.lab.data_centre.vms[vm].pid):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            opened.bind((NIC, ETH_P_ALL))
        return opened

    def refused(self, what: str) -> int:
        """How many packets were, under that name."""
        assert self.lab.overlay.can.refused
        rows = self.lab.overlay.can.refused()
        return sum(int(row["packets"]) for row in rows if row["what"] == what)

    def move(self, vm: str, to: str) -> None:
        self._moves += 1
        self.lab.orchestrator.move(self._moves, MoveSpec(at_s=0, vm=vm, to=to, pause_ms=1)).result(
            60
        )


@pytest.fixture(scope="module")
def guests() -> Iterator[Guests]:
    vm1 = {"nve": WHERE["vm1"], "addresses": SECONDARY}
    tagged = {"vni": 6000, "vms": {"t1": "nve1", "t2": "nve2"}, "vlan_tags": True}
    shared = {address: ["vm1", "vm2"] for address in SHARED}
    tenants = [{"vni": 5000, "vms": {**WHERE, "vm1": vm1}, "shared": shared}, tagged]
    with Lab(scenario(traffic=[], moves=[], tenants=tenants, duration_s=1)) as running:
        yield Guests(running)


def answers_about(address: IPAddress, nic: socket.socket) -> list[ArpPacket]:
    """The ARP replies among what has come to a socket, of whomever they are."""
    heard = []
    while readable(nic, 0):
        frame = nic.recv(2048)
        if frames.ethertype(frame) == frames.ARP:
            heard.append(frames.read_arp(frame))
    about = [each for each in heard if address in (each.sender_ip, each.target_ip)]
    assert about, "not even the question"
    return [each for each in about if each.operation == frames.ARP_REPLY]


def test_nobody_answers_for_an_address_but_its_owner_once(guests: Guests) -> None:
    """Its own address is free to a VM wherever it is; its neighbour's is not."""
    own, other = guests.spec("vm1"), guests.spec("vm3")
    for place in ("nve1", "nve2"):
        if place != "nve1":
            guests.move("vm1", place)
        with closing(guests.packet_socket("vm1")) as nic:
            status, said = guests.probe("vm1", own.ipv4)
            # arping takes no notice of an answer in the VM's own name
            assert answers_about(own.ipv4, nic) == []
        assert (status, said.count("reply from")) == (0, 0), said
        assert "dadfailed" not in guests.check_again("vm1", SECONDARY[1])
        status, said = guests.probe("vm1", other.ipv4)
        assert status == 1, said
        assert f"[{other.mac.upper()}]" in said
        # asked by an owner, who gets one answer to each question
        _, said = guests.run("vm1", "arping", "-c", "3", "-w", "5", "-I", NIC, str(other.ipv4))
        assert said.count("reply from") == 3, said
    guests.move("vm1", "nve1")


def test_a_kernel_finds_that_an_address_is_taken(guests: Guests) -> None:
    """RFC 4862 section 5.4.4; an address that nobody has it may use."""
    assert "dadfailed" in guests.add("vm3", guests.spec("vm1").ipv6)
    assert "dadfailed" in guests.add("vm2", guests.spec("vm1").ipv6)
    free = guests.add("vm3", guests.spec("vm1").ipv6 + 0x77)
    assert "tentative" not in free
    assert "inet6" in free


@pytest.mark.shows("R9.4")
def test_a_guest_gets_its_address_by_dhcp_moves_and_renews(guests: Guests, tmp_path: Path) -> None:
    """Server and client are not ours (dnsmasq, udhcpc); RFC 2131: before it has an address, the
    client sends from 0.0.0.0 to everybody."""
    own = guests.spec("vm1")
    pool = f"--dhcp-range={guests.spec('vm3').ipv4},static,255.255.0.0,2m"
    host = f"--dhcp-host={own.mac},{own.ipv4}"
    leases = f"--dhcp-leasefile={tmp_path / 'leases'}"
    quiet = (
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--port=0",
        "-k",
    )
    with guests.running("vm3", "dnsmasq", *quiet, f"--interface={NIC}", pool, host, leases):
        client = ("busybox", "udhcpc", "-f", "-i", NIC, "-s", "/bin/true", "-t", "10", "-T", "1")
        with guests.running("vm1", *client) as started:
            started.says(f"lease of {own.ipv4} obtained", times=1)
            guests.move("vm1", "nve2")
            started.process.send_signal(signal.SIGUSR1)  # renew
            started.says(f"lease of {own.ipv4} obtained", times=2)
    guests.move("vm1", "nve1")


@pytest.mark.shows("R9.4")
@pytest.mark.parametrize("address", SECONDARY)
def test_a_secondary_address_is_reached_wherever_its_vm_is(guests: Guests, address: str) -> None:
    scoped = f"{address}%{NIC}" if address.startswith("fe80") else address
    for place in ("nve2", "nve1"):
        guests.move("vm1", place)
        for vm in ("vm2", "vm3"):
            status, said = guests.run(vm, "ping", "-n", "-c", "2", "-W", "2", scoped)
            assert status == 0, said
    status, said = guests.run("vm1", "ping", "-n", "-c", "1", "-W", "2", "-I", scoped,
                              str(guests.spec("vm4").ipv4 if "." in address
                                  else guests.spec("vm4").ipv6))  # fmt: skip
    assert status == 0, said


@pytest.mark.shows("R9.2")
def test_an_address_goes_to_who_announces_it_and_may_have_it(guests: Guests) -> None:
    """vm3's kernel asks once; from then on it believes what it hears.  arping and the octets of an
    advertisement announce."""
    for address, length, ways in ((SHARED[0], 16, ("-U", "-A")), (SHARED[1], 64, ("", ""))):

        def announce(vm: str, way: str, address: str = address) -> None:
            if way:
                guests.run(vm, "arping", way, "-c", "1", "-w", "2", "-I", NIC, address)
            else:
                own = (guests.spec(vm).mac, IPv6Address(address))
                guests.send(vm, frames.advertisement(own, frames.ALL_NODES, solicited=False))

        def known(mac: str, address: str = address) -> None:
            def otherwise() -> str | None:
                _, said = guests.run("vm3", "ip", "neigh", "show", "dev", NIC, "to", address)
                return None if mac in said else said or "nothing"

            wait_until(otherwise)

        for holder, other, way in (("vm1", "vm2", ways[0]), ("vm2", "vm1", ways[1])):
            guests.run(other, "ip", "addr", "del", f"{address}/{length}", "dev", NIC)
            guests.run(holder, "ip", "addr", "add", f"{address}/{length}", "dev", NIC, "nodad")
            announce(holder, way)
            if holder == "vm2":  # vm3 has not asked again
                known(guests.spec(holder).mac)
            status, said = guests.run("vm3", "ping", "-n", "-c", "2", "-W", "2", address)
            assert status == 0, said
            known(guests.spec(holder).mac)

        guests.run("vm4", "ip", "addr", "add", f"{address}/{length}", "dev", NIC, "nodad")
        before = guests.refused("spoofed")
        announce("vm4", ways[0])
        assert guests.refused("spoofed") > before
        guests.run("vm4", "ip", "addr", "del", f"{address}/{length}", "dev", NIC)
        guests.move("vm2", "nve3" if way else "nve1")
        status, said = guests.run("vm3", "ping", "-n", "-c", "2", "-W", "2", address)
        assert status == 0, said
        known(guests.spec("vm2").mac)
        guests.run("vm2", "ip", "addr", "del", f"{address}/{length}", "dev", NIC)


class Wire:
    """What is sent from one VM to another, octet by octet."""

    def __init__(self, guests: Guests, sender: str, receiver: str) -> None:
        self._ends = guests.spec(sender), guests.spec(receiver)
        self._out, self._in = map(guests.packet_socket, (sender, receiver))
        self._number = 0

    def close(self) -> None:
        self._out.close()
        self._in.close()

    def arrives(self, head: bytes, body: bytes, to: str = "") -> bool:
        """Whether a frame does; `head` is all between the MAC addresses and the body, and an IPv4
        header among it gets a body of the right length."""
        sender, receiver = self._ends
        self._number += 1
        unique = body + b"number" + bytes([self._number]) + bytes(20)
        if head.endswith(bytes.fromhex("0800")):  # a kernel takes off what is behind a packet
            payload = frames.udp(9, 9, unique)
            sent = frames.ip(sender.ipv4, receiver.ipv4, frames.UDP, payload)
        else:
            sent = unique
        self._out.send(octets(to or receiver.mac) + octets(sender.mac) + head + sent)
        until = time.monotonic() + ARRIVES_S
        while (left := until - time.monotonic()) > 0 and readable(self._in, left):
            heard = self._in.recv(2048, socket.MSG_DONTWAIT)
            if unique in heard and heard[6:12] == octets(sender.mac):
                return True
        return False


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def test_frames_of_any_protocol_come_also_behind_a_move(guests: Guests) -> None:
    """A service of layer 2; what looks like a signal of an NVE's agent is a tenant's as well."""
    vm1 = guests.spec("vm1").tenant_system
    last = end_marker.last_address(ip_address("192.0.2.1"))
    looks_like = end_marker.frame(Signal(MarkerKind.MARKER, 1, vm1, ("nve3",)))[14:]
    kinds = {
        "LLC": (bytes([0, 60]), bytes.fromhex("aaaa03")),
        "PTP": (bytes.fromhex("88f7"), b"sync"),
        "experimental": (end_marker.ETHERTYPE.to_bytes(2, "big"), looks_like),
    }
    for place in ("nve1", "nve2"):
        if place != "nve1":
            guests.move("vm1", place)
        for sender in ("vm2", "vm4"):
            with closing(Wire(guests, sender, "vm1")) as wire:
                for kind, (head, body) in kinds.items():
                    for to in ("", BROADCAST, last):
                        assert wire.arrives(head, body, to), f"{kind} from {sender} to {place} {to}"
    guests.move("vm1", "nve1")


def test_of_frames_with_a_vlan_tag_none_or_all_are_carried(guests: Guests) -> None:
    """RFC 7348 section 6.1; VID 0 is no tag, and goes.  (This kernel may have no VLAN devices.)"""

    def kinds(sender: str, receiver: str) -> dict[str, bytes]:
        here, there = guests.spec(sender), guests.spec(receiver)
        arp = frames.arp(frames.ARP_REPLY, (here.mac, here.ipv4), (there.mac, there.ipv4))
        return {"0806": arp, "0800": b"payload", "88f7": b"sync"}

    before = guests.refused("vlan-tagged")
    with closing(Wire(guests, "vm2", "vm3")) as wire:
        for ethertype, body in kinds("vm2", "vm3").items():
            tag, none = bytes.fromhex("8100000a" + ethertype), bytes.fromhex("81000000" + ethertype)
            assert not wire.arrives(tag, body), ethertype
            assert ethertype == "0806" or wire.arrives(none, body), "the NVA answers ARP"
    assert guests.refused("vlan-tagged") == before + 3
    for place in ("nve1", "nve3"):
        if place != "nve1":
            guests.move("t1", place)
        for ends in (("t1", "t2"), ("t2", "t1")):
            with closing(Wire(guests, *ends)) as wire:
                for ethertype, body in kinds(*ends).items():
                    tag = bytes.fromhex("8100000a" + ethertype)
                    for to in ("", BROADCAST):
                        assert wire.arrives(tag, body, to), f"{ethertype}, {ends} at {place}"
    assert guests.refused("vlan-tagged") == before + 3


def test_no_vm_is_taken_for_a_router(guests: Guests) -> None:
    """And each is reached: the kernel has believed the answer (RFC 4861 section 7.2.5)."""
    for target in ("vm2", "vm1", "vm4"):
        address = str(guests.spec(target).ipv6)
        status, said = guests.run("vm3", "ping", "-6", "-n", "-c", "2", "-W", "2", address)
        assert status == 0, said
        _, known = guests.run("vm3", "ip", "-6", "neigh", "show", "dev", NIC, "to", address)
        assert guests.spec(target).mac in known
        assert "router" not in known


AVAHI = """
mount -t tmpfs none /run && mkdir /run/dbus /run/avahi-daemon || exit
printf '[server]\\nhost-name=%s\\nallow-interfaces=eth0\\n' "$0" > /run/avahi.conf
dbus-daemon --system --nopidfile
avahi-daemon --file=/run/avahi.conf --no-drop-root --no-chroot --no-rlimits > /dev/null 2>&1 &
exec "$@"
"""
"""A guest of this name with a daemon of its own, and what it does then."""
RESOLVES = "until avahi-resolve --name -4 vm1.local; do sleep 0.2; done"

ASKED: dict[str, tuple[str, list[str], str]] = {
    # program: (its Debian package, what vm3 asks about vm1, what it has to hear)
    "ndisc6": ("ndisc6", ["ndisc6", "-1", "-w", "3000", "{ipv6}", NIC], "{MAC}"),
    "mtr": ("mtr-tiny", ["mtr", "-n", "-r", "-c", "3", "-i", "0.2", "{ipv4}"], "{ipv4}  "),
    "mtr -6": ("mtr-tiny", ["mtr", "-6nr", "-c", "3", "-i", "0.2", "{ipv6}"], "{ipv6}  "),
    "avahi-resolve": ("avahi-utils avahi-daemon dbus", ["timeout", "20"], "vm1.local\t192.168."),
}


@pytest.mark.parametrize("program", ASKED)
def test_what_asks_about_a_vm_is_answered_wherever_that_is(guests: Guests, program: str) -> None:
    """(`arping -D` is asked above.)"""
    package, argv, heard = ASKED[program]
    if shutil.which(program.split()[0]) is None:
        pytest.skip(f"there is no {program}; apt-get install {package}")
    spec = guests.spec("vm1")
    about = {"ipv4": str(spec.ipv4), "ipv6": str(spec.ipv6), "MAC": str(spec.mac).upper()}
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", AVAHI)
    answers, asks = ["true"], [word.format(**about) for word in argv]
    if "avahi" in program:
        answers = [*alone, "vm1", "sleep", "600"]
        asks += [*alone, "vm3", "sh", "-c", RESOLVES]
    with guests.running("vm1", *answers):
        for place in ("nve1", "nve2", "nve1"):
            if guests.lab.orchestrator.where["vm1"] != place:
                guests.move("vm1", place)
            status, said = guests.run("vm3", *asks)
            assert (status, heard.format(**about) in said) == (0, True), said
