"""Mininet's command line, with the changes that this data centre needs.

What is typed or pasted while a command runs is kept for the next prompt.  Mininet passes it to the
command, key by key, through a buffer that swallows whole lines.  Here only an interactive command
(a shell, an editor, or any after `noecho`) gets it, and only at a terminal.

Commands that fail are counted: a script ends at the first one.  A mistake is a `CommandFailed` with
a sentence, or what Mininet logs as an error.
"""

import logging
import os
import readline
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mininet.cli import CLI
from mininet.log import lg, output
from mininet.term import makeTerms, runX11
from mininet.util import quietRun

from nve.linux.wait import all_readable
from topologies.emulation.nodes import NveNode

INTERACTIVE = frozenset(
    {
        *("vi", "vim", "nano", "emacs", "less", "more", "top", "htop", "watch"),
        *("telnet", "ssh", "ftp", "nc", "ncat", "socat", "vtysh", "gdb"),
    }
)
INTERACTIVE_ALONE = frozenset({"bash", "sh", "dash", "zsh", "python", "python3", "ipython3"})
"""Programs that are interactive unless they are given something to do."""

_LONGEST_INPUT = 4096


class CommandFailed(Exception):
    """A command did not do what was asked for; the message is a sentence."""


class _Errors(logging.Handler):
    """Counts what Mininet logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, _record: logging.LogRecord) -> None:
        self.count += 1


class CommandLine(CLI):  # type: ignore[misc]
    """The commands of Mininet.  A subclass adds its own, which may raise `CommandFailed`."""

    def __init__(self, net: Any, script: Path | None = None) -> None:
        """Run until the user ends it, or to the end of a script."""
        self.failures = 0
        """How many commands have failed."""
        self._gets_input = False
        for handler in lg.handlers:  # the output of commands belongs between that of the shell
            handler.setStream(sys.stdout)
        errors = _Errors()
        lg.addHandler(errors)
        self._errors = errors
        try:
            super().__init__(net, script=script)
        finally:
            lg.removeHandler(errors)
            for terminal in net.terms:
                terminal.terminate()

    @classmethod
    def initReadline(cls) -> None:  # noqa: N802 (Mininet's name)
        """Treat lines that are pasted together as several commands, not one with line ends in
        it.
        """
        super().initReadline()
        readline.parse_and_bind("set enable-bracketed-paste off")

    def say(self, sentence: str) -> None:
        """Print an error message."""
        output(f"{sentence}\n")

    def onecmd(self, line: str) -> bool:
        """Carry out a line; a mistake prints a sentence and does not end the data centre."""
        before = self._errors.count
        ends: object = False
        try:
            ends = super().onecmd(line)
        except CommandFailed as failure:
            self.failures += 1
            if str(failure):
                self.say(str(failure))
        except Exception as error:  # Mininet's own commands raise all sorts for a wrong word
            self.failures += 1
            self.say(f"that did not work: {type(error).__name__}: {error}")
        else:
            self.failures += self._errors.count > before
        return bool(ends)

    # -- commands at a node ----------------------------------------------------------------------

    def default(self, line: str) -> None:
        """NODE COMMAND: runs it there; a VM's name stands for its address."""
        name, _, command = line.strip().partition(" ")
        if name not in self.mn:
            super().default(line)
            return
        super().default(f"{name} {command}")
        node = self.mn[name]
        if command and node.shell is not None and not node.waiting:
            status = node.cmd("echo $?").strip()
            if status.isdecimal() and status != "0":
                raise CommandFailed("")  # it has printed its own message

    def waitForNode(self, node: Any) -> None:  # noqa: N802 (Mininet's name)
        """Print the output of a command until it ends; Ctrl-C goes to the command."""
        interactive = self.isatty() and (self._gets_input or is_interactive(str(node.lastCmd)))
        with _by_character(interactive):
            while node.waiting:
                try:
                    if interactive:
                        self._pass_input_on(node)
                    else:
                        output(node.monitor())
                except KeyboardInterrupt:
                    node.sendInt()

    def _pass_input_on(self, node: Any) -> None:
        ready = all_readable([self.stdin, node.stdout], None)
        if self.stdin in ready:
            node.write(os.read(self.stdin.fileno(), _LONGEST_INPUT).decode(errors="replace"))
        if node.stdout in ready:
            output(node.monitor())

    def do_noecho(self, line: str) -> None:
        """noecho NODE COMMAND: runs a command that reads what is typed, without echo."""
        self._gets_input = True
        try:
            super().do_noecho(line)
        finally:
            self._gets_input = False

    # -- commands of its own ---------------------------------------------------------------------

    def do_sh(self, line: str) -> None:
        """sh COMMAND: runs it on this machine, outside of the data centre."""
        stdin = None if self.isatty() else subprocess.DEVNULL
        if subprocess.call(line, shell=True, stdin=stdin) != 0:
            raise CommandFailed("")

    def do_source(self, line: str) -> None:
        """source FILE: runs the commands in it, up to the first that fails."""
        words = shlex.split(str(line))
        if len(words) != 1:
            raise CommandFailed("usage: source FILE")
        try:
            commands = Path(words[0]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"error reading file {words[0]}: {error}") from None
        for number, written in enumerate(commands, start=1):
            command = self.precmd(written).strip()
            if not command:
                continue
            output(f"{self.prompt}{command}\n")
            before = self.failures
            if self.onecmd(command):
                return
            if self.failures > before:
                raise CommandFailed(f"{words[0]}:{number}: this failed: {command}")

    def do_py(self, line: str) -> None:
        """py EXPRESSION: prints its value in Python; nodes have their names: py vm1.IP()"""
        try:
            value = eval(line, globals(), self.getLocals())
        except Exception as error:
            raise CommandFailed(f"{type(error).__name__}: {error}") from None
        if value is not None:
            output(f"{value}\n")

    def do_px(self, line: str) -> None:
        """px STATEMENT: executes it in Python; nodes have their names."""
        try:
            exec(line, globals(), self.getLocals())
        except Exception as error:
            raise CommandFailed(f"{type(error).__name__}: {error}") from None

    def do_switch(self, line: str) -> None:
        """switch NVE stop|start: kills its switch, which loses its rules, or starts it again."""
        match line.split():
            case [name, "stop" | "start" as action]:
                node = self.mn.nameToNode.get(name)
                if not isinstance(node, NveNode):
                    nves = ", ".join(each.name for each in self._nves())
                    raise CommandFailed(
                        f"no NVE {name!r}; there are {nves}; "
                        "`link NODE NODE down` cuts the underlay"
                    )
                try:
                    node.stop(deleteIntfs=False) if action == "stop" else node.start([])
                except RuntimeError as error:
                    raise CommandFailed(str(error)) from None
            case _:
                raise CommandFailed("usage: switch NVE stop|start")

    def do_wait(self, _line: str) -> None:
        """wait: checks that the switch of every NVE runs."""
        for nve in self._nves():
            if not nve.connected():
                raise CommandFailed(f"{nve.name} is stopped; `switch {nve.name} start`")
        output("every NVE runs\n")

    def do_dpctl(self, line: str) -> None:
        """dpctl COMMAND: asks the switch of every NVE, as in dpctl dump-flows."""
        words = line.split()
        if not words:
            raise CommandFailed("usage: dpctl COMMAND, for example dpctl dump-flows")
        for nve in self._nves():
            output(f"*** {nve.name} {'-' * 72}\n", nve.dpctl(*words))

    def _nves(self) -> Iterator[NveNode]:
        return (node for node in self.mn.switches if isinstance(node, NveNode))

    def do_xterm(self, line: str, term: str = "xterm") -> None:
        """xterm NODE...: opens a terminal at each."""
        nodes = self._of_names(line, f"usage: {term} NODE...")
        self._need_display(nodes[0], "gnome-terminal" if term == "gterm" else term)
        self.mn.terms += makeTerms(nodes, term=term)

    def do_gterm(self, line: str) -> None:
        """gterm NODE...: opens a gnome-terminal at each."""
        self.do_xterm(line, term="gterm")

    def do_x(self, line: str) -> None:
        """x NODE [COMMAND]: runs a graphical program at a node."""
        name, _, command = line.partition(" ")
        (node,) = self._of_names(name, "usage: x NODE [COMMAND]")
        self._need_display(node, "socat")
        self.mn.terms += runX11(node, command.split())

    def _of_names(self, line: str, usage: str) -> list[Any]:
        if not line.split():
            raise CommandFailed(usage)
        for name in line.split():
            if name not in self.mn:
                raise CommandFailed(f"no node {name!r}; `nodes` names them")
        return [self.mn[name] for name in line.split()]

    @staticmethod
    def _need_display(node: Any, program: str) -> None:
        lacking = None
        if "DISPLAY" not in os.environ:
            lacking = "there is no display here (DISPLAY is not set)"
        elif not quietRun(f"which {program}").strip():
            lacking = f"there is no {program}; apt-get install {program}"
        if lacking:
            raise CommandFailed(
                f"{lacking}; in another terminal, `mnexec -a {node.pid} bash` is a shell at "
                f"{node.name}"
            )


def is_interactive(command: str) -> bool:
    """Return whether the program that a command starts reads what is typed."""
    words = command.split()
    program = os.path.basename(words[0]) if words else ""
    operands = [word for word in words[1:] if not word.startswith("-") or word == "-c"]
    return program in INTERACTIVE or (program in INTERACTIVE_ALONE and not operands)


@contextmanager
def _by_character(interactive: bool) -> Iterator[None]:
    """Pass keys on one by one for the block, as an interactive command needs them."""
    if interactive:
        quietRun("stty -icanon min 1")
    try:
        yield
    finally:
        if interactive:
            quietRun("stty icanon")
        sys.stdout.flush()
