"""Runs programs in VMs that begin at a given time and write lines until they are ended.

Each prints a line when it is ready, and reads the time to start from a line on its standard input.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from experiments.workloads import Stage, WorkloadError
from nve.linux import child
from nve.linux.wait import readable

_LAUNCH_TIMEOUT_S = 60.0


class NotingProcess:
    """One program and its process; `flow` is its name in the results."""

    def __init__(
        self, flow: str, module: str, arguments: Sequence[str], stage: Stage, vm: str, notes: Path
    ) -> None:
        """The program is told with `--out` where to write its notes."""
        self.problems: list[str] = []
        self.flow = flow
        self._vm = vm
        self._start = stage.in_vm
        self._notes = notes
        self._argv = [sys.executable, "-m", module, *arguments, "--out", str(notes)]
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Start the program.  Raises WorkloadError if that fails."""
        self._process = self._start(
            self._vm, self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        if not readable(self._process.stdout, _LAUNCH_TIMEOUT_S) or not (
            self._process.stdout.readline()
        ):
            raise WorkloadError(f"the client {self.flow} did not start")

    def begin(self, start_ns: int) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{start_ns}\n")
        self._process.stdin.flush()

    def noted(self) -> list[str]:
        """End the program and return its lines, of which the last may be incomplete."""
        if self._process is None or self._process.poll() is not None:
            self.problems.append(f"the client {self.flow} ended before the run did")
        self.stop()
        return self._notes.read_text(encoding="utf-8").splitlines(keepends=True)

    def stop(self) -> None:
        """End the program; this is safe at any time and leaves no process."""
        if self._process is not None:
            child.end(self._process)


P = TypeVar("P", bound=NotingProcess)


class NotingProcesses(Generic[P]):
    """All clients of one kind in a run, which are ended when the run is over."""

    ends_by_itself = False

    def __init__(self, clients: Sequence[P]) -> None:
        self.clients = clients

    def launch(self) -> None:
        for client in self.clients:
            client.launch()

    def begin(self, start_ns: int) -> None:
        for client in self.clients:
            client.begin(start_ns)

    @property
    def problems(self) -> list[str]:
        return [problem for each in self.clients for problem in each.problems]

    def stop(self) -> None:
        for client in self.clients:
            client.stop()
