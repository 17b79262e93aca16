"""Cables with delay, jitter, loss and rate.

A link of the data centre is a virtual cable between two namespaces, created there directly, so that
no interface ever exists in the machine's own namespace.  Either emulator treats packets in the same
way, in each direction alike (shaping.py has the details):

**netem**, if the kernel has it, on both ends.

**delay-line**, otherwise: a delayed link is cut in two and joined by a process in the namespace
`wire` (delay_line.py); a link without delay is a plain cable.  Loss and rate are the kernel's, at
the link's *forwarding end*, the switch or router.  They could not be at an NVE: a drop at the
sender's own egress is reported to it, and a userspace switch then gives up the rest of the batch;
and what its packet socket reads has not yet passed ingress filters.
"""

import json
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nve.linux.capabilities import ifb_available
from nve.linux.namespace import inside, ip, run, run_in, tc
from nve.linux.wait import readable, wait_until
from nve.model import Mac
from topologies.emulation.delay_line import READY
from topologies.shaping import both_directions, impaired, inbound_queue, netem, repaired
from topologies.spec import LinkSpec

Emulator: TypeAlias = Literal["netem", "delay-line"]

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5


@dataclass(frozen=True)
class End:
    """One end of a link: an interface to be created in the namespace of `pid`."""

    node: str
    pid: int
    interface: str
    mac: Mac


@dataclass(frozen=True)
class Cable:
    """A link to be built.  `b` is its forwarding end: a switch or a router."""

    a: End
    b: End
    spec: LinkSpec

    def __str__(self) -> str:
        return f"{self.a.node}-{self.b.node}"


