"""What a flooding tenant costs another tenant's move, with the limits and without.

vm9 sends ARP requests, neighbour solicitations, reverse ARP or packets to unknown destinations,
thousands a second, while the NVA is asked for moves of vm1 at the northbound interface: prepared,
redirected, converged.  Each figure stands beside that of the same steps without a flood, in the
same run.  Needs root.  Run: python -m benchmarks.flood [--moves 5] [--rate 4000]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks import run_as_command
from experiments.overlays.nvo3.overlay import Nvo3
from experiments.run.lab import Lab
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario
from experiments.workloads.forging import forged
from experiments.workloads.forging.attack import Attack, Forgery
from nve.hypervisor.plug import NIC

FLOODS = ("arp-flood", "nd-flood", "rarp-flood", "miss-flood")
NO_LIMIT = {
    f"overlay.{kind}_{what}": 100_000
    for kind in ("report", "miss")
    for what in ("rate_pps", "burst")
}
COMPLETION_TIMEOUT_S = 60


def scenario(limited: bool) -> Scenario:
    """Return a scenario with vm9 in another virtual network than vm1, both behind nve1 at first."""
    content = {
        "name": "flood",
        "topology": {"kind": "star", "nves": 3},
        "control": {"delay_ms": 1},
        "tenants": [
            {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve3"}},
            {"vni": 6000, "vms": {"vm9": "nve1", "vm8": "nve3"}},
        ],
        "overlay": {"idle_s": 1},
        "duration_s": 1,
    }
    return resolve(content, "benchmark", {} if limited else NO_LIMIT)


def steps_ms(lab: Lab) -> float:
    """Return how long the northbound interface takes for one move there; the move back is not
    counted.
    """
    nva = Nvo3.of(lab.overlay).nva
    to = {"nve1": "nve2", "nve2": "nve1"}[lab.overlay.where()["vm1"]]
    port = lab.orchestrator.hypervisors["vm1"].port
    began_s = time.monotonic()
    asked = {"vm": "vm1", "to": to, "port": port, "idle_s": 1}
    path = f"moves/{len(nva.get('moves')) + 1}"
    nva.put(path, asked, until="prepared", timeout_s=30)
    nva.post(f"{path}/redirect", until="redirected", timeout_s=30)
    source = nva.post(f"{path}/activate", until="converged", timeout_s=30)["from"]
    took_s = time.monotonic() - began_s
    nva.get(path, until="completed", timeout_s=COMPLETION_TIMEOUT_S)
    nva.delete(f"associations/{source}/vm1")
    return took_s * 1e3


@contextmanager
def flooding(lab: Lab, flood: str | None, rate_pps: float) -> Iterator[None]:
    if flood is None:
        yield
        return
    me, other = (lab.data_centre.vms[vm].spec for vm in ("vm9", "vm8"))
    attack = Forgery(
        Attack(
            flood, "vm8", flood, NIC, forged.of_vm(flood, me, other), rate_pps, 600,
            partial(lab.data_centre.in_vm, "vm9"),
        )
    )  # fmt: skip
    attack.launch()
    try:
        attack.begin()
        time.sleep(1)  # until the initial burst has passed
        yield
        attack.collect()
    finally:
        attack.stop()


def measure(moves: int, rate_pps: float, say: Callable[[str], None] = print) -> None:
    """Print the median of the steps, and its ratio to that without a flood."""
    for limited in (True, False):
        say(f"limits {'as they are by default' if limited else 'taken away'}, {rate_pps:g}/s:")
        with Lab(scenario(limited)) as lab:
            quiet_ms = None
            for flood in (None, *FLOODS):
                with flooding(lab, flood, rate_pps):
                    median_ms = statistics.median(steps_ms(lab) for _ in range(moves))
                quiet_ms = quiet_ms or median_ms
                ratio = f"{median_ms / quiet_ms:.2f}"
                say(f"  {flood or 'no flood':10}  steps {median_ms:8.1f} ms  ratio {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark moves beside floods.")
    parser.add_argument("--moves", type=int, default=5)
    parser.add_argument("--rate", type=float, default=4000)
    arguments = parser.parse_args()
    measure(arguments.moves, arguments.rate)


if __name__ == "__main__":
    run_as_command(main)
