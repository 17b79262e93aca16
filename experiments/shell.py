"""`vmmlab shell`: Mininet's command line with the overlay's commands beside Mininet's own.

The data centre has two VMs of one tenant at the first NVE and one at the last, none of them sending
by itself.  Everything that Mininet's CLI offers works: `vm1 ping vm2`, `nve1 ovs-ofctl dump-flows
br-int`, `xterm`.
"""

import threading
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from experiments.errors import RunError, UsageError
from experiments.overlays import MoveRefused
from experiments.overlays.nvo3.nva import NvaError
from experiments.run.lab import Lab
from experiments.run.run import FAILURES
from experiments.scenario.errors import complaints
from experiments.scenario.moves import MoveSpec
from experiments.scenario.schema import Scenario
from topologies import catalogue
from topologies.emulation.nodes import CommandLine

TENANT_VNI = 5000
PATIENCE_S = 1.0
"""For an NVA that does not answer, while somebody waits at the prompt."""


def default_scenario(kind: str) -> dict[str, Any]:
    """A scenario without traffic for a topology, as a file would say it."""
    known = catalogue.names()
    parameters = catalogue.get(kind).parameters() if kind in known else None
    nves = catalogue.get(kind).build(parameters).nves if parameters else ("nve1",)
    return {
        "name": f"shell-{kind}",
        "says": "An overlay to play with.",
        "topology": {"kind": kind},
        "tenants": [{"vni": TENANT_VNI, "vms": {"vm1": nves[0], "vm2": nves[0], "vm3": nves[-1]}}],
        "duration_s": 1,
    }


def open_shell(scenario: Scenario, console: Console) -> None:
    """Build the lab, hand over to the user, and take everything down afterwards.

    Raises RunError when it cannot be built.
    """
    try:
        with console.status("starting") as status, Lab(scenario, progress=status.update) as lab:
            for hypervisor in lab.orchestrator.hypervisors.values():
                for nve in lab.data_centre.nves.values():
                    hypervisor.lay_cable(nve.bridge)
            lab.data_centre.refresh_mininet_links()
            status.stop()
            Shell(lab, console)
    except FAILURES as error:
        raise RunError(f"the data centre failed: {error}") from error


