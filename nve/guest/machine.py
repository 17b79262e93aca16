"""A guest as its hypervisor holds it: its memory and disk on one server, and its process.

During a move there are two: the one that runs, and one at the destination that waits for its pages.
The memory is a memfd, which several processes may map; the disk is a file of the server.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nve.guest.dirty_log import DirtyLog, log_size
from nve.guest.replica import ReplicaRole
from nve.guest.spec import PAGE_SIZE, SERVICE_PORT, GuestSpec
from nve.linux import child
from nve.linux.ipv6 import udp_socket
from nve.linux.namespace import inside
from nve.linux.wait import readable

READY_TIMEOUT_S = 60.0
NO_FILE = -1


class GuestError(Exception):
    """A guest did not start or has ended; the message says which guest, and what it reported."""


@dataclass(frozen=True)
class PairedWith:
    """What one of two instances needs of the other (`nve.guest.replica`)."""

    socket: socket.socket
    """Connected to the other one's."""
    token: bytes
    role: ReplicaRole


class GuestMachine:
    """A guest at one server.  `start(argv, **popen)` starts a process in the VM."""

    def __init__(
        self, name: str, spec: GuestSpec, directory: Path, serving: int, *, stored: bool = False
    ) -> None:
        """Allocate memory and disk, both empty.

        `name` is the VM's, with a number if it has several; `serving` is the service's socket.  If
        the memory is `stored`, it is in a file of the server until it is loaded.  Raises GuestError
        if there is no room.
        """
        self.name = name
        self.spec = spec
        self.address = 0
        """The address of the memory in the guest's process."""
        self._serving = serving
        self._process: subprocess.Popen[str] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._stored_path = directory / f"{name}.memory"
        if stored:
            self.memory = self._file(self._stored_path)
        else:
            self.memory = os.memfd_create(f"{name}-memory")
            os.ftruncate(self.memory, spec.memory_pages * PAGE_SIZE)
        self.log_file = os.memfd_create(f"{name}-log")
        os.ftruncate(self.log_file, log_size(spec.pages))
        self.log = DirtyLog(self.log_file, spec.pages)
        self.disk, self._disk_path = NO_FILE, directory / f"{name}.disk"
        self._complaints = directory / f"{name}.guest"
        if stored:
            self._reserve(self.memory, "memory", spec.memory_pages * PAGE_SIZE)
        if spec.disk_pages:
            self.disk = self._file(self._disk_path)
            self._reserve(self.disk, "disk", spec.disk_pages * PAGE_SIZE)

    @staticmethod
    def _file(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def _reserve(self, file: int, what: str, octets: int) -> None:
        """Allocate all of a file at once.

        So a full server is reported before anything is brought over, and not by a signal at a later
        write.
        """
        try:
            os.posix_fallocate(file, 0, octets)
        except OSError as error:
            self.close()
            raise GuestError(
                f"there is no room for the {what} of {self.name}, {octets >> 20} MB: "
                f"{error.strerror}"
            ) from None

    def load(self) -> None:
        """Load what is stored into memory."""
        stored, size = self.memory, self.spec.memory_pages * PAGE_SIZE
        self.memory = os.memfd_create(f"{self.name}-memory")
        done = 0
        while done < size:
            done += os.sendfile(self.memory, stored, done, size - done)
        os.close(stored)
        self._stored_path.unlink()

    @property
    def pid(self) -> int:
        assert self._process, f"the guest in {self.name} was not started"
        return self._process.pid

    def launch(
        self,
        start: Any,
        *,
        incoming: bool = False,
        without_pages: int | None = None,
        protected: bool = False,
        pair: PairedWith | None = None,
    ) -> None:
        """Start the guest, or one that waits for its pages; `await_ready` follows.

        `without_pages`: it may go on before they are there; over this socket it gives what it takes
        to put them there.  `protected`: the kernel notes what it writes, too.  `pair`: it is one of
        two instances.
        """
        files = [self.memory, self.log_file, self.disk, self._serving]
        argv = [sys.executable, "-m", "nve.guest.process", self.spec.line(), *map(str, files)]
        if without_pages is not None:
            argv += ["--without-pages", str(without_pages)]
            files.append(without_pages)
        if pair is not None:
            descriptor = pair.socket.fileno()
            argv += ["--pair", str(descriptor), pair.token.hex(), pair.role.value]
            files.append(descriptor)
        with self._complaints.open("w", encoding="utf-8") as complaints:
            self._process = start(
                argv + ["--incoming"] * incoming + ["--protected"] * protected,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pass_fds=[file for file in files if file != NO_FILE],
                text=True,
            )

    def await_ready(self) -> None:
        """Wait until the guest is ready.  Raises GuestError if it is not in time."""
        if self.address:
            return
        assert self._process
        assert self._process.stdout
        said = self._process.stdout
        line = said.readline() if readable(said, READY_TIMEOUT_S) else ""
        if not line:
            raise GuestError(self._failure("did not start"))
        self.address = json.loads(line)["address"]

    def go_on(self) -> None:
        """Tell an incoming guest that its pages are there: it continues when the VM does."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def go_on_alone(self) -> None:
        """The other instance answers nobody any more (`nve.guest.replica`)."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write("alone\n")
        self._process.stdin.flush()

    def failure(self) -> str | None:
        """Return a sentence that says why the guest is not as it should be, or None."""
        if self._process is None or self._process.poll() is not None:
            return self._failure("has ended")
        if self.log.broken:
            return f"the guest in {self.name} found {self.log.broken} pages broken"
        return None

    def _failure(self, what: str) -> str:
        said = ""
        if self._complaints.exists():
            said = self._complaints.read_text(encoding="utf-8").strip()
        failure = f"the guest in {self.name} {what}"
        return f"{failure}; it said: {said.splitlines()[-1]}" if said else failure

    def kill(self) -> None:
        """Kill the guest, frozen or not, so that it never runs again; `end` follows."""
        if self._process and self._process.poll() is None:
            self._process.kill()

    def end(self) -> None:
        """End the guest, frozen or not; its memory and its disk stay."""
        if self._process is not None:
            child.end(self._process)

    def close(self) -> None:
        """Free memory and disk; this is safe at any time and more than once."""
        self.end()
        for file in (self.memory, self.log_file, self.disk):
            if file != NO_FILE:
                os.close(file)
        self.memory = self.log_file = self.disk = NO_FILE
        self._disk_path.unlink(missing_ok=True)
        self._stored_path.unlink(missing_ok=True)


def service_socket(vm_pid: int) -> socket.socket:
    """Return the socket of a VM's service, over IPv4 and IPv6; it belongs to the VM's kernel."""
    with inside(vm_pid):
        return udp_socket(SERVICE_PORT)
