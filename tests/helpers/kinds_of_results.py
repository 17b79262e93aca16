"""One small result of every kind that figures and reports have to handle.

They are written once and read by many tests; nothing in them is a measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measure import metrics, standby_costs
from experiments.measure.recording import Recorder
from experiments.measure.rows import ITERATIONS, TAKEOVERS
from experiments.measure.standby_costs import StandbyCost
from experiments.measure.trace import TraceEvent
from experiments.sweep import Sweep, cells
from experiments.workloads import ask, fetch
from tests.helpers import many_moves, synthetic
from tests.helpers.packets import MS, START_NS, packets

HOMES = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve3"}
PLAN = {"scenario": {"name": "x"}}


def write(
    recorder: Recorder,
    sent: pd.DataFrame,
    events: Sequence[TraceEvent],
    *,
    run_name: str | None = None,
    homes: dict[str, str] | None = None,
    seed: int = 1,
    connections: Sequence[dict[str, Any]] = (),
) -> None:
    """Write one run with these packets, events, and connections of tasks."""
    homes = homes or HOMES
    run = recorder.run(run_name)
    scenario = {**synthetic.scenario("tunnel", 100), "tenants": [{"vms": homes}], "seed": seed}
    run.scenario(scenario)
    run.manifest({"name": run_name or "odd", "valid": True, "problems": [], "seed": seed})
    run.events(list(events))
    run.packets(sent)
    run.moves(metrics.table(sent, list(events), homes))
    if connections:
        run.connections(connections)


def single(out: Path, sent: pd.DataFrame, events: Sequence[TraceEvent], **more: Any) -> None:
    with Recorder.create(out) as recorder:
        write(recorder, sent, events, **more)


def at(ms: float, name: str, source: str = "nva", move: int = 1, **details: Any) -> TraceEvent:
    t_ns = START_NS + round(ms * MS)
    return TraceEvent(t_ns, source, name, "vm1", {"move": move, **details})


def requested(ms: float, move: int = 1, to: str = "nve2", **more: Any) -> TraceEvent:
    asked = {"from": "nve1", "to": to, "pause_ms": 10, **more}
    return at(ms, "move-requested", "runner", move, **asked)


def without_moves(out: Path) -> None:
    single(out, packets([1.0] * 50), [TraceEvent(START_NS, "runner", "run-started")])


def without_packets(out: Path) -> None:
    events = [requested(0), at(5, "vm-paused"), at(15, "vm-resumed"), at(30, "move-completed")]
    single(out, packets([]), events)


def of_one_packet(out: Path) -> None:
    events = [requested(0), at(5, "vm-paused"), at(15, "vm-resumed"), at(30, "move-completed")]
    single(out, packets([3.0]), events)


def all_lost(out: Path) -> None:
    single(out, packets([None] * 40), [requested(5), at(9, "vm-paused"), at(19, "vm-resumed")])


def of_many_moves(out: Path) -> None:
    many_moves.write_result(out, moves=40, lost=range(310, 340))


def of_many_flows(out: Path) -> None:
    homes = {"vm1": "nve1", **{f"peer{number}": f"nve{number % 9 + 1}" for number in range(40)}}
    sent = [
        packets([1.0 + number * 0.1] * 30 + [None] * 3 + [2.0] * 30, f"peer{number}>vm1/ipv4")
        for number in range(40)
    ]
    events = [requested(20), at(30, "vm-paused"), at(33, "vm-resumed"), at(50, "move-completed")]
    single(out, pd.concat(sent), events, homes=homes)


def not_completed(out: Path) -> None:
    """Write a result with a move that is rolled back before the VM is suspended, one that is
    refused, and one that fails while the VM is suspended and has no end.
    """
    events = [
        *(requested(10), at(20, "move-prepared"), at(30, "move-rolled-back")),
        *(requested(50, 2), at(51, "move-refused", move=2)),
        *(requested(80, 3, "nve3"), at(90, "vm-paused", "hypervisor", 3)),
        at(95, "failure-injected", "runner", 3, kind="nve-dies", failure=1),
        at(120, "move-failed", move=3),
    ]
    single(out, packets([1.0] * 90 + [None] * 60), events)


def only_refused(out: Path) -> None:
    single(out, packets([1.0] * 60), [requested(20), at(21, "move-refused")])


def without_an_nva(out: Path) -> None:
    """Write a result of an overlay that learns by itself: only hypervisors and orchestrator have
    events.
    """
    events = [
        requested(20),
        at(22, "pre-associated", "hypervisor", nve="nve2"),
        at(30, "vm-paused", "hypervisor", nve="nve1"),
        at(40, "nic-flipped", "hypervisor", nve="nve2"),
        at(41, "vm-resumed", "hypervisor", nve="nve2"),
        at(41.5, "parts-of-pause", "hypervisor", thaw_ms=0.1),
        at(42, "announced", "hypervisor", form="garp"),
        at(60, "entry-learnt-from-traffic", "nve3"),
        at(80, "de-associated", "hypervisor", nve="nve1"),
        at(81, "move-completed", "runner"),
    ]
    single(out, packets([1.0] * 29 + [None] * 12 + [2.0] * 80), events)


def with_state(out: Path) -> None:
    """Write a result with four VMs that write ever faster; the last transfer is ended by force."""
    rates_mb_s = {"vm1": 1.0, "vm2": 4.8, "vm3": 7.2, "vm4": 12.0}
    guests = {
        vm: {"nve": "nve1", "guest": {"memory_mb": 16, "writes": {"rate_mb_s": rate}}}
        for vm, rate in rates_mb_s.items()
    }
    events, rounds = [], []
    for number, vm in enumerate(rates_mb_s, start=1):
        began_ms = 1000 * number
        why = "forced" if number == 4 else "converged"
        ended_ms = began_ms + 100 * number
        story = [
            requested(began_ms, number),
            at(
                began_ms + 1,
                "transfer-connected",
                move=number,
                transfer="pre-copy",
                state_bytes=number << 24,
            ),
            at(ended_ms, "transfer-rounds-ended", move=number, why=why),
            at(ended_ms, "vm-paused", move=number),
            at(began_ms + 120 * number, "vm-resumed", move=number),
            at(began_ms + 200 * number, "move-completed", move=number),
        ]
        events += [replace(event, subject=vm) for event in story]
        values = dict.fromkeys(ITERATIONS.columns, 1) | {"move": number, "vm": vm, "mbps": 80.0}
        rounds += [
            {**values, "status": status, "began_ns": START_NS + began_ms * 1_000_000 + place}
            for place, status in enumerate(("active", "device", "postcopy-active"))
        ]
    with Recorder.create(out) as recorder:
        run = recorder.run()
        moves = [{"transfer": {"kind": "pre-copy", "downtime_limit_ms": 100}}] * len(guests)
        run.scenario({"name": "x", "tenants": [{"vms": guests}], "moves": moves, "seed": 1})
        run.manifest({"name": "state", "valid": True, "problems": [], "seed": 1})
        run.events(events)
        run.packets(packets([]))
        run.moves(metrics.table(packets([]), events, dict.fromkeys(guests, "nve1")))
        run.iterations(rounds)
        run.rows("tcp-bulk", synthetic.make_throughput("tunnel", 1))


def task_event(ms: float, name: str, move: int = 1, **details: Any) -> TraceEvent:
    t_ns = START_NS + round(ms * MS)
    return TraceEvent(t_ns, "runner", name, "web", {"task_move": move, **details})


def claim(ms: float, address: str, before: str, now: str) -> TraceEvent:
    """What is heard of the task's addresses: it names the VM that has them now."""
    details = {"address": address, "before": before, "nve": "nve2"}
    return TraceEvent(START_NS + round(ms * MS), "nva", "address-claimed", now, details)


