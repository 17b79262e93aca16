"""A scenario's traffic on a data centre: probes and workloads, started in step."""

import random
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measure.event_log import EventLog
from experiments.measure.results import REQUEST_COLUMNS
from experiments.probes.fleet import Probed, ProbeFleet
from experiments.probes.udp import FlowPlan, Plan, flow_name
from experiments.scenario.attacks import ForgerySpec
from experiments.scenario.schema import Scenario
from experiments.scenario.traffic import FlowSpec, TcpBulkSpec, UdpProbeSpec
from experiments.workloads import WorkloadError, forged
from experiments.workloads.diskless import Diskless
from experiments.workloads.forgery import Attack, Forgery
from experiments.workloads.iperf3 import FIRST_PORT, BulkPlan, TcpBulk
from nve.hypervisor.plug import NIC
from nve.linux.wait import wait_until
from nve.model import VmSpec
from topologies.configuration import TENANT_PREFIX_LENGTH
from topologies.emulation.data_centre import DataCentre
from topologies.spec import Port

REACHABLE_TIMEOUT_S = 20.0
FINISH_SLACK_S = 30.0
TRANSFER_SLACK_S = 15.0


@dataclass(frozen=True)
class Measured:
    """What a run's traffic measured; None for a kind of traffic that it had none of."""

    probed: Probed
    throughput: pd.DataFrame | None
    requests: pd.DataFrame | None


class RunTraffic:
    """`launch`, `begin`, and after the experiment `collect`; `stop` is safe at any time."""

    def __init__(
        self, data_centre: DataCentre, scenario: Scenario, directory: Path, log: EventLog
    ) -> None:
        self._data_centre = data_centre
        self._scenario = scenario
        self._log = log
        self._vms = {vm.name: vm for vm in scenario.vms()}
        names = _Names()
        probes = [flow for flow in scenario.traffic if isinstance(flow, UdpProbeSpec)]
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
        bulks = [flow for flow in scenario.traffic if isinstance(flow, TcpBulkSpec)]
        self._transfers = [
            TcpBulk(
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
        prefix_length = TENANT_PREFIX_LENGTH[4]
        self._clients = [
            Diskless(self._vms[vm], prefix_length, directory, data_centre.in_vm)
            for vm in scenario.diskless
        ]
        self._attacks = [Forgery(self._attack(forgery)) for forgery in scenario.forgeries]

    def _attack(self, forgery: ForgerySpec) -> Attack:
        """What the attacker sends, and where it is: in a VM, or on the victim's NVE's wire."""
        victim, fabric = self._vms[forgery.victim], self._data_centre.fabric
        if forgery.source is not None:
            frames = forged.of_vm(forgery.what, self._vms[forgery.source], victim)
            interface, start = NIC, partial(self._data_centre.in_vm, forgery.source)
        else:
            uplink = fabric.uplink(victim.nve)
            networks = frozenset(vm.vni for vm in self._vms.values())
            vteps, vtep = frozenset(fabric.vteps.values()), fabric.vteps[victim.nve]
            wire = forged.Wire(vtep, fabric.macs[uplink], vteps, networks)
            frames = forged.of_stranger(forgery.what, wire, victim)
            interface = Port(uplink.peer, uplink.node).interface
            start = partial(self._data_centre.in_node, uplink.peer)
        return Attack(
            forgery.name,
            forgery.victim,
            forgery.what,
            interface,
            frames,
            forgery.rate_pps,
            self._scenario.duration_s,
            start,
        )

    def await_reachable(self) -> None:
        """Returns when every flow's destination answers its source, so that nothing is cold.

        One after the other, so that the trace of every run begins alike.
        """
        for flow in self._scenario.flows:
            wait_until(partial(self._unreachable, flow), REACHABLE_TIMEOUT_S)

    def _unreachable(self, flow: FlowSpec) -> str | None:
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
        for client in self._clients:
            client.launch()
        for attack in self._attacks:
            attack.launch()

    def begin(self) -> int:
        """Everything starts to send; returns that time in ns since the epoch."""
        start_ns = self._fleet.begin()
        time.sleep(max(0.0, (start_ns - time.time_ns()) / 1e9))
        for transfer in self._transfers:
            transfer.begin()
        for attack in self._attacks:
            attack.begin()
        return start_ns

    def collect(self) -> Measured:
        """Waits for the end.

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
        asked = [client.collect() for client in self._clients]
        probed.problems.extend(problem for each in asked for problem in each.problems)
        rows = [row for each in asked for row in each.rows]
        for event in (event for each in asked for event in each.events):
            self._log.append(event)
        for attack in self._attacks:
            try:
                self._log.append(attack.collect())
            except WorkloadError as error:
                probed.problems.append(str(error))
        requests = pd.DataFrame(rows, columns=REQUEST_COLUMNS).astype({"answered_ns": "Int64"})
        return Measured(
            probed,
            pd.concat(transferred, ignore_index=True) if transferred else None,
            requests if asked else None,
        )

    def stop(self) -> None:
        self._fleet.stop()
        for transfer in self._transfers:
            transfer.stop()
        for client in self._clients:
            client.stop()
        for attack in self._attacks:
            attack.stop()

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
