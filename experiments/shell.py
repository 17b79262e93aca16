"""`vmmlab shell`: Mininet's command line with the overlay's commands beside Mininet's own.

On a topology, the data centre has two VMs of one tenant at the first NVE and one at the last; on a
scenario, the VMs and the overlay of that, with guests, standbys and tasks.  Its traffic, moves and
failures are left out.  Everything that Mininet's CLI offers works, or tells what to use instead:
`vm1 ping vm2`, `nve1 ip link`, `xterm`.  Some commands are the overlay's own
(`Capabilities.commands`).
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import needs
from experiments.errors import RunError, ScenarioError, UsageError
from experiments.overlays import MoveRefused, OverlayError, ShellCommand, ShellTable
from experiments.report.trace_text import as_json, as_line, since_moves
from experiments.run.lab import Lab
from experiments.run.lifecycle import Lifecycle
from experiments.run.run import FAILURES
from experiments.run.task_steps import TaskError
from experiments.scenario import consistency, load, yaml_source
from experiments.scenario.errors import complaints
from experiments.scenario.moves import MoveSpec
from experiments.scenario.schema import Scenario
from experiments.scenario.tasks import TaskMove
from nve.resources import MOST, Resources, named
from nve.wire.announcement import NOTHING
from topologies import catalogue
from topologies.emulation.command_line import CommandFailed, CommandLine

TENANT_VNI = 5000
PATIENCE_S = 1.0
"""How long to wait for a control plane that does not answer, while a user waits at the prompt."""


IPERF_S = 3
_RESOURCES = TypeAdapter(Resources)


def scenario_of(name: str, settings: dict[str, Any]) -> Scenario:
    """Return what is built for the name of a topology, or of a scenario or its file.

    Raises UsageError.
    """
    if name in catalogue.names():
        return load.resolve(default_scenario(name), f"topology {name}", settings)
    try:
        file = load.find(name)
    except UsageError as error:
        kinds = ", ".join(catalogue.names())
        raise UsageError(
            f"{error}; there is no such topology either; the topologies are {kinds}"
        ) from None
    return load.resolve(yaml_source.read(file), str(file), settings)


def default_scenario(kind: str) -> dict[str, Any]:
    """Return a scenario without traffic for a topology, in the form of a file."""
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


def open_shell(scenario: Scenario, console: Console, script: Path | None = None) -> int:
    """Build the lab, hand over to the user or to a script, and take everything down afterwards.

    Returns how many commands have failed.  Raises RunError when the lab cannot be built.
    """
    try:
        with console.status("starting") as status, Lab(scenario, progress=status.update) as lab:
            for hypervisor in lab.orchestrator.hypervisors.values():
                for nve in lab.data_centre.nves.values():
                    hypervisor.lay_cable(nve.edge)
            lab.data_centre.refresh_mininet_links()
            lab.standbys.begin()
            status.stop()
            shell = Shell(lab, console, script)
            return 0 if script is None and shell.isatty() else shell.failures
    except CommandFailed as failure:  # of a script
        raise RunError(str(failure)) from None
    except FAILURES as error:
        raise RunError(f"the data centre failed: {error}") from error


class Shell(CommandLine):
    """Mininet's CLI with these commands: move, where, trace, refused, iperf, onboard, adjust,
    offboard, capacity, and the commands of the overlay.
    """

    prompt = "vmmlab> "

    def __init__(self, lab: Lab, console: Console, script: Path | None = None) -> None:
        self._scenario = lab.scenario
        self._data_centre = lab.data_centre
        self._overlay = lab.overlay
        self._orchestrator = lab.orchestrator
        self._log = lab.log
        self._orchestrator.patience_s = PATIENCE_S
        self._console = console
        # The numbers before are those of take-overs.
        self._moves = len(lab.scenario.moves) + len(lab.scenario.standbys)
        self._seen = 0
        self._tasks = lab.tasks
        self._task_moves = 0
        self._own = ["move", "where", "trace"]
        if self._tasks.of:
            self._own.append("connections")
        if self._overlay.can.refused:
            self._own.append("refused")
        self._lifecycle: Lifecycle | None = None
        if admission := self._overlay.can.admission:
            self._lifecycle = Lifecycle(lab, admission)
            self._own += ["onboard", "adjust", "offboard", "capacity"]
        for name, command in self._overlay.can.commands.items():
            setattr(self, f"do_{name}", _answered(self._show, command))
            self._own.append(name)
        self.intro = (
            f"Mininet's commands work here, and: {', '.join(self._own)}.\n"
            "`help` says what they are for; `exit` ends the data centre."
        )
        super().__init__(lab.data_centre.net, script)

    def say(self, sentence: str) -> None:
        """Print without markup: what a user has typed may look like rich's markup."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def do_help(self, line: str) -> None:
        """help [COMMAND]: lists the commands, or explains one."""
        if line.strip():
            super().do_help(line)
            return
        for name in self._own:
            first, *_ = (getattr(self, f"do_{name}").__doc__ or name).splitlines()
            self.say(f"  {first.rstrip('.')}")
        inherited = {name.removeprefix("do_") for name in self.get_names() if name[:3] == "do_"}
        words = ", ".join(sorted(inherited - {*self._own, "EOF"}))
        self.say(
            f"Mininet's: {words}.\n"
            "NODE COMMAND runs a command at a node; VMs' names in it become addresses: "
            "vm1 ping -c 3 vm2; `noecho NODE COMMAND` if the command reads what is typed.\n"
            "`help COMMAND` explains a command; `exit` ends the data centre."
        )

    def do_move(self, line: str) -> None:
        """move VM NVE [PAUSE_MS [ANNOUNCE]] [KEY=VALUE …]: moves a VM; returns when that is over.
        The VM is suspended for PAUSE_MS milliseconds, 50 by default.
        ANNOUNCE is garp, garp-reply, na, na-solicited, both (the default), rarp or none.
        KEY is one of a scenario's move, as in mode=cold, transfer=post-copy or
        transfer.bandwidth_mbit=100; the state of a VM with a guest is brought over in any case.
        move TASK VM [migrate|close [hold|drop|unreachable|port-unreachable]]: moves a task."""
        words = line.split()
        if words and words[0] in self._tasks.of:
            self._move_task(words)
            return
        move = self._asked(words)
        if complaint := self._impossible(move):
            raise CommandFailed(complaint)
        self._moves += 1
        failures: list[str] = []
        mover = threading.Thread(target=self._move, args=(self._moves, move, failures))
        mover.start()
        with self._console.status(f"moving {move.vm} to {move.to}"):
            mover.join()
        self._data_centre.refresh_mininet_links()
        if failures:
            raise CommandFailed(f"the move failed: {failures[0]}")
        self.say(f"{move.vm} is at {move.to}; `trace` shows what happened")

    def _asked(self, words: Sequence[str]) -> MoveSpec:
        """Return the move that these words ask for.  Raises CommandFailed."""
        settings = [word for word in words if "=" in word]
        words = [word for word in words if "=" not in word]
        if len(words) not in (2, 3, 4):
            raise CommandFailed("usage: move VM NVE [PAUSE_MS [ANNOUNCE]] [KEY=VALUE …]")
        fields: Any = dict(zip(("vm", "to", "pause_ms", "announce"), words, strict=False))
        if fields["vm"] in self._scenario.routed:
            fields.setdefault("announce", NOTHING)
        try:
            for key, value in map(yaml_source.setting, settings):
                fields = yaml_source.changed(fields, key.split("."), value, key)
            move = MoveSpec.model_validate({"at_s": 0, **fields})
            return move.with_state() if move.vm in self._scenario.guests else move
        except ValidationError as error:
            raise CommandFailed(complaints(error)) from None
        except ScenarioError as error:
            raise CommandFailed(str(error)) from None

    def _impossible(self, move: MoveSpec) -> str | None:
        if move.vm not in self._orchestrator.where:
            return f"no VM {move.vm!r}; there are {', '.join(self._orchestrator.where)}"
        if move.to not in self._data_centre.nves:
            return f"no NVE {move.to!r}; there are {', '.join(self._data_centre.nves)}"
        if self._orchestrator.where[move.vm] == move.to:
            return f"{move.vm} is at {move.to} already"
        misfits = consistency.of_a_move(self._scenario, move, self._orchestrator.where)
        return next((f"{key}: {complaint}" for key, complaint in misfits), None)

    def _move(self, number: int, move: MoveSpec, failures: list[str]) -> None:
        try:
            self._orchestrator.move(number, move).result()
        except (OverlayError, OSError, RuntimeError, MoveRefused) as error:
            failures.append(str(error))

    def _move_task(self, words: Sequence[str]) -> None:
        task = self._tasks.of[words[0]]
        if len(words) not in (2, 3, 4):
            how = "migrate|close [hold|drop|unreachable|port-unreachable]"
            raise CommandFailed(f"usage: move TASK VM [{how}]")
        fields = dict(zip(("task", "to", "connections", "meanwhile"), words, strict=False))
        try:
            move = TaskMove.model_validate({"at_s": 0, **fields})
        except ValidationError as error:
            raise CommandFailed(complaints(error)) from None
        if move.to not in task.hosts:
            raise CommandFailed(f"{task.name} may be in {', '.join(task.hosts)}")
        if move.to == task.at:
            raise CommandFailed(f"{task.name} is in {task.at} already")
        self._task_moves += 1
        try:
            task.move(self._task_moves, move)
        except TaskError as error:
            raise CommandFailed(f"the move failed: {error}") from None
        self.say(f"{task.name} is in {task.at}; `trace` shows what happened")

    def do_connections(self, line: str) -> None:
        """connections TASK: shows the task's sockets and their states."""
        task = self._tasks.of.get(line.strip())
        if task is None:
            raise CommandFailed(f"usage: connections TASK; there are {', '.join(self._tasks.of)}")
        try:
            found = task.connections()
        except TaskError as error:
            raise CommandFailed(str(error)) from None
        headings = ("connection", "state", "cwnd", "retransmissions")
        rows = [[each[key] for key in headings] for each in found]
        self._show(ShellTable(headings, rows, headings[:1]))

    def do_where(self, _line: str) -> None:
        """where: shows the NVE of each VM, as the hypervisors know it, and the VM of each task."""
        for name, place in (*self._orchestrator.where.items(), *self._tasks.where.items()):
            self.say(f"{name}  {place}")

    def do_trace(self, line: str) -> None:
        """trace [all] [--json] [FILE]: shows the events since the last `trace`, or all events.
        Times count from the request of the move; before the first move, they are negative."""
        words = line.split()
        options = {"all", "--json"}
        files = [word for word in words if word not in options]
        if len(files) > 1 or any(file.startswith("-") for file in files):
            raise CommandFailed("usage: trace [all] [--json] [FILE]")
        if self._overlay.can.catch_up:
            self._overlay.can.catch_up()
        events = sorted(self._log.after(), key=lambda event: event.t_ns)
        shown = list(since_moves(events))[0 if "all" in words else self._seen :]
        self._seen = len(events)
        if "--json" in words:
            written = json.dumps([as_json(*each) for each in shown], indent=1)
        else:
            written = "\n".join(as_line(*each) for each in shown)
        if not files:
            if written:
                self.say(written)
            return
        try:
            Path(files[0]).write_text(f"{written}\n", encoding="utf-8")
        except OSError as error:
            raise CommandFailed(f"{files[0]}: {error.strerror}") from None
        self.say(f"{len(shown)} events are in {files[0]}")

    def do_refused(self, _line: str) -> None:
        """refused: shows what was dropped or refused (forged, unknown, too much), and whose it
        was."""
        refused = self._overlay.can.refused
        if refused is None:
            raise CommandFailed("this overlay does not count what it refuses")
        keys = ("nve", "port", "vm", "tunnel_source", "what", "counted_by", "packets")
        headings = ("NVE", "port", "VM", "tunnel from", "what", "counted by", "packets")
        try:
            rows = [[row[key] for key in keys] for row in refused()]
        except OverlayError as error:
            raise CommandFailed(str(error)) from None
        self._show(ShellTable(headings, rows))

    # -- VMs that come and go ----------------------------------------------------------------------

    def do_onboard(self, line: str) -> None:
        """onboard VM [NVE] [cpu=N] [memory_mb=N] [storage_mb=N] [processes=N]: adds a VM.
        It starts at NVE, or at any NVE whose server has room."""
        words, amounts = self._amounts(line)
        if len(words) not in (1, 2):
            raise CommandFailed("usage: onboard VM [NVE] [cpu=N] [memory_mb=N] …")
        nve = words[1] if len(words) == 2 else None
        if nve is not None and nve not in self._data_centre.nves:
            raise CommandFailed(f"no NVE {nve!r}; there are {', '.join(self._data_centre.nves)}")
        with _complaining():
            made = self._living().on_board(words[0], nve, Resources(**amounts))
        self._data_centre.refresh_mininet_links()
        self.say(f"{made.name} is at {made.nve}, with {made.ipv4} and {made.ipv6}")

    def do_adjust(self, line: str) -> None:
        """adjust VM [cpu=N] [memory_mb=N] [storage_mb=N] [processes=N]: changes its resources.
        Resources that are not named stay as they are."""
        words, amounts = self._amounts(line)
        if len(words) != 1 or not amounts:
            raise CommandFailed("usage: adjust VM cpu=N [memory_mb=N] …")
        with _complaining():
            resources = self._living().adjust(words[0], **amounts)
        self.say(f"{words[0]} has {resources}")

    def do_offboard(self, line: str) -> None:
        """offboard VM: ends the VM and frees its room."""
        name = line.strip()
        with _complaining():
            self._living().off_board(name)
        self._data_centre.refresh_mininet_links()
        self.say(f"{name} is gone")

    def do_capacity(self, _line: str) -> None:
        """capacity: shows what each server has, what is free, and which VMs use the rest."""
        self._living()
        admission = self._overlay.can.admission
        assert admission
        with _complaining():
            servers = admission.capacity()
        rows = []
        for server in servers:
            amounts = [("has", server["capacity"]), ("free", server["free"])]
            amounts += [
                (f"{vm['vm']}'s standby takes" if vm["standby"] else f"{vm['vm']} takes", vm)
                for vm in server["taken"]
            ]
            for what, amount in amounts:
                shown = ["any" if amount[key] is None else f"{amount[key]:g}" for key in MOST]
                rows.append([server["nve"], what, *shown])
        self._show(ShellTable(("NVE", "", "CPUs", "memory, MB", "storage, MB", "processes"), rows))

    def _living(self) -> Lifecycle:
        if self._lifecycle is None:
            raise CommandFailed("this overlay does not know the resources of servers")
        return self._lifecycle

    def _amounts(self, line: str) -> tuple[list[str], dict[str, Any]]:
        """Return the words of a line, and the resources that it names."""
        words = [word for word in line.split() if "=" not in word]
        given = dict(word.split("=", 1) for word in line.split() if "=" in word)
        try:
            checked = _RESOURCES.validate_python(named(given))
        except ValidationError as error:
            raise CommandFailed(complaints(error)) from None
        except ValueError as error:
            raise CommandFailed(str(error)) from None
        return words, {key: getattr(checked, key) for key in given}

    def _show(self, answer: ShellTable | str) -> None:
        if isinstance(answer, str):
            self.say(answer)
            return
        table = Table(box=None, pad_edge=False)
        for heading in answer.headings:
            table.add_column(heading, overflow="fold", no_wrap=heading in answer.whole)
        for row in answer.rows:
            # An IPv6 address in brackets must not be taken for rich's markup.
            table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
        self._console.print(table)

    # -- iperf3 in the place of iperf ------------------------------------------------------------

    def do_iperf(self, line: str) -> None:
        """iperf [VM VM]: measures TCP throughput from the first to the second, with iperf3."""
        self._iperf(line.split() or self._first_two(), [], "usage: iperf VM VM")

    def do_iperfudp(self, line: str) -> None:
        """iperfudp [RATE VM VM]: measures how much UDP of that rate (10M) arrives, with iperf3."""
        rate, *ends = line.split() or ["10M", *self._first_two()]
        self._iperf(ends, ["-u", "-b", rate], "usage: iperfudp RATE VM VM, for example 10M")

    def _first_two(self) -> list[str]:
        return list(self._data_centre.vms)[:2]

    def _iperf(self, ends: Sequence[str], options: Sequence[str], usage: str) -> None:
        if len(ends) != 2:
            raise CommandFailed(usage)
        for vm in ends:
            if vm not in self._data_centre.vms:
                raise CommandFailed(f"no VM {vm!r}; there are {', '.join(self._data_centre.vms)}")
        if shutil.which("iperf3") is None:
            raise CommandFailed(f"there is no iperf3; {needs.remedy('iperf3')}")
        source, to = ends
        address = str(self._data_centre.vms[to].spec.ipv4)
        server = self._data_centre.in_vm(
            to,
            ["iperf3", "-s", "-1", "--forceflush"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert server.stdout is not None
            while "listening" not in (told := server.stdout.readline()):
                if not told:
                    raise CommandFailed(f"iperf3 does not start at {to}")
            client = self._data_centre.in_vm(
                source,
                [
                    *("timeout", str(2 * IPERF_S + 5)),
                    *("iperf3", "-J", "-c", address, "-t", str(IPERF_S), *options),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            said, _ = client.communicate()
        finally:
            server.kill()
            server.communicate()
        self.say(_throughput(f"{source} to {to}", said))


@contextmanager
def _complaining() -> Iterator[None]:
    """Turn a refusal into a printed sentence, so that the prompt comes back."""
    try:
        yield
    except (UsageError, OverlayError, OSError, RuntimeError) as error:
        raise CommandFailed(str(error)) from None


def _throughput(ends: str, said: str) -> str:
    """Return what iperf3 has measured, in a sentence.  Raises CommandFailed with its error
    message.
    """
    try:
        told = json.loads(said)
    except ValueError:
        raise CommandFailed(f"{ends}: iperf3 does not get through") from None
    if "error" in told:
        raise CommandFailed(f"{ends}: {told['error']}")
    end = told["end"]
    received = end.get("sum_received", end.get("sum", {}))
    lost = end.get("sum", {}).get("lost_percent")
    more = "" if lost is None else f", {lost:.1f} % lost"
    return f"{ends}: {received['bits_per_second'] / 1e6:.1f} Mbit/s{more}"


def _answered(
    show: Callable[[ShellTable | str], None], command: ShellCommand
) -> Callable[[str], None]:
    """Return a command of the overlay as Mininet's command line expects it; its docstring is its
    help.
    """

    def do(line: str) -> None:
        try:
            show(command.answer(line))
        except (UsageError, OverlayError) as error:
            raise CommandFailed(str(error)) from None

    do.__doc__ = command.says
    return do
