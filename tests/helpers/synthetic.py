"""A plausible result without a network: two variants of a scenario with two moves.

Delays, pauses and stale entries are drawn from a seeded generator, so that every run of it writes
the same packets.  Plots and reports are developed and tested with it; nothing in it is a
measurement, and its manifest says so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.measure import metrics
from experiments.measure.packets import NEVER
from experiments.measure.recording import Recorder, RunRecorder
from experiments.measure.trace import TraceEvent
from experiments.probes.pacing import NS_PER_S

START_NS = 1_700_000_000 * NS_PER_S
DURATION_S = 11.0
PAUSE_S = 0.050
STALE_S = {"nve1": 0.004, "nve2": 0.9, "nve3": 1.87}
"""How long after a resume a correspondent's NVE keeps its old entry."""
IDLE_S = 2.0
MOVES = [(1, 3.0, "nve1", "nve2"), (2, 7.5, "nve2", "nve1")]
HOMES = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
TO_VM1 = [f"{vm}>vm1/{family}" for vm in ("vm2", "vm3", "vm4") for family in ("ipv4", "ipv6")]


def write_result(out: Path, rate_pps: int = 1000) -> Path:
    """Write a result with the variants `drop` and `tunnel`."""
    with Recorder.create(out, variants=["drop", "tunnel"]) as recorder:
        recorder.overall(scenario("drop", rate_pps), {"name": "synthetic", "command": ["made up"]})
        for seed, variant in enumerate(("drop", "tunnel")):
            record(recorder.run(variant), variant, rate_pps, seed)
    return out


def record(
    run: RunRecorder,
    variant: str,
    rate_pps: int,
    seed: int = 0,
    *,
    probed: bool = True,
    moved: bool = True,
) -> None:
    """Write all files of a run; without packets unless `probed`, without moves unless `moved`."""
    packets = make_packets(variant, rate_pps, seed)
    events = list(make_events(variant, rate_pps))
    if not probed:
        packets = packets.iloc[:0]
    if not moved:
        events = [event for event in events if not event.subject]
    run.scenario(scenario(variant, rate_pps))
    run.events(events)
    run.packets(packets)
    run.rows("tcp-bulk", make_throughput(variant, seed))
    run.moves(metrics.table(packets, events, HOMES))
    run.manifest(make_manifest(variant, packets))


def scenario(variant: str, rate_pps: int) -> dict[str, Any]:
    ends = [(flow.split(">")[0], flow.rsplit("/")[1]) for flow in TO_VM1]
    return {
        "name": "synthetic",
        "says": "Made-up packets: the same two moves without and with the in-flight tunnel.",
        "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 1}},
        "tenants": [{"vni": 5000, "vms": HOMES}],
        "overlay": {"kind": "nvo3", "mapping_update": "pull", "in_flight": variant},
        "traffic": [
            {"kind": "udp-probe", "from": vm, "to": "vm1", "family": family, "rate_pps": rate_pps}
            for vm, family in ends
        ],
        "moves": [
            {"at_s": at_s, "vm": "vm1", "to": to, "mode": "hot", "pause_ms": PAUSE_S * 1000}
            for _, at_s, _, to in MOVES
        ],
        "duration_s": DURATION_S,
        "seed": 1,
    }


