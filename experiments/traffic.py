"""A scenario's traffic on a data centre: probes and workloads, started in step."""

import random
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.probes.fleet import Probed, ProbeFleet
from experiments.probes.udp import FlowPlan, Plan, flow_name
from experiments.scenario import Scenario, TcpBulk, UdpProbe
from experiments.workloads.iperf3 import FIRST_PORT, BulkPlan, WorkloadError
from experiments.workloads.iperf3 import TcpBulk as Transfer
from nve.model import VmSpec
from nve.wait import wait_until
from topologies.emulation import DataCentre

REACHABLE_TIMEOUT_S = 20.0
FINISH_SLACK_S = 30.0
TRANSFER_SLACK_S = 15.0


class Traffic:
    """`launch`, `begin`, and after the experiment `collect`; `stop` is safe at any time."""

    def __init__(self, data_centre: DataCentre, scenario: Scenario, directory: Path) -> None:
        self._data_centre = data_centre
        self._scenario = scenario
        self._vms = {vm.name: vm for vm in scenario.vms()}
        names = _Names()
        probes = [flow for flow in scenario.traffic if isinstance(flow, UdpProbe)]
        plan = Plan(
            nonce=random.Random(scenario.seed).getrandbits(32),
            duration_s=scenario.duration_s,
            flows=tuple(
                FlowPlan(
                    names.unique(flow_name(flow.source, flow.destination, flow.family)),
                    flow.source,
                    flow.destination,
                    _address(self._vms[flow.destination], flow.family),
                    flow.rate_pps,
                    flow.size_bytes,
                )
                for flow in probes
            ),
        )
        self._fleet = ProbeFleet(plan, directory / "probes", data_centre.in_vm)
        bulks = [flow for flow in scenario.traffic if isinstance(flow, TcpBulk)]
        self._transfers = [
            Transfer(
                BulkPlan(
                    names.unique(flow_name(flow.source, flow.destination, flow.family)),
                    flow.source,
                    flow.destination,
                    _address(self._vms[flow.destination], flow.family),
                    scenario.duration_s,
                    FIRST_PORT + number,
                    flow.rate_mbit,
                ),
                data_centre.in_vm,
            )
            for number, flow in enumerate(bulks)
        ]

    def await_reachable(self) -> None:
        """Returns when every flow's destination answers its source, so that nothing is cold.

        One after the other, so that the trace of every run begins alike.
        """
        for flow in self._scenario.traffic:
            wait_until(partial(self._unreachable, flow), REACHABLE_TIMEOUT_S)

    def _unreachable(self, flow: UdpProbe | TcpBulk) -> str | None:
        ping = self._data_centre.in_vm(
            flow.source,
            ["ping", "-q", "-c", "1", "-W", "1", self._address(flow)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if ping.wait() == 0:
            return None
        return f"{flow.destination} does not answer a ping of {flow.source} over {flow.family}"

    def launch(self) -> None:
        self._fleet.launch()
        for transfer in self._transfers:
            transfer.launch()

    def begin(self) -> int:
        """Everything starts to send; returns that time in ns since the epoch."""
        start_ns = self._fleet.begin()
        time.sleep(max(0.0, (start_ns - time.time_ns()) / 1e9))
        for transfer in self._transfers:
            transfer.begin()
        return start_ns

    def collect(self) -> tuple[Probed, pd.DataFrame | None]:
        """Waits for the end; the probes' packets and the throughput of TCP, if there is any.

        A transfer that measured nothing is a problem of the run, which keeps what the rest of it
        measured.
        """
        timeout_s = self._scenario.duration_s + FINISH_SLACK_S
        probed = self._fleet.collect(timeout_s)
        transferred = []
        for transfer in self._transfers:
            try:
                transferred.append(transfer.collect(TRANSFER_SLACK_S))
            except WorkloadError as error:
                probed.problems.append(str(error))
        return probed, pd.concat(transferred, ignore_index=True) if transferred else None

    def stop(self) -> None:
        self._fleet.stop()
        for transfer in self._transfers:
            transfer.stop()

    def _address(self, flow: Any) -> str:
        return _address(self._vms[flow.destination], flow.family)


class _Names:
    """Names flows apart: a second flow between the same ends gets `#2` behind its name."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def unique(self, name: str) -> str:
        self._times[name] = self._times.get(name, 0) + 1
        return name if self._times[name] == 1 else f"{name}#{self._times[name]}"


def _address(vm: VmSpec, family: str) -> str:
    return str(vm.ipv4 if family == "ipv4" else vm.ipv6)