class Cabling:
    """All links of a data centre, with the emulator that serves them."""

    def __init__(
        self, cables: Sequence[Cable], emulator: Emulator, wire_pid: int, directory: Path, seed: int
    ) -> None:
        """`wire_pid` is a process in the namespace `wire`; `directory` is for files."""
        self.cables = cables
        self.emulator = emulator
        self.wire_pid = wire_pid
        self._links_file = directory / "links.json"
        self._statistics_file = directory / "link-statistics.json"
        self._seed = seed
        self._slower: dict[Cable, LinkSpec] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def lay(self) -> None:
        """Create the interfaces, still down, and the queues that delay or drop packets on them."""
        run(["ip", "-batch", "-"], "\n".join(self._veth_commands()) + "\n")
        self._prepare_for_disturbances()
        for cable in self.cables:
            if not cable.spec.shapes:
                continue
            if self.emulator == "netem":
                for end in (cable.a, cable.b):
                    tc(end.pid, [f"qdisc add dev {end.interface} root {netem(cable.spec)}"])
            elif commands := both_directions(cable.b.interface, cable.spec):
                self._require_ifb(cable)
                if cable.spec.rate_mbit:
                    queue = inbound_queue(cable.b.interface)
                    ip(cable.b.pid, [f"link add {queue} type ifb", f"link set {queue} up"])
                tc(cable.b.pid, commands)

    def _prepare_for_disturbances(self) -> None:
        """Add the qdiscs for disturbances now: adding one while an interface is up drops
        packets.
        """
        interfaces = defaultdict(list)
        for cable in self.cables:
            interfaces[cable.b.pid].append(cable.b.interface)
        for pid, names in interfaces.items():
            tc(pid, [f"qdisc add dev {name} clsact" for name in names])

    def start(self) -> None:
        """Start the delay line, if a link needs it; return when frames pass."""
        delayed = self._delayed()
        if not delayed:
            return
        ip(
            self.wire_pid,
            [
                f"link set w{number}{side} mtu {cable.spec.mtu} up"
                for number, cable in delayed
                for side in "ab"
            ],
        )
        self._write_links()
        with inside(self.wire_pid):
            self._process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "topologies.emulation.delay_line",
                        str(self._links_file),
                    ),
                    *("--statistics", str(self._statistics_file), "--seed", str(self._seed)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        self._await_ready(self._process)

    def between(self, a: str, b: str) -> Cable:
        """Return the cable between two nodes.  Raises ValueError."""
        for cable in self.cables:
            if {cable.a.node, cable.b.node} == {a, b}:
                return cable
        raise ValueError(f"no cable joins {a} and {b}")

    @property
    def dropping(self) -> Sequence[str]:
        """The directions in which a link drops packets because its spec says so."""
        return [
            f"{end.node}>{peer.node}"
            for cable in self.cables
            if cable.spec.loss_pct or cable.spec.rate_mbit
            for end, peer in ((cable.a, cable.b), (cable.b, cable.a))
        ]

    def impair(self, cable: Cable, number: int, loss_pct: float) -> None:
        """Make a cable lose packets in both directions, in addition to what its spec says.

        `number` names the disturbance for `repair`, and is unique per cable.
        """
        tc(cable.b.pid, impaired(cable.b.interface, number, loss_pct))

    def repair(self, cable: Cable, number: int) -> None:
        """End a disturbance of a cable."""
        tc(cable.b.pid, repaired(cable.b.interface, number))

    def slow_down(self, cable: Cable, delay_ms: float) -> None:
        """Raise the delay of a cable that delays (`LinkSpec.delays`) by `delay_ms`; 0 ends this."""
        slower = cable.spec.model_copy(update={"delay_ms": cable.spec.delay_ms + delay_ms})
        if self.emulator == "netem":
            for end in (cable.a, cable.b):
                tc(end.pid, [f"qdisc change dev {end.interface} root {netem(slower)}"])
            return
        assert self._process is not None, f"{cable} has no delay line"
        self._slower[cable] = slower
        self._write_links()
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def statistics(self) -> list[dict[str, Any]]:
        """Return, per link and direction, what the emulator forwarded, dropped, and forwarded
        late.
        """
        if self.emulator == "netem":
            return [
                {"direction": f"{end.node}>{peer.node}", **_queue_counters(end.pid, end.interface)}
                for cable in self.cables
                for end, peer in ((cable.a, cable.b), (cable.b, cable.a))
                if cable.spec.shapes
            ]
        rows: dict[str, dict[str, Any]] = {
            row["direction"]: row for row in self._delay_line_statistics()
        }
        for cable in self.cables:
            if cable.spec.rate_mbit:
                end = cable.b
                for direction, interface in (
                    (f"{cable.b.node}>{cable.a.node}", end.interface),
                    (f"{cable.a.node}>{cable.b.node}", inbound_queue(end.interface)),
                ):
                    row = rows.setdefault(direction, {"direction": direction})
                    row |= {
                        f"rate_{name}": count
                        for name, count in _queue_counters(end.pid, interface).items()
                    }
        return list(rows.values())

    def _write_links(self) -> None:
        links = [
            {
                "a": cable.a.node,
                "b": cable.b.node,
                "a_end": f"w{number}a",
                "b_end": f"w{number}b",
                "delay_ms": self._slower.get(cable, cable.spec).delay_ms,
                "jitter_ms": cable.spec.jitter_ms,
            }
            for number, cable in self._delayed()
        ]
        self._links_file.write_text(json.dumps(links, indent=1) + "\n", encoding="utf-8")

    def _delayed(self) -> list[tuple[int, Cable]]:
        """Return the links that the delay line serves, with the numbers of their interfaces in
        `wire`.
        """
        if self.emulator == "netem":
            return []
        return [
            (number, cable)
            for number, cable in enumerate(self.cables, start=1)
            if cable.spec.delays
        ]

    def _veth_commands(self) -> list[str]:
        halves = {
            number: (
                End("wire", self.wire_pid, f"w{number}a", _wire_mac(number, 0)),
                End("wire", self.wire_pid, f"w{number}b", _wire_mac(number, 1)),
            )
            for number, _ in self._delayed()
        }
        pairs = []
        for number, cable in enumerate(self.cables, start=1):
            if number in halves:
                entry, leaving = halves[number]
                pairs += [(cable.a, entry), (leaving, cable.b)]
            else:
                pairs.append((cable.a, cable.b))
        # All interface numbers of a data centre are different: two ends of a cable with the same
        # number look like one device to the kernel, which then takes up to a second to notice that
        # the cable is plugged in (net/core/link_watch.c).
        return [
            f"link add name {a.interface} index {10 + 2 * place} address {a.mac} netns {a.pid} "
            f"type veth peer name {b.interface} index {11 + 2 * place} address {b.mac} "
            f"netns {b.pid}"
            for place, (a, b) in enumerate(pairs)
        ]

    def _require_ifb(self, cable: Cable) -> None:
        if cable.spec.rate_mbit and not ifb_available():
            raise RuntimeError(
                f"link {cable} has a rate, and this kernel has neither netem nor ifb to keep it; "
                "load one with 'modprobe sch_netem' or 'modprobe ifb', or leave rate_mbit out"
            )

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        there = readable(process.stdout, START_TIMEOUT_S)
        said = process.stdout.readline().decode().strip() if there else "nothing"
        if said != READY:
            raise RuntimeError(
                f"the delay line did not start within {START_TIMEOUT_S} s; its command was "
                f"'{' '.join(map(str, process.args))}'"  # type: ignore[arg-type]
            )

    def _delay_line_statistics(self) -> list[dict[str, Any]]:
        if self._process is not None:
            self._statistics_file.unlink(missing_ok=True)
            self._process.send_signal(signal.SIGUSR1)
            wait_until(self._statistics_missing, STOP_TIMEOUT_S)
        if not self._statistics_file.exists():
            return []
        rows: list[dict[str, Any]] = json.loads(self._statistics_file.read_text(encoding="utf-8"))
        return rows

    def _statistics_missing(self) -> str | None:
        if self._statistics_file.exists():
            return None
        return f"the delay line has not written {self._statistics_file}"


def _wire_mac(number: int, side: int) -> Mac:
    return Mac(f"06:01:00:{side:02x}:{number >> 8:02x}:{number & 255:02x}")


def _queue_counters(pid: int, interface: str) -> Mapping[str, int]:
    """Return what the root qdisc of an interface has forwarded and dropped."""
    printed = run_in(pid, ["tc", "-s", "qdisc", "show", "dev", interface, "root"])
    found = re.search(r"Sent \d+ bytes (\d+) pkt \(dropped (\d+)", printed)
    if found is None:
        raise RuntimeError(f"tc shows no counters for {interface}: {printed}")
    return {"forwarded": int(found[1]), "dropped": int(found[2])}
