"""Drives the probe processes of a run: start, begin in step, collect.

The caller says how a program is started inside a VM; everything else, from the plan on disk to the
table of packets, is here.  In order: `launch()` (returns when every process is ready), `begin()`,
then the experiment, then `collect()`.  `stop()` is safe at any time and leaves no process.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.probes import samples
from experiments.probes.accounting import RECEIVED_COLUMNS, SENT_COLUMNS, Int64s, account
from experiments.probes.progress import ProbeProgress, SoFar
from experiments.probes.udp import Plan
from nve.linux import child
from nve.linux.wait import readable

Spawn = Callable[..., "subprocess.Popen[str]"]
"""spawn(vm, argv, **popen): starts a program in the VM's network namespace and cgroup."""

WAITING_TIME_S = 2.0
"""How long receivers listen after the last packet was due, in seconds (Tmax of RFC 7679)."""

_READY_TIMEOUT_S = 60.0
"""Software emulation on a busy machine took more than 20 s to start a receiver."""
_STOP_TIMEOUT_S = 10.0
_STAGGER_S = 0.05
"""The time between the starts of VMs, so that the effects of their first packets (an NVE asks, an
entry is installed and later expires) come in the same order in every run."""
LEAD_S = 0.2
"""The time between telling the first sender when to start and that start: enough to tell all."""


class ProbeError(Exception):
    """A probe process failed; the message says which one, and what it reported."""


@dataclass(frozen=True)
class Probed:
    """What the probes of a run measured."""

    packets: pd.DataFrame
    summary: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    """Sentences: why these packets must not be read as the network's doing.  Empty in a valid run.
    """


