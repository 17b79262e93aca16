"""The NVA's speed, beside the least that an application of the same framework does.

    python -m benchmarks.nva [--nves 3 16 64] [--json]

Two processes are connected to the same real switches and take turns: the NVA, and a bare loop that
sends a flow-mod and a barrier to every switch and does nothing else (`benchmarks.bare`).

    change    one mapping change (`push`): from the VM's arrival until every NVE has confirmed
    updates   many VMs arrive at once: mapping changes a second, CPU time for each
    miss      a frame without an entry (`pull`): from its packet-in to the answer's packet-out,
              both seen at the NVE's end of the control channel

Absolute times are this machine's at this moment; ratios are what to compare.  Messages are counted
by the switches.  A mapping change takes more flow-mods than there are NVEs, since the two NVEs of
the move change more than an entry; a ratio by flow-mod makes allowance for that.  Of many
changes at once the NVA tells less than of each alone: they are counted as they come.  Needs root.
"""

import argparse
import json
import socket
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

import pandas as pd

from benchmarks import run_as_command
from benchmarks.control import FLOW_MOD, PACKET_IN, PACKET_OUT, Watch
from benchmarks.side_by_side import BARE_PORT, TIMEOUT_S, SideBySide, Vms, ip, mac
from experiments import machine
from experiments.overlays.nvo3.nva import OPENFLOW_PORT
from experiments.overlays.nvo3.settings import Settings
from nve.linux import namespace
from nve.ovs.bridge import OvsInstance
from nve.pipeline.rules import FIRST_VM_PORT
from nve.wire import frames

SIZES = (3, 16, 64)
VMS = 64
CHANGE_ROUNDS, UPDATE_ROUNDS = 3, 5
"""The numbers of rounds, in each of which every VM moves once."""
MISSES = 300
MISS_EVERY_S = 0.01
WARM_UP = 20
TENANT = "tenant"


@dataclass(frozen=True)
class Spread:
    """Statistics of some times."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> "Spread":
        percentiles = statistics.quantiles(times_s, n=100, method="inclusive")
        return cls(round(percentiles[49] * 1e3, 2), round(percentiles[98] * 1e3, 2))


@dataclass(frozen=True)
class Rate:
    """Figures for many updates at once: medians over rounds."""

    per_s: float
    cpu_ms: float
    """CPU time of the controller's process for each update, in ms."""
    flow_mods: float
    """How many flow-mods all switches together receive for each update."""

    @classmethod
    def of(cls, rounds: Sequence["Round"]) -> "Rate":
        wall_s, cpu_s, flow_mods = (statistics.median(each) for each in zip(*rounds, strict=True))
        return cls(round(VMS / wall_s, 1), round(cpu_s / VMS * 1e3, 2), round(flow_mods / VMS, 1))


def pushed(nves: int) -> dict[str, Any]:
    """Return `change` and `updates` of the NVA and of the bare loop."""
    with SideBySide(nves, Settings.model_validate({"mapping_update": "push"})) as bench:
        bench.connect(OPENFLOW_PORT, BARE_PORT)
        # The last ones stay: if a VM that moves were an NVE's first or last of the network, all
        # NVEs would also have to be told where broadcasts go, which is not measured here.
        vms = Vms(bench, [*(number % nves for number in range(VMS)), *range(nves)])
        bench.bare({"updates": VMS})  # from now on entries are replaced, as the NVA's are
        changes = [_changes(bench, vms) for _ in range(CHANGE_ROUNDS)]
        rounds = [_updates(bench, vms) for _ in range(UPDATE_ROUNDS)]
    nva_s, bare_s = (
        [time_s for some in each for time_s in some] for each in zip(*changes, strict=True)
    )
    nva_rounds, bare_rounds = zip(*rounds, strict=True)
    nva, bare = Rate.of(nva_rounds), Rate.of(bare_rounds)
    return {
        "nves": nves,
        "change": {"nva": asdict(Spread.of(nva_s)), "bare": asdict(Spread.of(bare_s))},
        "updates": {"nva": asdict(nva), "bare": asdict(bare)},
        "ratio": {
            "updates": round(nva.per_s / bare.per_s, 2),
            "flow_mods": round(nva.per_s * nva.flow_mods / (bare.per_s * bare.flow_mods), 2),
            "flow_mods_by_cpu_time": round(
                bare.cpu_ms / bare.flow_mods / (nva.cpu_ms / nva.flow_mods), 2
            ),
        },
    }


def _changes(bench: SideBySide, vms: Vms) -> tuple[list[float], list[float]]:
    """Return the seconds of each change, one after the other, for both."""
    moves, times = [], []
    for number in range(VMS):
        moves.append(vms.redirect(number))
        bench.announce({number: vms.next(number)})
        times += bench.arrivals(moves[-1:])
    vms.settle(moves)
    return [end - begin for begin, end in times], bench.bare({"updates": VMS, "each": 1})


