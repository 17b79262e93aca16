"""The draft's overlay: NVEs that an NVA tells where VMs are (draft-ietf-nvo3-vmm-03)."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from experiments.events import Event
from experiments.nva import Nva, NvaError
from experiments.overlays import Relocation
from experiments.scenario import Overlay as Settings
from nve.model import VmSpec
from topologies.emulation import DataCentre

STEP_TIMEOUT_S = 20.0
ANNOUNCEMENT_TIMEOUT_S = 0.2
DRAIN_S = 0.2
"""What was on the underlay when the last old entry went has reached the source NVE by then."""
ASTRAY = frozenset({"in-flight", "departed", "unknown-destination", "unknown-vni"})
"""Purposes of the rules that a packet matches which came to an NVE its VM is not behind."""


class Nvo3:
    """See `experiments.overlays.Overlay`."""

    def __init__(self, data_centre: DataCentre, settings: Settings, framework: str) -> None:
        self._data_centre = data_centre
        self._settings = settings
        self.nva = Nva(data_centre, framework, settings.mapping_update, settings.lifetime_s)
        self._events: list[Event] = []
        self._numbers: dict[int, int] = {}

    def start(self) -> None:
        self.nva.start()

    def attach(self, vm: VmSpec, nve: str, port: int) -> None:
        self.nva.associate(vm, nve, port)

    def begin(self) -> None:
        """Entries with a lifetime are taken back, so that their ages are the same in every run."""
        self.nva.post("forget")

    def prepare(self, move: Relocation) -> None:
        settings = self._settings
        ending = {"idle": "idle_s", "timer": "timer_s"}[settings.stop]
        body = {
            "vm": move.vm.name,
            "to": move.destination,
            "port": move.port,
            "in_flight": settings.in_flight,
            ending: getattr(settings, ending),
        }
        accepted = self.nva.post("moves", body, until="prepared", timeout_s=STEP_TIMEOUT_S)
        self._numbers[move.number] = accepted["number"]

    def switch_over(self, move: Relocation) -> None:
        self._go_on(move, "depart", until="redirected", timeout_s=STEP_TIMEOUT_S)

    def arrive(self, move: Relocation, *, announced: bool) -> None:
        """The mapping follows the VM's announcement (R4.1.2, R4.1.6); where that is not made, or is
        lost, the destination's activation is enough."""
        number = self._numbers[move.number]
        if announced:
            with suppress(NvaError):  # not heard in time
                self.nva.get(f"moves/{number}", until="arrived", timeout_s=ANNOUNCEMENT_TIMEOUT_S)
        self._go_on(move, "activate")

    def complete(self, move: Relocation, timeout_s: float) -> None:
        """Also counts what still reached the source NVE after no NVE held an old entry (R3.4)."""
        number = self._numbers[move.number]
        reached = self.nva.get(f"moves/{number}", until="converged", timeout_s=timeout_s)
        if reached["phase"] == "drained":  # the tunnel has ended, an old entry is still there
            self.nva.get(f"moves/{number}", until="completed", timeout_s=timeout_s)
        time.sleep(DRAIN_S)
        before = self._astray(move)
        self.nva.get(f"moves/{number}", until="completed", timeout_s=timeout_s)
        time.sleep(DRAIN_S)
        after = self._astray(move)
        self._events.append(
            Event(
                time.time_ns(),
                "runner",
                "source-nve-counted",
                move.vm.name,
                {
                    "move": move.number,
                    "nve": move.source,
                    "packets_via_source_after_convergence": after - before,
                },
            )
        )

    def release(self, move: Relocation) -> None:
        self.nva.delete(f"associations/{move.source}/{move.vm.name}")

    def roll_back(self, move: Relocation) -> None:
        if move.number in self._numbers:
            self._go_on(move, "cancel")

    def where(self) -> dict[str, str]:
        return {line["vm"]: line["nve"] for line in self.nva.get("mapping")}

    def events(self) -> list[Event]:
        """The NVA's trace, its moves numbered as the scenario numbers them."""
        numbers = {theirs: ours for ours, theirs in self._numbers.items()}
        return [*(_renumbered(event, numbers) for event in self.nva.events()), *self._events]

    def stop(self) -> None:
        self.nva.stop()

    def _go_on(self, move: Relocation, verb: str, **parameters: object) -> None:
        self.nva.post(f"moves/{self._numbers[move.number]}/{verb}", None, **parameters)

    def _astray(self, move: Relocation) -> int:
        """Packets that came out of tunnels at the source NVE and had no business there.

        The in-flight rule is gone when the move is completed; its last count is in the trace.
        """
        self._data_centre.nves[move.source].bridge.follow_rules_now()  # so that all is counted
        counters = self.nva.get(f"nves/{move.source}/counters")
        standing = sum(int(line["packets"]) for line in counters if _astray(line, move.vm.name))
        ended = [
            int(event.details["packets"])
            for event in self._ended(move)
            if event.details["nve"] == move.source
        ]
        return standing + sum(ended)

    def _ended(self, move: Relocation) -> Iterable[Event]:
        number = self._numbers[move.number]
        return (
            event
            for event in self.nva.events()
            if event.name in ("in-flight-ended", "in-flight-before-arrival")
            and event.details["move"] == number
        )


def _renumbered(event: Event, numbers: dict[int, int]) -> Event:
    if "move" not in event.details:
        return event
    return replace(event, details={**event.details, "move": numbers[event.details["move"]]})


def _astray(line: dict[str, Any], vm: str) -> bool:
    return line["purpose"] in ASTRAY and line["about"] in (vm, None)
