"""Totals of a run: the outcome of all packets of each flow, and what its moves have in common.

A move's row counts the packets that belong to that move; a flow's row here counts *every* packet of
the run, also those sent before the first move.  So "nothing lost, nothing twice, nothing out of
order over 100 moves" is one line per flow.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from experiments.measure.metrics import WAITING_TIME_S
from experiments.measure.packets import Delay, PacketOutcomes, Samples, duplicates, flows_of


@dataclass(frozen=True)
class Spread:
    """Median, p99 and maximum of the values of several moves; None if there are no values."""

    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: pd.Series) -> "Spread":
        there = pd.to_numeric(values).dropna()
        if not len(there):
            return cls(None, None, None)
        return cls(float(there.median()), float(there.quantile(0.99)), float(there.max()))


@dataclass(frozen=True)
class FlowTotals:
    """All packets of one flow, and the worst effect that its moves had on it."""

    flow: str
    role: str
    """Its role in the moves; `from, to` if both its ends move."""
    sent: int
    not_sent: int
    """Due times that the sender skipped (its VM was suspended) or whose packet the kernel
    refused."""
    lost: int
    late: int
    duplicated: int
    reordered: int
    moves: int
    """How many moves concern the flow; for a reference flow, all moves."""
    lost_in_a_move_max: int | None
    blackout_max_ms: float | None
    recovery_excess_p50_ms: float | None
    recovery_excess_p99_ms: float | None
    recovery_excess_max_ms: float | None
    delay_p50_ms: float | None
    delay_p99_ms: float | None
    delay_max_ms: float | None


COLUMNS = [field.name for field in fields(FlowTotals)]
"""The columns of flows.csv."""


def table(
    packets: pd.DataFrame, moves: pd.DataFrame, waiting_time_s: float = WAITING_TIME_S
) -> pd.DataFrame:
    """Return flows.csv, one row per flow, from packets and the table of moves.csv."""
    made = moves[moves["outcome"] != "refused"]
    rows = [
        asdict(_of_flow(name, samples, made[made["flow"] == name], round(waiting_time_s * 1e9)))
        for name, samples in flows_of(packets).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_flow(name: str, samples: Samples, moves: pd.DataFrame, waiting_ns: int) -> FlowTotals:
    fates = PacketOutcomes.of(samples, waiting_ns)
    delay = Delay.of(samples)
    recovery = Spread.of(moves["recovery_excess_ms"])
    lost, blackout = Spread.of(moves["lost"]), Spread.of(moves["blackout_ms"])
    return FlowTotals(
        flow=name,
        role=", ".join(sorted(moves["role"].unique())) or "reference",
        sent=len(samples),
        not_sent=int(samples.seq[-1] - samples.seq[0]) + 1 - len(samples) if len(samples) else 0,
        lost=int(fates.lost.sum()),
        late=int(fates.late.sum()),
        duplicated=duplicates(samples),
        reordered=int(fates.reordered.sum()),
        moves=len(moves),
        lost_in_a_move_max=None if lost.max is None else int(lost.max),
        blackout_max_ms=blackout.max,
        recovery_excess_p50_ms=recovery.p50,
        recovery_excess_p99_ms=recovery.p99,
        recovery_excess_max_ms=recovery.max,
        delay_p50_ms=delay.p50_ms,
        delay_p99_ms=delay.p99_ms,
        delay_max_ms=delay.max_ms,
    )


DAMAGE = ("lost", "duplicated", "reordered")
"""The columns that are 0 in a run that damages no packet."""


@dataclass(frozen=True)
class RunTotals:
    """The totals of a run in one line."""

    moves: int
    """The moves that were requested and not refused."""
    completed: int
    flows: int
    sent: int
    lost: int
    late: int
    """The lost packets that came after the waiting time."""
    duplicated: int
    reordered: int
    recovery_excess_p50_ms: float | None
    recovery_excess_p99_ms: float | None
    recovery_excess_max_ms: float | None
    blackout_max_ms: float | None
    pause_max_ms: float | None
    convergence_p50_ms: float | None
    convergence_max_ms: float | None
    via_source_counted: int
    """The number of moves for which packets over the source NVE after convergence were counted
    (R3.4)."""
    packets_via_source_after_convergence: int | None
    """The number of these packets, which has to be 0; None if they were counted for no move."""


def of_run(flows: pd.DataFrame, moves: pd.DataFrame) -> RunTotals:
    """Return the totals of a run from the tables of flows.csv and moves.csv."""
    each = moves.drop_duplicates("move")
    made = each[each["outcome"] != "refused"]
    recovery = Spread.of(moves["recovery_excess_ms"])
    convergence = Spread.of(made["convergence_ms"])
    counts = {what: int(flows[what].sum()) for what in ("sent", "late", *DAMAGE)}
    via_source = pd.to_numeric(made["packets_via_source_after_convergence"]).dropna()
    return RunTotals(
        moves=len(made),
        completed=int((made["outcome"] == "completed").sum()),
        flows=len(flows),
        **counts,
        recovery_excess_p50_ms=recovery.p50,
        recovery_excess_p99_ms=recovery.p99,
        recovery_excess_max_ms=recovery.max,
        blackout_max_ms=Spread.of(moves["blackout_ms"]).max,
        pause_max_ms=Spread.of(made["pause_ms"]).max,
        convergence_p50_ms=convergence.p50,
        convergence_max_ms=convergence.max,
        via_source_counted=len(via_source),
        packets_via_source_after_convergence=int(via_source.sum()) if len(via_source) else None,
    )


def worst(moves: pd.DataFrame, count: int) -> Sequence[int]:
    """Return the numbers of the moves that did most damage, the worst first.

    Damage is packets lost, duplicated and out of order; among equals, the longer recovery counts.
    """
    harm = moves.assign(harm=moves[list(DAMAGE)].sum(axis=1))
    by_move = harm.groupby("move").agg(harm=("harm", "sum"), slow=("recovery_excess_ms", "max"))
    by_move["slow"] = pd.to_numeric(by_move["slow"]).fillna(0)
    ordered = by_move.sort_values(["harm", "slow"], ascending=False, kind="stable")
    return [int(number) for number in ordered.index[:count]]
