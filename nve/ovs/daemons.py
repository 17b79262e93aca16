"""The two daemons of one NVE: ovsdb-server and ovs-vswitchd, started, asked and ended."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nve.linux.namespace import inside, run
from nve.linux.wait import wait_until

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_VSWITCHD = "/usr/sbin/ovs-vswitchd"


class Daemons:
    """A pair of daemons in the network namespace of a process, with a directory of their own."""

    def __init__(self, name: str, pid: int, directory: Path) -> None:
        """`name` is for errors; `pid` is a process in the namespace."""
        self._name = name
        self._pid = pid
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make ovs-vsctl and similar tools talk to these daemons, not to the
        machine's.
        """
        return {f"OVS_{kind}DIR": str(self._directory) for kind in ("RUN", "DB", "LOG")}

    def create_database(self) -> None:
        """Make the directory, with an empty database in it."""
        self._directory.mkdir(parents=True)
        run(["ovsdb-tool", "create", self._database, _SCHEMA])

    def start_database(self) -> None:
        """Start ovsdb-server; return when it answers.

        Raises RuntimeError if it ends, and TimeoutError.
        """
        remote = f"--remote=punix:{self._socket}"
        self._spawn("ovsdb-server", "ovsdb-server", self._database, remote)
        wait_until(self._database_missing, START_TIMEOUT_S)

    def start_switch(self) -> int:
        """Start ovs-vswitchd; return its process id."""
        self._spawn("ovs-vswitchd", _VSWITCHD, f"unix:{self._socket}")
        return self.switch_pid

    @property
    def alive(self) -> bool:
        """Whether both daemons run."""
        processes = list(self._processes)
        return len(processes) == 2 and all(process.poll() is None for process in processes)

    @property
    def switch_pid(self) -> int:
        """The process id of ovs-vswitchd.  Raises RuntimeError if it was not started."""
        if len(self._processes) != 2:
            raise RuntimeError(f"{self._name}: its switch does not run")
        return self._processes[1].pid

    def rss_kib(self) -> int:
        """Return the resident memory of both daemons, in KiB."""
        return sum(_rss_kib(process.pid) for process in self._processes)

    def ask(self, *argv: str) -> str:
        """Run a tool that talks to the daemons; return what it prints.  Raises RuntimeError."""
        try:
            return run(argv, env=os.environ | self.environment)
        except RuntimeError as error:
            raise RuntimeError(f"{self._name}: {error}; logs are in {self._directory}") from None

    def kill(self) -> None:
        """End both at once."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def stop(self) -> None:
        """End the daemons in order, in whatever state they are."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    @property
    def _socket(self) -> Path:
        return self._directory / "db.sock"

    @property
    def _database(self) -> str:
        return str(self._directory / "conf.db")

    def _spawn(self, daemon: str, program: str, *arguments: str) -> None:
        argv: Sequence[str] = [
            *(program, *arguments, "--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off")
        ]
        with (
            open(self._directory / f"{daemon}.out", "wb") as output,
            inside(self._pid),
        ):
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                # Ctrl-C is for the run, which then stops the daemons in order.
                start_new_session=True,
            )
        self._processes.append(process)

    def _database_missing(self) -> str | None:
        if self._processes[0].poll() is not None:
            said = (self._directory / "ovsdb-server.out").read_text(encoding="utf-8").strip()
            raise RuntimeError(f"{self._name}: ovsdb-server ended at once: {said}")
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self._socket))
            except OSError as error:  # the socket is not there, or nobody listens on it yet
                return f"{self._name}: ovsdb-server does not answer at {self._socket}: {error}"
        return None


def _rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