class ProbeFleet:
    """One sender per source VM and one receiver per destination VM."""

    def __init__(self, plan: Plan, directory: Path, spawn: Spawn) -> None:
        self._plan = plan
        self._directory = directory
        self._spawn = spawn
        self._senders: dict[str, subprocess.Popen[str]] = {}
        self._receivers: dict[str, subprocess.Popen[str]] = {}
        self._progress = ProbeProgress(WAITING_TIME_S)
        self._pipes = selectors.DefaultSelector()
        self._heard: dict[int, bytes] = {}
        """What each pipe has brought of a line."""

    def launch(self) -> None:
        """Start all processes and return when each has reported that it is ready."""
        self._directory.mkdir(parents=True, exist_ok=True)
        plan_path = self._directory / "plan.json"
        plan_path.write_text(self._plan.to_json(), encoding="utf-8")
        for vm in self._plan.destinations:
            self._receivers[vm] = self._start("receiver", vm, plan_path, "--vm", vm)
        for vm in self._plan.sources:
            self._senders[vm] = self._start("sender", vm, plan_path, "--vm", vm)
        for role, processes in (("receiver", self._receivers), ("sender", self._senders)):
            for vm, process in processes.items():
                self._await_ready(role, vm, process)
                assert process.stdout is not None
                self._pipes.register(process.stdout, selectors.EVENT_READ, vm)

    def begin(self, start_ns: int | None = None) -> int:
        """Tell every sender when to start, by default soon; return the first start in ns since the
        epoch.
        """
        start_ns = start_ns or time.time_ns() + int(LEAD_S * 1e9)
        for place, process in enumerate(self._senders.values()):
            assert process.stdin is not None
            own_start_ns = start_ns + place * int(_STAGGER_S * 1e9)
            process.stdin.write(json.dumps({"start_ns": own_start_ns}) + "\n")
            process.stdin.flush()
        return start_ns

    def so_far(self) -> SoFar | None:
        """Return what is known while packets flow, or None before that; call it about once a
        second.
        """
        for key, _ in self._pipes.select(timeout=0):
            self._hear(key.fd, key.data)
        return self._progress.so_far(time.time())

    def _hear(self, pipe: int, vm: str) -> None:
        try:
            octets = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return
        if not octets:
            self._pipes.unregister(pipe)
        *lines, self._heard[pipe] = (self._heard.get(pipe, b"") + octets).split(b"\n")
        for message in map(json.loads, lines):
            take = {"sent": self._progress.sent, "received": self._progress.received}
            if message.get("told") in take:
                take[message["told"]](vm, message["flows"], message["at_s"])

    def collect(self, timeout_s: float, waiting_time_s: float = WAITING_TIME_S) -> Probed:
        """Wait for the senders and then the waiting time, and return what was measured.

        Raises ProbeError, and OSError if samples found no room on the disk.
        """
        deadline = time.monotonic() + timeout_s
        unwritten: list[OSError] = []
        for vm, process in self._senders.items():
            unwritten += self._finish("sender", vm, process, deadline - time.monotonic())
        time.sleep(waiting_time_s)
        for vm, process in self._receivers.items():
            process.terminate()
            unwritten += self._finish("receiver", vm, process, _STOP_TIMEOUT_S)
        if unwritten:  # the other processes have written their samples
            raise unwritten[0]
        sent_summaries, sent = self._read("sender", self._senders, len(SENT_COLUMNS))
        received_summaries, received = self._read(
            "receiver", self._receivers, len(RECEIVED_COLUMNS)
        )
        accounted = account([flow.name for flow in self._plan.flows], sent, received)
        summary = {
            "waiting_time_s": waiting_time_s,
            "senders": sent_summaries,
            "receivers": received_summaries,
        }
        return Probed(accounted.packets, summary, problems(summary, accounted.unmatched))

    def stop(self) -> None:
        self._pipes.close()
        for process in (*self._senders.values(), *self._receivers.values()):
            child.end(process)

    def _start(self, role: str, vm: str, plan_path: Path, *more: str) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-m", f"experiments.probes.{role}", "--plan", str(plan_path)]
        argv += ["--out", str(self._samples_path(role, vm)), *more]
        with self._complaints_path(role, vm).open("w", encoding="utf-8") as complaints:
            return self._spawn(
                vm,
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def _await_ready(self, role: str, vm: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        if not readable(process.stdout, _READY_TIMEOUT_S) or not process.stdout.readline():
            if process.poll() is not None or readable(process.stdout, 0):
                self._raise_if_full(role, vm, process.wait(_STOP_TIMEOUT_S))
            raise ProbeError(self._failure(role, vm, "did not become ready"))

    def _finish(
        self, role: str, vm: str, process: "subprocess.Popen[str]", timeout_s: float
    ) -> list[OSError]:
        """Wait for a process to end; return the error if it could not write its samples to a full
        disk.
        """
        try:
            status = process.wait(max(timeout_s, 0))
        except subprocess.TimeoutExpired:
            raise ProbeError(self._failure(role, vm, "did not end in time")) from None
        try:
            self._raise_if_full(role, vm, status)
        except OSError as unwritten:
            return [unwritten]
        if status != 0:
            raise ProbeError(self._failure(role, vm, f"ended with status {status}"))
        return []

    def _raise_if_full(self, role: str, vm: str, status: int) -> None:
        if status in samples.FULL:
            raise OSError(status, os.strerror(status), str(self._samples_path(role, vm)))

    def _failure(self, role: str, vm: str, what: str) -> str:
        said = self._complaints_path(role, vm).read_text(encoding="utf-8").strip()
        return f"the probe {role} in {vm} {what}" + (f"; it said: {said}" if said else "")

    def _read(self, role: str, vms: Iterable[str], columns: int) -> tuple[dict[str, Any], Int64s]:
        summaries, tables = {}, [np.empty((0, columns), dtype=np.int64)]
        for vm in vms:
            summaries[vm], values = samples.read(self._samples_path(role, vm))
            tables.append(np.asarray(values, dtype=np.int64).reshape(-1, columns))
        return summaries, np.concatenate(tables)

    def _samples_path(self, role: str, vm: str) -> Path:
        return self._directory / f"{vm}.{role}.samples"

    def _complaints_path(self, role: str, vm: str) -> Path:
        return self._directory / f"{vm}.{role}.stderr"


def problems(summary: dict[str, Any], unmatched: int) -> list[str]:
    """Return sentences that say why the packets must not be read as the network's behaviour."""
    found = []
    for vm, receiver in summary["receivers"].items():
        if receiver["overflow"]:
            found.append(
                f"the receiver in {vm} dropped {receiver['overflow']} packets itself; "
                "they are counted as lost although the network delivered them: lower rate_pps"
            )
    for vm, sender in summary["senders"].items():
        if sender["stopped_early"]:
            found.append(f"the sender in {vm} was stopped before its last packet was due")
    if unmatched:
        found.append(f"{unmatched} packets arrived that no sender has recorded")
    return found
