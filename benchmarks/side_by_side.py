"""Real switches with two controllers: the NVA, and `benchmarks.bare`.

A star of NVEs, one Open vSwitch instance and one namespace for each, a control network and an NVA
process, as in every run; VMs exist in the NVA's state only.  Both controllers are pinned to one
core, the switches and the benchmark to the others.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, count
from typing import Any, Self

from controller.southbound import openflow
from controller.southbound.framework import ofproto, parser
from controller.southbound.openflow import Switch
from experiments.machine import ROOT
from experiments.overlays.nvo3 import CONTROL_NODE
from experiments.overlays.nvo3.nva import OPENFLOW_PORT, NvaProcess
from experiments.overlays.nvo3.settings import Settings
from nve.linux.wait import wait_until
from nve.model import Mac, VmSpec, vni
from nve.ovs.bridge import INTEGRATION, OvsInstance, edges
from nve.pipeline.rules import FIRST_VM_PORT
from nve.wire import announcement
from topologies.emulation.data_centre import DataCentre
from topologies.emulation.session import Session
from topologies.star import Parameters, build

NO_IPV6 = IPv6Address("fd00::")
BARE_PORT = OPENFLOW_PORT + 1
VNI = 5000
TIMEOUT_S = 120
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class SideBySide:
    """The lab with both controllers; `data_centre`, `nva` and `bare` exist inside the `with`."""

    def __init__(self, nves: int, overlay: Settings) -> None:
        self._overlay = overlay
        self._fabric = build(Parameters(nves=nves))
        self._unread = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        controllers, others = _cores()
        stack.enter_context(_pinned(others))
        session = stack.enter_context(Session.create("benchmark"))
        self.data_centre = DataCentre(self._fabric, (), edges("auto"), session, CONTROL_NODE)
        stack.callback(self.data_centre.stop)
        self.data_centre.start()
        self.nves = list(self.data_centre.nves)
        self.nva = NvaProcess(self.data_centre, self._overlay)
        stack.callback(self.nva.stop)
        with _pinned(controllers):
            self.nva.start()
            self._bare = self._start_bare(stack)
        self._trace = stack.enter_context(
            (session.directory / "nva-trace.jsonl").open(encoding="utf-8")
        )
        self._ends = {name: self._tenants_end(stack, name) for name in self.nves}

    def _tenants_end(self, stack: ExitStack, nve: str) -> socket.socket:
        """Return a connection to a switch by which frames can be injected at its ports."""
        end = stack.enter_context(socket.socket(socket.AF_UNIX))
        end.connect(
            str(OvsInstance.of(self.data_centre.nves[nve].edge).directory / f"{INTEGRATION}.mgmt")
        )
        end.sendall(openflow.octets(parser.OFPHello(Switch)))
        return end

    def _start_bare(self, stack: ExitStack) -> "subprocess.Popen[str]":
        address = self.data_centre.control_node.address
        process = self.data_centre.in_node(
            CONTROL_NODE,
            [sys.executable, "-m", "benchmarks.bare", str(address), str(BARE_PORT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    def connect(self, *ports: int) -> None:
        """Connect all switches to the controllers at these ports only; at first it is the NVA's."""
        address = self.data_centre.control_node.address
        how = ("connection_mode=out-of-band", "max_backoff=1000", "inactivity_probe=60000")
        made = [
            ("--", f"--id=@to{port}", "create", "Controller", f'target="tcp:{address}:{port}"')
            for port in ports
        ]
        controllers = f"controller=[{','.join(f'@to{port}' for port in ports)}]"
        for nve in self.data_centre.nves.values():
            created = chain(*((*words, *how) for words in made))
            OvsInstance.of(nve.edge).vsctl("set", "Bridge", INTEGRATION, controllers, *created)
        if OPENFLOW_PORT in ports:
            wait_until(self._missing, TIMEOUT_S)
        if BARE_PORT in ports:
            self.bare({"await": len(self.nves)})

    def _missing(self) -> str | None:
        connected = self.nva.get("health")["connected"]
        missing = [nve for nve, there in connected.items() if not there]
        return f"{', '.join(missing)} not connected to the NVA" if missing else None

    def bare(self, asked: Mapping[str, int]) -> Any:
        """Have the bare application do something, and return its answer."""
        assert self._bare.stdin is not None
        assert self._bare.stdout is not None
        print(json.dumps(asked), file=self._bare.stdin, flush=True)
        line = self._bare.stdout.readline()
        if not line:
            raise RuntimeError("the bare application has ended")
        return json.loads(line)

    def announce(self, places: Mapping[int, str]) -> None:
        """Have VMs announce themselves at NVEs, all at once."""
        by_nve: dict[str, list[bytes]] = {}
        for number, name in places.items():
            by_nve.setdefault(name, []).append(_announced(number))
        for name, messages in by_nve.items():
            self._ends[name].sendall(b"".join(messages))

    def arrivals(self, moves: Sequence[str]) -> list[tuple[float, float]]:
        """Wait until moves have converged.

        Returns for each when the NVA began to change the mapping, and when all NVEs had confirmed
        that. These times are from the trace, so that the NVA is not disturbed by questions.
        """
        times: dict[str, dict[str, float]] = {move: {} for move in moves}

        def unfinished() -> str | None:
            *lines, self._unread = (self._unread + self._trace.read()).split("\n")
            for event in map(json.loads, lines):
                if event["details"].get("move") in times:
                    times[event["details"]["move"]][event["event"]] = event["t_ns"] / 1e9
            slow = [move for move in moves if "move-converged" not in times[move]]
            return f"moves {slow} have not converged" if slow else None

        wait_until(unfinished, TIMEOUT_S)
        return [(found["mapping-updated"], found["move-converged"]) for found in times.values()]

    def nva_cpu_s(self) -> float:
        """Return the CPU time of the NVA's process since its start."""
        with open(f"/proc/{self.nva.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def received(self) -> int:
        """Return the number of OpenFlow messages that all switches have received since they
        started.
        """
        counter = ("coverage/read-counter", "ofproto_recv_openflow")
        return sum(
            int(OvsInstance.of(nve.edge).appctl(*counter)) for nve in self.data_centre.nves.values()
        )


class Vms:
    """VMs that exist in the NVA's state only, by number, and the NVE of each."""

    def __init__(self, bench: SideBySide, places: Sequence[int]) -> None:
        self._nva, self._nves, self._at = bench.nva, bench.nves, list(places)
        self._moves = count(1)
        for number, at in enumerate(places):
            body = {"vm": f"vm{number}", "vni": VNI, "mac": mac(number), "addresses": [ip(number)]}
            self._nva.post("associations", {**body, "nve": self._nves[at], "port": port(number)})

    def redirect(self, number: int) -> str:
        """Begin a move to the next NVE, up to where the VM may arrive; returns its key."""
        body = {"vm": f"vm{number}", "to": self.next(number), "port": port(number), "idle_s": 1}
        move = str(next(self._moves))
        self._nva.put(f"moves/{move}", body, until="prepared")
        self._nva.post(f"moves/{move}/redirect", until="redirected")
        return move

    def next(self, number: int) -> str:
        """Return the NVE that a VM moves to next."""
        return self._nves[self._next(number)]

    def settle(self, moves: Sequence[str]) -> None:
        """Wait until each move is completed, in order, and de-associate the old places."""
        for number, move in enumerate(moves):
            self._nva.get(f"moves/{move}", until="completed", timeout_s=TIMEOUT_S)
            self._nva.delete(f"associations/{self._nves[self._at[number]]}/vm{number}")
            self._at[number] = self._next(number)

    def _next(self, number: int) -> int:
        return (self._at[number] + 1) % len(self._nves)


def port(number: int) -> int:
    """Return a VM's port number, which is the same at every NVE."""
    return FIRST_VM_PORT + number


def mac(number: int) -> Mac:
    return Mac(f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}")


def ip(number: int) -> str:
    return f"10.0.{number // 250}.{1 + number % 250}"


def _announced(number: int) -> bytes:
    """Return a message with a VM's gratuitous ARP that enters at its port."""
    vm = VmSpec(f"vm{number}", vni(VNI), mac(number), IPv4Address(ip(number)), NO_IPV6, "")
    out = parser.OFPPacketOut(
        Switch,
        buffer_id=ofproto.OFP_NO_BUFFER,
        in_port=port(number),
        actions=[parser.OFPActionOutput(ofproto.OFPP_TABLE)],
        data=announcement.gratuitous_arp(vm),
    )
    return openflow.octets(out)


def _cores() -> tuple[frozenset[int], frozenset[int]]:
    """Return the core for controllers, and the others; both are the same if there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return frozenset({first}), frozenset(others or [first])


@contextmanager
def _pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run this thread, and all that it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
