"""Reads result directories.  `experiments.measure.recording` writes them.

A result holds one run, or several runs *side by side* (variants of one scenario): then each variant
is a directory inside it with the files of a run, and the top level holds the scenario as given and
a manifest that names the variants.  results/README.md describes every file.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.catalogue import WORKLOADS
from experiments.errors import UsageError
from experiments.measure.rows import (
    CONNECTIONS,
    FAULTS,
    ITERATIONS,
    MIRRORS,
    PACKETS,
    STANDBYS,
    TAKEOVERS,
    RowSchema,
)
from experiments.measure.trace import OLD_NAMES, TraceEvent

if TYPE_CHECKING:  # pandas takes half a second to import, which `vmmlab --help` should not
    import pandas as pd

SCHEMA_VERSION = 1
WAITING_TIME_S = 2.0
"""The waiting time if a manifest names none, in seconds."""

SCENARIO, MANIFEST, EVENTS = "scenario.yaml", "manifest.json", "events.csv"
MOVES, FLOWS, REFUSED = "moves.csv", "flows.csv", "refused.csv"
PLAN, CELLS = "sweep.json", "cells"
"""The files of a sweep: its plan, and the folder of its cells, which are results."""

EVENT_COLUMNS = ("t_ns", "source", "event", "subject", "details")
REFUSED_COLUMNS = ("nve", "port", "vm", "tunnel_source", "what", "counted_by", "packets")

REQUIRED = (SCENARIO, MANIFEST, EVENTS, PACKETS.file, MOVES)


class ResultError(UsageError):
    """A result that cannot be written or read; the message names the place and the remedy."""


class Result:
    """A result on disk.  Files are read when they are first asked for."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def name(self) -> str:
        return str(self.manifest.get("name", self.path.name))

    @property
    def variants(self) -> list[str]:
        return list(self.manifest.get("variants", ()))

    @cached_property
    def runs(self) -> "dict[str, Result]":
        """The runs to compare, by variant; a result of one run holds itself under its name."""
        if not self.variants:
            return {self.name: self}
        return {variant: load(self.path / variant) for variant in self.variants}

    @cached_property
    def scenario(self) -> dict[str, Any]:
        text = (self.path / SCENARIO).read_text(encoding="utf-8")
        scenario: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
        return scenario

    @property
    def homes(self) -> dict[str, str]:
        """The NVE of every VM before the first move."""
        return {
            vm: place["nve"] if isinstance(place, Mapping) else place
            for tenant in self.scenario.get("tenants", ())
            for vm, place in tenant.get("vms", {}).items()
        }

    @property
    def waiting_time_s(self) -> float:
        """The time after which a packet counts as lost (RFC 7680), in seconds."""
        return float(self.manifest.get("probes", {}).get("waiting_time_s", WAITING_TIME_S))

    @property
    def waiting_time_ns(self) -> int:
        return round(self.waiting_time_s * 1e9)

    @cached_property
    def events(self) -> list[TraceEvent]:
        with (self.path / EVENTS).open(newline="", encoding="utf-8") as file:
            return [
                TraceEvent(
                    t_ns=int(row["t_ns"]),
                    source=row["source"],
                    name=OLD_NAMES.get(row["event"], row["event"]),
                    subject=row["subject"],
                    details=json.loads(row["details"] or "{}"),
                )
                for row in csv.DictReader(file)
            ]

    @cached_property
    def packets(self) -> "pd.DataFrame":
        packets = self._read(PACKETS)
        assert packets is not None, "load has seen that it is there"
        return packets

    def rows(self, kind: str) -> "pd.DataFrame | None":
        """Return what the workloads of a kind have measured; None if the run had no such
        workload.
        """
        written = WORKLOADS.get(kind).ROWS
        return self._read(written) if written is not None else None

    @cached_property
    def iterations(self) -> "pd.DataFrame | None":
        """The rounds of transfers of state; None if there were none."""
        return self._read(ITERATIONS)

    @cached_property
    def connections(self) -> "pd.DataFrame | None":
        """The connections of tasks that have moved; None if there were none."""
        return self._read(CONNECTIONS)

    @cached_property
    def faults(self) -> "pd.DataFrame | None":
        """The pages that guests have waited for; None if there were none."""
        return self._read(FAULTS)

    @cached_property
    def mirrors(self) -> "pd.DataFrame | None":
        """The mirrors of VMs that have a standby; None if there were none."""
        return self._read(MIRRORS)

    @cached_property
    def takeovers(self) -> "pd.DataFrame | None":
        """The take-overs by standbys; None if there were none."""
        return self._read(TAKEOVERS)

    @cached_property
    def standbys(self) -> "pd.DataFrame | None":
        """What they have cost; None if there were none."""
        return self._read(STANDBYS)

    @cached_property
    def moves(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.read_csv(self.path / MOVES)

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """The table of moves.csv, computed anew from packets and events."""
        from experiments.measure import metrics

        return metrics.table(self.packets, self.events, self.homes, self.waiting_time_s)

    @cached_property
    def totals(self) -> "pd.DataFrame":
        """The table of flows.csv, computed anew, so that results from before that file have it
        too.
        """
        from experiments.measure import totals

        return totals.table(self.packets, self.metrics, self.waiting_time_s)

    @cached_property
    def throughput(self) -> "pd.DataFrame | None":
        """The throughput of TCP workloads; None if the run had none."""
        return self.rows("tcp-bulk")

    @cached_property
    def refused(self) -> list[dict[str, str]]:
        """What the overlay dropped or refused; empty for older results, which do not tell."""
        path = self.path / REFUSED
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _read(self, written: RowSchema) -> "pd.DataFrame | None":
        import pandas as pd

        path = self.path / written.file
        if not path.exists():
            return None
        read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
        found: pd.DataFrame = read(path)
        require_columns(str(path), found, written)
        return found.astype({name: kind for name, kind in written.types.items() if kind == "Int64"})


def load(path: Path) -> Result:
    """Return the result at `path`.  Raises ResultError if none of a known schema is complete
    there.
    """
    manifest_path = path / MANIFEST
    if path.name.endswith(".partial"):
        raise ResultError(f"{path} was left by a run that did not finish; run it again")
    if (path / PLAN).is_file():
        raise ResultError(
            f"{path} is a sweep, not a result: name one of its results, {path / CELLS}/…, or draw "
            f"all of it with `vmmlab plot {path}`"
        )
    if not manifest_path.is_file():
        raise ResultError(f"{path} is not a result directory: it has no {MANIFEST} in it")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        schema = int(manifest["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{manifest_path} cannot be read as a manifest: {error!r}") from error
    if schema > SCHEMA_VERSION:
        raise ResultError(
            f"{path} has schema version {schema}, this vmmlab reads up to {SCHEMA_VERSION}; "
            "read it with the vmmlab that wrote it, or a newer one"
        )
    if manifest.get("complete") is not True:
        why = "".join(f" ({problem})" for problem in manifest.get("problems", ()))
        raise ResultError(f"{path} says that it is not complete{why}; run the scenario again")
    required = (SCENARIO, MANIFEST) if manifest.get("variants") else REQUIRED
    missing = [name for name in required if not (path / name).is_file()]
    if missing:
        raise ResultError(f"{path} lacks {', '.join(missing)}; it is not a complete result")
    return Result(path, manifest)


@contextmanager
def written_into(path: Path) -> Iterator[None]:
    """Check that what is written in the block can go into the result at `path`.

    The result may belong to another user.  Raises ResultError if that is not possible.
    """
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{error.filename or path} cannot be written ({error.strerror}); copy the result to a "
            f"directory of yours and name that: cp -r {path} ."
        ) from None


def require_columns(place: str, frame: "pd.DataFrame", written: RowSchema) -> None:
    """Raise ResultError, which names `place`, if the table lacks a column."""
    if missing := written.lacking(frame.columns):
        raise ResultError(f"{place} lacks the columns {', '.join(missing)}")
