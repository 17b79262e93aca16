"""The name server of a run: Knot DNS in a VM, authoritative for one zone that is updated.

Only the run knows its key.
"""

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, Final, Protocol

import dns.exception
import dns.message
import dns.query

from nve.linux import child
from nve.linux.namespace import inside
from nve.linux.wait import wait_until
from nve.model import IPAddress
from nve.task.names import ALGORITHM, PORT, UpdateKey

PROGRAM: Final = "knotd"
START_TIMEOUT_S: Final = 20.0

_ZONE: Final = Template(
    """$$ORIGIN $zone.
@ 60 SOA ns hostmaster 1 3600 600 86400 0
@ 60 NS ns
"""
)
"""The last number of the SOA: nobody remembers that a name is not there (RFC 2308)."""

_CONFIGURATION: Final = Template(
    """server:
    rundir: "$directory"
    user: root:root
    listen: [ $listen ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: error
database:
    storage: "$directory"
    journal-db-mode: asynchronous
key:
  - id: $key
    algorithm: $algorithm
    secret: "$secret"
acl:
  - id: updates
    key: $key
    action: update
zone:
  - domain: $zone
    storage: "$directory"
    file: zone
    acl: updates
    zonefile-sync: -1
    journal-content: changes
"""
)
"""An update is answered without waiting for a disk: the zone is not needed after the run."""


class NameServerDied(RuntimeError):
    """The name server has not started; the message says why."""


class Hosts(Protocol):
    """The VMs in which it may run."""

    def in_vm(self, vm: str, argv: Sequence[str], **popen: Any) -> Any:
        """Start a process in a VM."""


class NameServer:
    """One zone at one VM.  `close` is safe at any time."""

    def __init__(
        self,
        hosts: Hosts,
        vm: str,
        pid: int,
        addresses: tuple[IPAddress, ...],
        zone: str,
        directory: Path,
    ) -> None:
        """`pid` is a process in the VM's network namespace; `directory` is for the server's own
        files.
        """
        self.addresses = addresses
        self.zone = zone
        self.key = UpdateKey.new()
        self._directory = directory
        self._pid = pid
        self._vm = vm
        records = [f"ns 60 {'A' if each.version == 4 else 'AAAA'} {each}\n" for each in addresses]
        self._write("zone", _ZONE.substitute(zone=zone) + "".join(records))
        listen = ", ".join(f"{each}@{PORT}" for each in addresses)
        configuration = _CONFIGURATION.substitute(
            directory=self._directory,
            listen=listen,
            key=self.key.name,
            algorithm=ALGORITHM,
            secret=self.key.secret,
            zone=zone,
        )
        file = self._write("knot.conf", configuration)
        self._log = self._directory / "log"
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[bytes] = hosts.in_vm(
                vm, [PROGRAM, "-c", str(file)], stdout=log, stderr=log
            )

    def _write(self, name: str, text: str) -> Path:
        file = self._directory / name
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
        return file

    def await_ready(self) -> None:
        """Return when it answers for its zone.  Raises NameServerDied."""
        try:
            wait_until(self._silent, START_TIMEOUT_S, 0.02)
        except TimeoutError as error:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip()
            self.close()
            raise NameServerDied(f"the name server in {self._vm}: {error}; {said}") from None

    def _silent(self) -> str | None:
        if self._process.poll() is not None:
            return f"{PROGRAM} has ended"
        address = self.addresses[0]
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with inside(self._pid), socket.socket(family, socket.SOCK_DGRAM) as opened:
            opened.setblocking(False)
            question = dns.message.make_query(f"{self.zone}.", "SOA")
            try:
                answer = dns.query.udp(question, str(address), timeout=0.2, sock=opened)
            except (dns.exception.DNSException, OSError) as error:
                return str(error)
        return None if answer.answer else "it does not know its zone"

    def close(self) -> None:
        child.end(self._process)
