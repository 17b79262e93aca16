"""`vmmlab shell`: Mininet's command line with the overlay's commands beside Mininet's own.

The data centre has two VMs of one tenant at the first NVE and one at the last, none of them sending
by itself.  Everything that Mininet's CLI offers works: `vm1 ping vm2`, `nve1 ip link`, `xterm`.
Some commands are the overlay's own (`Capabilities.commands`).
"""

import threading
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from experiments.errors import RunError, UsageError
from experiments.overlays import MoveRefused, OverlayError, ShellCommand, ShellTable
from experiments.run.lab import Lab
from experiments.run.run import FAILURES
from experiments.scenario.errors import complaints
from experiments.scenario.moves import MoveSpec
from experiments.scenario.schema import Scenario
from topologies import catalogue
from topologies.emulation.nodes import CommandLine

TENANT_VNI = 5000
PATIENCE_S = 1.0
"""For a control plane that does not answer, while somebody waits at the prompt."""


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
                    hypervisor.lay_cable(nve.edge)
            lab.data_centre.refresh_mininet_links()
            status.stop()
            Shell(lab, console)
    except FAILURES as error:
        raise RunError(f"the data centre failed: {error}") from error


class Shell(CommandLine):  # type: ignore[misc]
    """Mininet's CLI and: move, where, trace, refused, and the commands of the overlay."""

    prompt = "vmmlab> "

    def __init__(self, lab: Lab, console: Console) -> None:
        self._data_centre = lab.data_centre
        self._overlay = lab.overlay
        self._orchestrator = lab.orchestrator
        self._log = lab.log
        self._orchestrator.patience_s = PATIENCE_S
        self._console = console
        self._moves = 0
        self._seen = 0
        own = ["move", "where", "trace"]
        if self._overlay.can.refused:
            own.append("refused")
        for name, command in self._overlay.can.commands.items():
            setattr(self, f"do_{name}", _answered(self._show, command))
            own.append(name)
        self.intro = (
            f"Mininet's commands work here, and: {', '.join(own)}.\n"
            "`help move` explains one; `exit` ends the data centre."
        )
        super().__init__(lab.data_centre.net)

    def onecmd(self, line: str) -> bool:
        """A mistake ends in a sentence, not in the end of the data centre."""
        try:
            return bool(super().onecmd(line))
        except (UsageError, OverlayError) as error:
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
        except (OverlayError, OSError, RuntimeError, MoveRefused) as error:
            self._say(f"the move failed: {error}")

    def do_where(self, _line: str) -> None:
        """where: the NVE of each VM, as the hypervisors know it."""
        for vm, nve in self._orchestrator.where.items():
            self._say(f"{vm}  {nve}")

    def do_trace(self, _line: str) -> None:
        """trace: what happened since the last `trace`."""
        if self._overlay.can.catch_up:
            self._overlay.can.catch_up()
        events = sorted(self._log.after(), key=lambda event: event.t_ns)
        for event in events[self._seen :]:
            since_s = (event.t_ns - events[0].t_ns) / 1e9
            details = " ".join(f"{key}={value}" for key, value in event.details.items())
            self._say(
                f"{since_s:10.4f} s  {event.source:10}  {event.name:22}  {event.subject}  {details}"
            )
        self._seen = len(events)

    def do_refused(self, _line: str) -> None:
        """refused: what was dropped or refused: forged, unknown, too much; and whose it was."""
        refused = self._overlay.can.refused
        if refused is None:
            self._say("this overlay does not count what it refuses")
            return
        keys = ("nve", "port", "vm", "tunnel_source", "what", "counted_by", "packets")
        headings = ("NVE", "port", "VM", "tunnel from", "what", "counted by", "packets")
        self._show(ShellTable(headings, [[row[key] for key in keys] for row in refused()]))

    def _show(self, answer: ShellTable | str) -> None:
        if isinstance(answer, str):
            self._say(answer)
            return
        table = Table(box=None, pad_edge=False)
        for heading in answer.headings:
            table.add_column(heading, overflow="fold", no_wrap=heading in answer.whole)
        for row in answer.rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        self._console.print(table)

    def _say(self, sentence: str) -> None:
        """Plainly: what a user has typed may look like rich's markup."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _answered(
    show: Callable[[ShellTable | str], None], command: ShellCommand
) -> Callable[[str], None]:
    """A command of the overlay as Mininet's command line wants it; its text is what `help` says."""

    def do(line: str) -> None:
        show(command.answer(line))

    do.__doc__ = command.says
    return do
