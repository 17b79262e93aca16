"""Runs a diskless client in a VM (`client`) and reads what it has written.

`launch()` returns when the client has been told its address for the first time, `collect()` ends it
and returns what it asked, when it had its address back, and whether that was the old one.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from experiments.measure.trace import TraceEvent
from experiments.workloads import Start, WorkloadError
from experiments.workloads.rarp import talk
from nve.linux import child
from nve.linux.wait import readable
from nve.model import VmSpec

_LAUNCH_TIMEOUT_S = 20.0


@dataclass
class AddressRequest:
    """What a client did: lines of requests.csv, events of the trace, and problems."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    events: list[TraceEvent] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Diskless:
    """One client and its process."""

    def __init__(self, vm: VmSpec, prefix_length: int, directory: Path, start: Start) -> None:
        self._vm = vm
        self._prefix_length = prefix_length
        self._notes = directory / f"{vm.name}.rarp"
        self._complaints = directory / f"{vm.name}.rarp.stderr"
        self._start = start
        self._process: subprocess.Popen[str] | None = None
        self._told = 0
        """How many addresses it had got back when it was asked last."""

    def launch(self) -> None:
        """Start the client.  Raises WorkloadError if it is not told its address in time."""
        argv = [sys.executable, "-m", "experiments.workloads.rarp.client", "--mac", self._vm.mac]
        argv += ["--prefix-length", str(self._prefix_length), "--out", str(self._notes)]
        with self._complaints.open("w", encoding="utf-8") as complaints:
            self._process = self._start(
                self._vm.name,
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
        assert self._process.stdout is not None
        said = self._process.stdout
        if not readable(said, _LAUNCH_TIMEOUT_S) or not said.readline():
            raise WorkloadError(self._failure("was not told its address when it started"))

    def new_events(self) -> list[TraceEvent]:
        """Return the addresses that it has got back since the last call."""
        restored = [request for request in self._requests() if request.used][self._told :]
        self._told += len(restored)
        return [self._restored(request) for request in restored]

    def _requests(self) -> list[talk.Request]:
        if not self._notes.exists():
            return []
        return talk.requests(self._notes.read_text(encoding="utf-8").splitlines(keepends=True))

    def collect(self) -> AddressRequest:
        """End the client and return what it did, with the events that `new_events` has not
        returned.
        """
        asked = AddressRequest()
        if self._process is None or self._process.poll() is not None:
            asked.problems.append(self._failure("ended before the run did"))
        self.stop()
        made = self._requests()
        asked.rows = talk.rows(self._vm.name, made)
        asked.events = self.new_events()
        wrong = sorted({r.answer for r in made if r.answer} - {str(self._vm.ipv4)})
        asked.problems += [
            f"the diskless client in {self._vm.name} was told {address}, not {self._vm.ipv4}"
            for address in wrong
        ]
        return asked

    def stop(self) -> None:
        """End the client; this is safe at any time and leaves no process."""
        if self._process is not None:
            child.end(self._process)

    def _restored(self, request: talk.Request) -> TraceEvent:
        assert request.answered_ns is not None
        details = {
            "address": request.answer,
            "attempts": request.attempt,
            "round_trip_ms": request.round_trip_ms,
        }
        name = self._vm.name
        return TraceEvent(request.answered_ns, name, "address-restored", name, details)

    def _failure(self, what: str) -> str:
        said = (
            self._complaints.read_text(encoding="utf-8").strip()
            if self._complaints.exists()
            else ""
        )
        failure = f"the diskless client in {self._vm.name} {what}"
        return f"{failure}; it said: {said}" if said else failure