class Shell(CommandLine):  # type: ignore[misc]
    """Mininet's CLI and: move, where, mapping, flows, counters, trace, refused, northbound."""

    prompt = "vmmlab> "
    intro = (
        "Mininet's commands work here, and: move, where, mapping, flows, counters, trace, "
        "refused, northbound.\n`help move` explains one; `exit` ends the data centre."
    )

    def __init__(self, lab: Lab, console: Console) -> None:
        self._data_centre = lab.data_centre
        self._overlay = lab.overlay
        self._orchestrator = lab.orchestrator
        self._log = lab.log
        self._orchestrator.patience_s = PATIENCE_S
        self._console = console
        self._moves = 0
        self._seen = 0
        super().__init__(lab.data_centre.net)

    def onecmd(self, line: str) -> bool:
        """A mistake ends in a sentence, not in the end of the data centre."""
        try:
            return bool(super().onecmd(line))
        except (UsageError, NvaError) as error:
            self._say(str(error))
        except Exception as error:  # Mininet's own commands raise all sorts for a wrong word
            self._say(f"that did not work: {type(error).__name__}: {error}")
        return False

    def do_move(self, line: str) -> None:
        """move VM NVE [PAUSE_MS [ANNOUNCE]]: a hot move; returns when it is over.
        ANNOUNCE is garp, garp-reply, na, na-solicited, both, rarp or none."""
        words = line.split()
        if len(words) not in (2, 3, 4):
            self._say("usage: move VM NVE [PAUSE_MS [ANNOUNCE]]")
            return
        fields = dict(zip(("vm", "to", "pause_ms", "announce"), words, strict=False))
        try:
            move = MoveSpec.model_validate({"at_s": 0, **fields})
        except ValidationError as error:
            self._say(complaints(error))
            return
        if complaint := self._impossible(move):
            self._say(complaint)
            return
        self._moves += 1
        mover = threading.Thread(target=self._move, args=(self._moves, move))
        mover.start()
        with self._console.status(f"moving {move.vm} to {move.to}"):
            mover.join()
        self._data_centre.refresh_mininet_links()

    def _impossible(self, move: MoveSpec) -> str | None:
        if move.vm not in self._orchestrator.where:
            return f"no VM {move.vm!r}; there are {', '.join(self._orchestrator.where)}"
        if move.to not in self._data_centre.nves:
            return f"no NVE {move.to!r}; there are {', '.join(self._data_centre.nves)}"
        if self._orchestrator.where[move.vm] == move.to:
            return f"{move.vm} is at {move.to} already"
        return None

    def _move(self, number: int, move: MoveSpec) -> None:
        try:
            self._orchestrator.move(number, move).result()
            self._say(f"{move.vm} is at {move.to}; `trace` shows what happened")
        except (NvaError, OSError, RuntimeError, MoveRefused) as error:
            self._say(f"the move failed: {error}")

    def do_where(self, _line: str) -> None:
        """where: the NVE of each VM, as the hypervisors know it."""
        for vm, nve in self._orchestrator.where.items():
            self._say(f"{vm}  {nve}")

    def do_mapping(self, _line: str) -> None:
        """mapping: the NVA's directory."""
        table = _table("VM", "VNI", "MAC", "IP addresses", "NVE", "VTEP", "sequence")
        for row in self._overlay.nva.get("mapping"):
            addresses = " ".join(row["addresses"])
            cells = (row["vm"], row["vni"], row["mac"], addresses, row["nve"], row["vtep"])
            table.add_row(*map(str, cells), str(row["sequence"]))
        self._console.print(table)

    def do_flows(self, line: str) -> None:
        """flows NVE: the rules the NVA wants there, named and in pipeline order."""
        table = _table("table", "priority", "match", "actions", "why")
        for row in self._ask(line, "rules"):
            match = " ".join(f"{name}={value}" for name, value in row["match"].items())
            cells = (row["table"], row["priority"], match, ", ".join(row["actions"]))
            table.add_row(*map(str, cells), row["purpose"])
        self._console.print(table)

    def do_counters(self, line: str) -> None:
        """counters NVE: packets by rule, as the switch counts them; only rules with packets."""
        if line.strip() in self._data_centre.nves:
            self._data_centre.nves[line.strip()].bridge.follow_rules_now()  # so that all is counted
        table = _table("table", "why", "about", "packets", "bytes")
        for row in self._ask(line, "counters"):
            if row["packets"]:
                cells = (row["table"], row["purpose"], row["about"] or "", row["packets"])
                table.add_row(*map(str, cells), str(row["bytes"]))
        self._console.print(table)

    def do_trace(self, _line: str) -> None:
        """trace: what happened since the last `trace`."""
        events = sorted([*self._overlay.events(), *self._log.after()], key=lambda event: event.t_ns)
        for event in events[self._seen :]:
            since_s = (event.t_ns - events[0].t_ns) / 1e9
            details = " ".join(f"{key}={value}" for key, value in event.details.items())
            self._say(
                f"{since_s:10.4f} s  {event.source:10}  {event.name:22}  {event.subject}  {details}"
            )
        self._seen = len(events)

    def do_refused(self, _line: str) -> None:
        """refused: what NVEs dropped and the NVA refused: forged, unknown, too much; and whose."""
        table = _table("NVE", "port", "VM", "tunnel from", "what", "counted by", "packets")
        for row in self._overlay.refused():
            cells = (row["nve"], row["port"], row["vm"], row["tunnel_source"], row["what"])
            words = ["" if cell is None else str(cell) for cell in cells]
            table.add_row(*words, row["counted_by"], str(row["packets"]))
        self._console.print(table)

    def do_northbound(self, _line: str) -> None:
        """northbound: how to ask the NVA with curl from another terminal."""
        directory = self._overlay.nva.socket.parent
        self._say(
            f'curl --unix-socket {self._overlay.nva.socket} -H "Authorization: Bearer '
            f'$(cat {directory}/token)" http://nva/v1/mapping'
        )

    def _ask(self, nve: str, what: str) -> Any:
        if nve not in self._data_centre.nves:
            raise UsageError(f"no NVE {nve!r}; there are {', '.join(self._data_centre.nves)}")
        return self._overlay.nva.get(f"nves/{nve}/{what}")

    def _say(self, sentence: str) -> None:
        """Plainly: what a user has typed may look like rich's markup."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("table", "why"))
    return table