Round = tuple[float, float, int]
"""Wall and CPU time in seconds, flow-mods (of the NVA: and the few barriers behind them)."""


def _updates(bench: SideBySide, vms: Vms) -> tuple[Round, Round]:
    """Return a round of updates, all at once, for both."""
    moves = [vms.redirect(number) for number in range(VMS)]
    before, cpu_s = bench.received(), bench.nva_cpu_s()
    bench.announce({number: vms.next(number) for number in range(VMS)})
    begins, ends = zip(*bench.arrivals(moves), strict=True)
    cpu_s = bench.nva_cpu_s() - cpu_s
    # The announcements themselves enter the switches by messages, too.
    nva = (max(ends) - min(begins), cpu_s, bench.received() - before - VMS)
    vms.settle(moves)

    took = bench.bare({"updates": VMS})
    return nva, (took["wall_s"], took["cpu_s"], VMS * len(bench.nves))


def pulled() -> dict[str, Any]:
    """Return `miss` of the NVA and of the bare loop, at one of three NVEs."""
    overlay = Settings.model_validate({"mapping_update": "pull", "lifetime_s": 3600})
    with SideBySide(3, overlay) as bench:
        Vms(bench, [0, *(1 + number % 2 for number in range(WARM_UP + MISSES))])
        nve = bench.data_centre.nves[bench.nves[0]]
        OvsInstance.of(nve.edge).add_internal_port(TENANT, FIRST_VM_PORT)
        namespace.ip(nve.pid, [f"link set {TENANT} up"])
        with namespace.inside(nve.pid):
            tenant = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            tenant.bind((TENANT, 0))
        first, found = 1, {}
        for name, port in (("nva", OPENFLOW_PORT), ("bare", BARE_PORT)):
            if port == BARE_PORT:
                bench.connect(BARE_PORT)
            with Watch(nve.pid, port) as watch:
                found[name] = [_miss(tenant, watch, first + n) for n in range(WARM_UP + MISSES)]
            first += WARM_UP + MISSES
        tenant.close()
    return {name: asdict(Spread.of(times_s[WARM_UP:])) for name, times_s in found.items()}


def _miss(tenant: socket.socket, watch: Watch, number: int) -> float:
    """Return the seconds from the packet-in about VM 0's first frame to another VM until its
    packet-out.
    """
    time.sleep(MISS_EVERY_S)
    ends = IPv4Address(ip(0)), IPv4Address(ip(number))
    packet = frames.ip(*ends, socket.IPPROTO_UDP, frames.udp(7, 7, b"miss"))
    tenant.send(frames.ethernet(mac(0), mac(number), frames.IPV4, packet))
    messages = watch.until(PACKET_OUT, TIMEOUT_S)
    kinds = [message.kind for message in messages]
    assert kinds[0] == PACKET_IN, f"the first message after a miss was {kinds[0]}"
    assert FLOW_MOD in kinds, "a miss was answered without an entry"
    return (messages[-1].t_ns - messages[0].t_ns) / 1e9


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    load_before = machine.load()
    return {
        "load_before": load_before,
        "cpu_count": machine.facts()["cpu_count"],
        "pushed": [pushed(nves) for nves in sizes],
        "miss": pulled(),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures as tables."""
    load = ", ".join(map(str, found["load_before"]))
    print(f"{found['cpu_count']} cores, load before: {load}")
    print("\none mapping change until every NVE has confirmed, and a bare update, ms")
    _table(
        {"NVEs": each["nves"]}
        | {
            f"{name} {percentile}": each["change"][name][f"{percentile}_ms"]
            for name in ("nva", "bare")
            for percentile in ("p50", "p99")
        }
        for each in found["pushed"]
    )
    print("\nmany at once; the NVA's share of what the bare loop does")
    _table(
        {"NVEs": each["nves"]}
        | {
            f"{name} {what}": each["updates"][name][field]
            for what, field in (("updates/s", "per_s"), ("flow-mods/update", "flow_mods"))
            for name in ("nva", "bare")
        }
        | {f"ratio {what.replace('_', ' ')}": ratio for what, ratio in each["ratio"].items()}
        for each in found["pushed"]
    )
    print("\nmiss: packet-in to packet-out, ms")
    _table({"": name, **spread} for name, spread in found["miss"].items())


def _table(rows: Iterable[dict[str, Any]]) -> None:
    print(pd.DataFrame(rows).to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark the NVA beside a bare loop.")
    parser.add_argument("--nves", type=int, nargs="+", default=SIZES, help="how many, in turn")
    parser.add_argument("--json", action="store_true", help="for a script")
    arguments = parser.parse_args()
    found = measure(arguments.nves)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    run_as_command(main)
