"""Runs an attack: a process of the attacker, where the attacker is (`forger`).

`launch()` returns when it can begin, `begin()` lets it send, `collect()` ends it and says how much
it has sent.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
    """What is sent, called `name` in the trace; `start` runs a process where the attacker is."""

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
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Raises WorkloadError when the process does not come up."""
        attack = self._attack
        argv = [sys.executable, "-m", "experiments.workloads.forging.forger"]
        argv += ["--interface", attack.interface, "--rate", str(attack.rate_pps)]
        argv += ["--seconds", str(attack.duration_s)]
        pipe = subprocess.PIPE
        self._process = attack.start(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout
        if not readable(said, _LAUNCH_TIMEOUT_S) or not said.readline():
            raise WorkloadError(f"the attacker {attack.name} did not start; {self._complaint()}")

    def begin(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.writelines(f"{frame.hex()}\n" for frame in self._attack.frames)
        self._process.stdin.close()
        self._process.stdin = None

    def collect(self) -> TraceEvent:
        """What it has sent.  Raises WorkloadError when it cannot say so."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            said, complained = self._process.communicate(timeout=_END_TIMEOUT_S)
            sent = int(json.loads(said)["sent"])
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            self.stop()
            raise WorkloadError(f"the attacker {self._attack.name} did not end well") from None
        if complained:
            raise WorkloadError(f"the attacker {self._attack.name} said: {complained.strip()}")
        attack = self._attack
        details = {"attack": attack.name, "what": attack.what, "packets": sent}
        return TraceEvent(time.time_ns(), "attacker", "attack-ended", attack.victim, details)

    def stop(self) -> None:
        """Safe at any time; leaves no process."""
        if self._process is not None:
            child.end(self._process)

    def _complaint(self) -> str:
        assert self._process is not None
        self._process.kill()
        _, complained = self._process.communicate()
        return f"it said: {complained.strip()}" if complained else "it said nothing"