def with_task_moves(out: Path) -> None:
    """A task moves to another VM; on its way back it fails, and goes on where it was."""
    there: dict[str, Any] = {"from": "vm1", "to": "vm2"}
    back: dict[str, Any] = {"from": "vm2", "to": "vm1"}
    events = [
        task_event(0, "task-move-requested", connections="migrate", **there),
        task_event(30, "task-connected", **there),
        task_event(31, "address-configured", host="vm2"),
        task_event(32, "task-stopped", host="vm1"),
        task_event(34, "task-packaged", connections=2, bytes=653_473),
        task_event(39, "task-sent"),
        task_event(39.1, "task-instantiated", host="vm2"),
        task_event(40, "task-restarted", host="vm2", freeze_ms=8.0),
        claim(40.5, "192.168.9.50", "vm1", "vm2"),
        claim(41, "fd77::9:50", "vm1", "vm2"),
        task_event(1040, "record-ended", host="vm1", forwarded=13, dropped=0),
        task_event(1041, "task-move-completed"),
        task_event(2000, "task-move-requested", 2, **back),
        task_event(2030, "task-move-failed", 2, step="connect", why="nobody answers"),
        task_event(2031, "task-move-undone", 2),
    ]
    went = {"move": 1, "task": "web", "from_vm": "vm1", "to_vm": "vm2", "fate": "migrated"}
    took = {"freeze_ms": 8.0, "package_ms": 2.0, "transfer_ms": 5.0, "restore_ms": 0.5}
    rows = [{**went, **took, "gap_ms": gap_ms, "resets": 0} for gap_ms in (9.0, None)]
    single(out, packets([]), events, connections=rows)