def make_packets(variant: str, rate_pps: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.concat([_flow(flow, variant, rate_pps, random) for flow in TO_VM1], ignore_index=True)


def _flow(flow: str, variant: str, rate_pps: int, random: np.random.Generator) -> pd.DataFrame:
    correspondent_nve = HOMES[flow.split(">")[0]]
    count = int(DURATION_S * rate_pps)
    seq = np.arange(count)
    late_ns = random.exponential(40_000, count).astype(np.int64)
    sent_ns = START_NS + seq * NS_PER_S // rate_pps + late_ns
    sent_s = (sent_ns - START_NS) / NS_PER_S
    place = np.full(count, HOMES["vm1"], dtype=object)
    for _, at_s, _, to in MOVES:
        place[sent_s >= _resumed_s(at_s)] = to
    delay_ms = np.where(place == correspondent_nve, 0.06, 2.2) * random.lognormal(0, 0.08, count)
    lost = np.zeros(count, dtype=bool)
    for _, at_s, _, _ in MOVES:
        paused = (sent_s >= _resumed_s(at_s) - PAUSE_S) & (sent_s < _resumed_s(at_s))
        stale_until_s = _resumed_s(at_s) + STALE_S[correspondent_nve]
        stale = (sent_s >= _resumed_s(at_s)) & (sent_s < stale_until_s)
        lost |= paused
        if variant == "drop":
            lost |= stale
        else:
            delay_ms[stale] += 2.3 * random.lognormal(0, 0.1, stale.sum())
    received_ns = np.where(lost, NEVER, sent_ns + (delay_ms * 1e6).astype(np.int64))
    arrived = np.flatnonzero(~lost)
    rx_index = np.full(count, NEVER)
    rx_index[arrived[np.argsort(received_ns[arrived], kind="stable")]] = np.arange(len(arrived))
    table = pd.DataFrame(
        {
            "flow": pd.Series([flow] * count, dtype="str"),
            "seq": seq.astype(np.int64),
            "sent_ns": sent_ns,
            "received_ns": pd.array(received_ns, dtype="Int64"),
            "copies": (~lost).astype(np.int32),
            "late_ns": late_ns,
            "rx_index": pd.array(rx_index, dtype="Int64"),
        }
    )
    table.loc[lost, ["received_ns", "rx_index"]] = pd.NA
    return table


def make_events(variant: str, rate_pps: int) -> Iterator[TraceEvent]:
    yield _event(-0.3, "runner", "run-started")
    yield _event(0.0, "runner", "traffic-started")
    for number, at_s, source, destination in MOVES:
        yield from _move_events(number, at_s, source, destination, variant, rate_pps)
    yield _event(DURATION_S, "runner", "traffic-stopped")
    yield _event(DURATION_S + 2, "runner", "run-ended")


def _move_events(
    number: int, at_s: float, source: str, destination: str, variant: str, rate_pps: int
) -> Iterator[TraceEvent]:
    def of_move(after_s: float, who: str, name: str, **details: Any) -> TraceEvent:
        return _event(at_s + after_s, who, name, "vm1", move=number, **details)

    resumed_s = _resumed_s(at_s) - at_s
    converged_s = resumed_s + max(STALE_S.values())
    yield of_move(0, "runner", "move-requested", **{"from": source, "to": destination})
    yield of_move(0.003, "nva", "move-accepted")
    yield of_move(0.006, "hypervisor", "pre-associated")
    yield of_move(0.009, "nva", "move-prepared")
    yield of_move(0.012, "nva", "move-redirected")
    yield of_move(resumed_s - PAUSE_S, "hypervisor", "vm-paused")
    yield of_move(resumed_s - 0.001, "hypervisor", "nic-flipped")
    yield of_move(resumed_s, "hypervisor", "vm-resumed")
    yield of_move(resumed_s + 0.0004, "hypervisor", "announced", form="garp")
    yield of_move(resumed_s + 0.002, "nva", "announcement-received", nve=destination, form="garp")
    yield of_move(resumed_s + 0.003, "nva", "mapping-updated")
    for nve, stale_s in STALE_S.items():
        yield of_move(resumed_s + stale_s, "nva", "entry-pulled", nve=nve)
    yield of_move(converged_s + 0.001, "nva", "move-converged")
    packets = round(2 * rate_pps * (STALE_S["nve2"] + STALE_S["nve3"]))
    yield of_move(
        converged_s + IDLE_S,
        "nva",
        "in-flight-ended",
        purpose="in-flight" if variant == "tunnel" else "departed",
        packets=packets,
        bytes=packets * 142,
        lifetime_ms=(converged_s + IDLE_S) * 1000,
    )
    yield of_move(
        converged_s + IDLE_S + 0.002,
        "nva",
        "move-completed",
        packets_via_source_after_convergence=0,
    )
    yield of_move(converged_s + IDLE_S + 0.01, "hypervisor", "de-associated")


def make_throughput(variant: str, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(100 + seed)
    end_s = np.arange(0.1, DURATION_S + 0.05, 0.1)
    megabits = random.normal(8.0, 0.25, len(end_s))
    retransmits = np.zeros(len(end_s), dtype=int)
    silence_s = max(STALE_S.values()) if variant == "drop" else 0.2
    for _, at_s, _, _ in MOVES:
        silent = (end_s > at_s + 0.02) & (end_s < at_s + 0.1 + silence_s)
        megabits[silent] = 0.0
        retransmits[silent] = random.integers(0, 3, silent.sum())
    return pd.DataFrame(
        {
            "t_ns": START_NS + (end_s * NS_PER_S).astype(np.int64),
            "flow": "vm4>vm1/ipv4#2",
            "bits_per_second": np.maximum(megabits, 0) * 1e6,
            "retransmits": retransmits,
        }
    )


def make_manifest(variant: str, packets: pd.DataFrame) -> dict[str, Any]:
    senders = {
        vm: {
            "scheduling": "fifo",
            "stopped_early": False,
            "flows": {
                flow: {"sent": len(rows), "skipped": 0, "slow_sends": 0, "send_errors": {}}
                for flow, rows in packets.groupby("flow")
                if str(flow).startswith(vm)
            },
        }
        for vm in ("vm2", "vm3", "vm4")
    }
    return {
        "name": f"synthetic {variant}",
        "valid": True,
        "problems": ["the packets are made up; nothing was measured"],
        "command": ["made up"],
        "seed": 1,
        "datapath": "none",
        "link_emulator": "none",
        "framework": "none",
        "kernel": "none",
        "cpu_count": 2,
        "probes": {
            "waiting_time_s": 2.0,
            "senders": senders,
            "receivers": {"vm1": {"overflow": 0, "foreign": 0}},
        },
    }


def _resumed_s(at_s: float) -> float:
    return at_s + 0.014 + PAUSE_S


def _event(at_s: float, source: str, name: str, subject: str = "", **details: Any) -> TraceEvent:
    return TraceEvent(START_NS + round(at_s * NS_PER_S), source, name, subject, details)
