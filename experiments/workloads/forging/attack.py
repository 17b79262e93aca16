"""Runs an attack: a process of the attacker, where the attacker is (`forger`).

`launch()` returns when it can begin, `begin()` lets it send, `new_events()` returns its reports so
far, `collect()` ends it and returns the rest.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.measure.trace import TraceEvent
from experiments.workloads import WorkloadError
from nve.linux import child
from nve.linux.wait import readable

_LAUNCH_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Attack:
    """What is sent, under the `name` used in the trace; `start` runs a process where the attacker
    is.
    """

    name: str
    victim: str
    what: str
    interface: str
    frames: Sequence[bytes]
    rate_pps: float
    duration_s: float
    start: Callable[..., Any]
    """start(argv, **popen)"""


class Forgery:
    """One attack and its process."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self._process: subprocess.Popen[bytes] | None = None
        self._said = bytearray()
        """What it has said of a line that is not whole yet."""
        self._ended = False
        """Whether it has said how much it has sent."""

    def launch(self) -> None:
        """Start the process.  Raises WorkloadError if that fails."""
        attack = self._attack
        argv = [sys.executable, "-m", "experiments.workloads.forging.forger"]
        argv += ["--interface", attack.interface, "--rate", str(attack.rate_pps)]
        argv += ["--seconds", str(attack.duration_s)]
        pipe = subprocess.PIPE
        self._process = attack.start(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._process.stdout is not None
        said = self._process.stdout
        if not readable(said, _LAUNCH_TIMEOUT_S) or not said.readline():
            raise WorkloadError(f"the attacker {attack.name} did not start; {self._complaint()}")

    def begin(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.writelines(f"{frame.hex()}\n".encode() for frame in self._attack.frames)
        self._process.stdin.close()
        self._process.stdin = None

    def new_events(self) -> list[TraceEvent]:
        """Return what it has reported since the last call."""
        assert self._process is not None
        assert self._process.stdout is not None
        said = self._process.stdout
        while readable(said, 0) and (octets := os.read(said.fileno(), 65536)):
            self._said += octets
        return self._told()

    def collect(self) -> list[TraceEvent]:
        """Return what `new_events` has not returned.

        Raises WorkloadError if the process cannot report what it has sent.
        """
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            said, complained = self._process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.stop()
            said, complained = b"", b""
        self._said += said
        told = self._told()
        if complained:
            complaint = complained.decode(errors="replace").strip()
            raise WorkloadError(f"the attacker {self._attack.name} said: {complaint}")
        if not self._ended:
            raise WorkloadError(f"the attacker {self._attack.name} did not end well")
        return told

    def _told(self) -> list[TraceEvent]:
        *lines, rest = bytes(self._said).split(b"\n")
        self._said = bytearray(rest)
        return [self._event(json.loads(line)) for line in lines]

    def _event(self, told: Mapping[str, int]) -> TraceEvent:
        attack = self._attack
        details: dict[str, object] = {"attack": attack.name, "what": attack.what}
        if began_ns := told.get("began_ns"):
            return TraceEvent(began_ns, "attacker", "attack-began", attack.victim, details)
        self._ended = True
        details["packets"] = told["sent"]
        return TraceEvent(told["ended_ns"], "attacker", "attack-ended", attack.victim, details)

    def stop(self) -> None:
        """End the process; this is safe at any time and leaves none."""
        if self._process is not None:
            child.end(self._process)

    def _complaint(self) -> str:
        assert self._process is not None
        self._process.kill()
        _, complained = self._process.communicate()
        complaint = complained.decode(errors="replace").strip()
        return f"it said: {complaint}" if complaint else "it said nothing"