def with_standbys(out: Path) -> None:
    """Write a result with two take-overs; nobody has sent requests to the third VM's service."""
    lost: dict[str, Any] = dict.fromkeys(TAKEOVERS.columns, 1) | {
        "kind": "warm",
        "vm": "vm1",
        "outcome": "completed",
    }
    rows = [
        {**lost, "interval_s": 0.5, "lost_age_ms": 300.0, "silence_ms": 900.0, "lost_requests": 15},
        {
            **lost,
            "interval_s": 8.0,
            "lost_age_ms": 0.0,
            "lost_requests": 0,
            "silence_ms": 4000.0,
            "kind": "cold",
        },
        {**lost, "lost_age_ms": None, "silence_ms": None, "counter_after": None},
        {**lost, "kind": "hot", "vm": "vm3", "interval_s": 0.0, "lost_requests": 0, "move": None},
    ]
    costs = [
        StandbyCost("vm1", "warm", 0.5, 8.5, 8),
        StandbyCost("vm2", "cold", 8.0, 1.0, 0),
        StandbyCost("vm3", "hot", 0.0, 0.04, 8, 120, 130),
    ]
    asked = {"vm1": [1.0, 1.5, 9.0], "vm3": [2.0, 2.5, 4.0]}
    with Recorder.create(out) as recorder:
        run = recorder.run()
        run.scenario(synthetic.scenario("tunnel", 100))
        run.manifest({"name": "standbys", "valid": True, "problems": [], "seed": 1})
        run.events([requested(20), at(40, "vm-resumed")])
        run.packets(packets([1.0] * 50))
        run.moves(metrics.table(packets([1.0] * 50), [requested(20), at(40, "vm-resumed")], HOMES))
        run.takeovers(rows)
        run.standbys(standby_costs.rows(costs, asked))


def with_visits(out: Path) -> None:
    """A client notices nothing of one move of a task, and begins again after the other."""
    with Recorder.create(out, variants=["migrate", "close"]) as recorder:
        recorder.overall(synthetic.scenario("tunnel", 100), {"name": "visits"})
        for name in ("migrate", "close"):
            lost = name == "close"
            places = [n if n < 60 or not lost else n - 60 for n in range(200)]
            fetched = [
                (
                    "vm3>web/fetch",
                    START_NS + n * 50_000_000,
                    50_000,
                    0,
                    at * 50_000,
                    2.0,
                    1 + lost,
                    0,
                )
                for n, at in enumerate(places)
            ]
            asked = [
                ("vm3>web/ask", n, START_NS, START_NS + n * 50_000_000, 1, n == 1, 0)
                for n in range(1, 9)
            ]
            run = recorder.run(name)
            run.scenario(synthetic.scenario("tunnel", 100))
            run.manifest({"name": "visits", "valid": True, "problems": [], "seed": 1})
            run.events([TraceEvent(START_NS + 3_000_000_000, "runner", "task-stopped", "web")])
            run.packets(packets([1.0] * 50))
            run.moves(metrics.table(packets([1.0] * 50), [], HOMES))
            run.rows("fetch", fetch.ROWS.frame(fetched))
            run.rows("ask", ask.ROWS.frame(asked))


def with_names(out: Path) -> None:
    """Two clients ask a task that moves twice and is found by its name, for three TTLs."""
    ttls_s = (0, 1, 30)
    with Recorder.create(out, variants=[f"ttl-{each}" for each in ttls_s]) as recorder:
        recorder.overall(synthetic.scenario("tunnel", 100), {"name": "names"})
        for ttl_s in ttls_s:
            events = [
                event
                for move, begun_ms in ((1, 3_000), (2, 50_000))
                for event in (
                    task_event(begun_ms, "task-stopped", move, host="vm1"),
                    task_event(begun_ms + 40, "name-updated", move, ttl_s=ttl_s),
                )
            ]
            asked = [
                (f"vm3>web/ask{more}", n, sent_ns, sent_ns + waits_ms * 1_000_000, 1, n > 1, n > 1)
                for more, waits_ms in (("", 60 + 900 * ttl_s), ("#2", 80 + 1_000 * ttl_s))
                for n, sent_ms in enumerate((2_999, 49_999), start=1)
                for sent_ns in [START_NS + sent_ms * 1_000_000]
            ]
            run = recorder.run(f"ttl-{ttl_s}")
            run.scenario(synthetic.scenario("tunnel", 100))
            run.manifest({"name": "names", "valid": True, "problems": [], "seed": 1})
            run.events(events)
            run.packets(packets([]))
            run.moves(metrics.table(packets([]), [], HOMES))
            run.rows("ask", ask.ROWS.frame(asked))


def repeated(out: Path) -> None:
    names = [str(number) for number in range(1, 9)]
    with Recorder.create(out, variants=names) as recorder:
        recorder.overall(synthetic.scenario("tunnel", 100), {"name": "repeated"})
        for number, name in enumerate(names, start=1):
            events = [
                *(requested(20), at(30, "vm-paused"), at(40 + number, "vm-resumed")),
                *(at(60, "move-converged"), at(80, "move-completed")),
            ]
            delays = [1.0] * 29 + [None] * (11 + number) + [2.0 + number / 10] * 60
            write(recorder, packets(delays), events, run_name=name, seed=number)


def of_many_runs(out: Path) -> None:
    names = [f"a-rather-long-name-of-variant-{chr(97 + number)}" for number in range(11)]
    with Recorder.create(out, variants=names) as recorder:
        recorder.overall(synthetic.scenario("tunnel", 100), {"name": "many runs"})
        for number, name in enumerate(names):
            events = [requested(20), at(30, "vm-paused"), at(40 + number, "vm-resumed")]
            delays = [1.0] * 29 + [None] * (11 + number) + [2.0] * 60
            homes = {**HOMES, f"only-{number}": "nve2"}
            write(recorder, packets(delays), events, run_name=name, homes=homes)


RESULTS: dict[str, Callable[[Path], None]] = {
    write_it.__name__: write_it
    for write_it in (
        *(without_moves, without_packets, of_one_packet, all_lost, of_many_moves, of_many_flows),
        *(
            not_completed,
            only_refused,
            without_an_nva,
            with_state,
            with_standbys,
            with_task_moves,
            with_visits,
            with_names,
            repeated,
            of_many_runs,
        ),
    )
}


def half_a_sweep(out: Path) -> None:
    """Write a sweep with three of six combinations."""
    varied = {"moves.0.pause_ms": [0, 50, 200], "topology.link.delay_ms": [1, 10]}
    sweep = Sweep.begin(out, cells(varied), {**PLAN, "vary": varied})
    for number in (0, 1, 4):
        lost = range(310, 310 + 30 * number)
        many_moves.write_result(sweep.place_of(sweep.cells[number]), moves=6, lost=lost)
    sweep.aggregate()


def sweep_as_a_map(out: Path) -> None:
    varied = {"moves.0.pause_ms": list(range(8)), "topology.link.delay_ms": list(range(7))}
    sweep = Sweep.begin(out, cells(varied), {**PLAN, "vary": varied})
    many_moves.write_result(sweep.place_of(sweep.cells[0]), moves=3)
    sweep.aggregate()


def empty_sweep(out: Path) -> None:
    varied = {"moves.0.pause_ms": [0, 50]}
    Sweep.begin(out, cells(varied), {**PLAN, "vary": varied}).aggregate()


SWEEPS = {each.__name__: each for each in (half_a_sweep, sweep_as_a_map, empty_sweep)}
