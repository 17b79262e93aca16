"""Result directories: nothing that was measured is lost, and nothing half passes for whole.

A run is recorded under a hidden name beside its destination and renamed when it is complete, so
that whatever carries a result's name is a whole result.  A crashed run leaves only a hidden
`.<name>.<pid>.partial`.  Of several runs, those that were finished before another failed are a
result of their own, whose manifest names the others (`not_finished`).  Where the disk is full, what
has been written is kept under the result's name, with a manifest that says that it is not complete.

All text is UTF-8, whatever the user's locale.

A result holds one run, or several runs *side by side* (variants of one scenario): then each variant
is a directory inside it with the files of a run, and the top level holds the scenario as given and
a manifest that names the variants.  results/README.md describes every file.
"""

import csv
import errno
import glob
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml

from experiments.catalogue import WORKLOADS
from experiments.errors import RunError, UsageError
from experiments.measure.rows import ITERATIONS, PACKETS, RowSchema
from experiments.measure.trace import OLD_NAMES, TraceEvent

if TYPE_CHECKING:  # pandas takes half a second to import, which `vmmlab --help` should not
    import pandas as pd

SCHEMA_VERSION = 1
WAITING_TIME_S = 2.0
"""Where a manifest names none."""

SCENARIO, MANIFEST, EVENTS = "scenario.yaml", "manifest.json", "events.csv"
MOVES, FLOWS, REFUSED = "moves.csv", "flows.csv", "refused.csv"

ROOM, ROOM_BYTES = ".room", 1 << 20
"""Taken from the disk while a run goes on, and given back at its end."""

EVENT_COLUMNS = ("t_ns", "source", "event", "subject", "details")
REFUSED_COLUMNS = ("nve", "port", "vm", "tunnel_source", "what", "counted_by", "packets")

_REQUIRED = (SCENARIO, MANIFEST, EVENTS, PACKETS.file, MOVES)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class ResultError(UsageError):
    """A result that cannot be written or read; the message names the place and the remedy."""


class RunRecorder:
    """Writes the files of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """For captures and logs, which are kept beside the files below."""
        self.samples = directory / "samples"
        """For what probes have measured, until `packets` has it: not in memory, and kept where the
        disk is full."""
        self._has_manifest = False
        directory.mkdir(exist_ok=True)
        self._room = directory / ROOM
        with self._room.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)

    def make_room(self) -> None:
        """Where the disk is full: for the events, and for a manifest that says so."""
        self._room.unlink(missing_ok=True)

    def scenario(self, scenario: Mapping[str, Any]) -> None:
        """The scenario as resolved: defaults filled in, plain values only."""
        _write_yaml(self.directory / SCENARIO, scenario)

    def manifest(self, manifest: Mapping[str, Any]) -> None:
        """`schema` and `complete` are added here."""
        self.make_room()
        _write_json(self.directory / MANIFEST, {**_COMMON, **manifest})
        self._has_manifest = True

    def text(self, name: str, lines: Sequence[str]) -> None:
        """What is to be read by people; no file where there is nothing to say."""
        if lines:
            content = "".join(f"{line}\n" for line in lines)
            (self.directory / name).write_text(content, encoding="utf-8")

    def events(self, events: Iterable[TraceEvent]) -> None:
        with (self.directory / EVENTS).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(EVENT_COLUMNS)
            for event in sorted(events, key=lambda event: event.t_ns):
                details = json.dumps(dict(event.details), sort_keys=True)
                writer.writerow((event.t_ns, event.source, event.name, event.subject, details))

    def packets(self, packets: "pd.DataFrame") -> None:
        self._write(PACKETS, packets)
        shutil.rmtree(self.samples, ignore_errors=True)

    def moves(self, moves: "pd.DataFrame") -> None:
        moves.to_csv(self.directory / MOVES, index=False)

    def flows(self, flows: "pd.DataFrame") -> None:
        flows.to_csv(self.directory / FLOWS, index=False)

    def rows(self, kind: str, measured: "pd.DataFrame") -> None:
        """What the workloads of a kind have measured, in the file that the kind says."""
        written = WORKLOADS.get(kind).ROWS
        if written is None:
            raise ValueError(f"the kind {kind} of traffic has no ROWS; say what it writes")
        self._write(written, measured)

    def iterations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Of transfers of state: rows with the columns of ITERATIONS."""
        columns = list(ITERATIONS.columns)
        self._write(ITERATIONS, ITERATIONS.frame([[row[each] for each in columns] for row in rows]))

    def refused(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """What the overlay dropped or refused: rows with the columns of REFUSED_COLUMNS."""
        with (self.directory / REFUSED).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, REFUSED_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def _write(self, written: RowSchema, measured: "pd.DataFrame") -> None:
        _require_columns(written.file, measured, written)
        place = self.directory / written.file
        unfinished = place.with_name(f"{place.name}.partial")
        if place.suffix == ".parquet":
            measured.to_parquet(unfinished, index=False, compression="zstd")
        else:
            measured.to_csv(unfinished, index=False)
        unfinished.rename(place)

    @property
    def missing(self) -> list[str]:
        there = {name for name in _REQUIRED if (self.directory / name).exists()}
        if not self._has_manifest:  # one that says "not complete" is there from the beginning
            there.discard(MANIFEST)
        return [name for name in _REQUIRED if name not in there]


class Recorder:
    """Records a result; used as a context manager, which names it at the end or removes it.

        with Recorder.create(out, variants=["drop", "tunnel"]) as recorder:
            recorder.overall(scenario, manifest)       # only with variants
            run = recorder.run("drop")                 # run() without variants
            run.scenario(…); run.manifest(…); run.events(…); run.packets(…); run.moves(…)

    If the block is left by an exception, or a file is missing, the variants that are whole are the
    result; where there is none, no result appears.  `place` is where it is; `kept` says in a
    sentence what is there although not all of it is.
    """

    def __init__(self, out: Path, partial: Path, variants: Sequence[str], keep_part: bool) -> None:
        self.place = out
        self.kept: str | None = None
        self._overall: dict[str, Any] | None = None
        self._partial = partial
        self._keep_part = keep_part
        self._variants = list(variants)
        self._runs: dict[str, RunRecorder] = {}

    @classmethod
    def create(
        cls, out: Path, variants: Sequence[str] | None = None, *, keep_part: bool = True
    ) -> Self:
        """`keep_part`: what was measured is worth having although not all of it was.

        Raises ResultError if there is something at `out` already, or will be, or nothing can be.
        """
        if out.exists():
            raise ResultError(f"{out} exists already; name another directory with --out")
        if others := _written_by_others(out):
            raise ResultError(
                f"process {others[0]} is writing {out}; name another directory with --out"
            )
        partial = out.parent / f".{out.name}.{os.getpid()}.partial"
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write_json(partial / MANIFEST, {**_COMMON, "complete": False})
        except OSError as error:
            raise ResultError(
                f"{out} cannot be written ({error.strerror}); name another directory with --out"
            ) from None
        return cls(out, partial, variants or [], keep_part)

    def overall(self, scenario: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """What the variants have in common: the scenario as given, and what was run."""
        self._overall = {**_COMMON, **manifest}
        _write_yaml(self._partial / SCENARIO, scenario)

    def run(self, variant: str | None = None) -> RunRecorder:
        """The recorder of one run: of a variant declared at creation, or of the only run."""
        if variant is None and not self._variants:
            return self._runs.setdefault("", RunRecorder(self._partial))
        if variant not in self._variants:
            raise ValueError(f"variant {variant!r} is none of {self._variants}")
        return self._runs.setdefault(variant, RunRecorder(self._partial / variant))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end(error)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _end(self, error: BaseException | None) -> None:
        missing = self._missing()
        try:
            if error is None and not missing:
                self._appear(self._variants)
            elif self._keep_part and not is_disk_full(error):
                self._keep_finished(str(error or f"{missing[0]} is missing") or "interrupted")
        except OSError as failure:
            if not is_disk_full(failure):
                raise
            self._keep_unfinished(failure)
            raise RunError(f"{failure.filename} cannot be written: the disk is full") from failure
        if is_disk_full(error):
            self._keep_unfinished(error)
        elif error is None and missing:
            kept = self.kept or "nothing was kept"
            raise ResultError(f"the run did not record {', '.join(missing)}; {kept}")

    def _missing(self) -> list[str]:
        missing = []
        for variant in self._variants or [""]:
            run = self._runs.get(variant)
            if run is None:
                missing.append(f"the run {variant}".rstrip())
            else:
                missing += [f"{variant}/{name}".lstrip("/") for name in run.missing]
        if self._variants and self._overall is None:
            missing.append(MANIFEST)
        return missing

    def _appear(self, finished: Sequence[str], **more: Any) -> None:
        """What was recorded gets its name; the next one that is free, if it has been taken
        meanwhile."""
        if self._overall is not None:
            told = {**self._overall, "variants": list(finished), **more}
            _write_json(self._partial / MANIFEST, told)
        names = itertools.chain(
            [self.place],
            (self.place.with_name(f"{self.place.name}-{n}") for n in itertools.count(2)),
        )
        self.place = next(place for place in names if _renamed(self._partial, place))

    def _keep_finished(self, why: str) -> None:
        """The variants that are whole, if there is one."""
        finished = [name for name, run in self._runs.items() if name and not run.missing]
        if finished and self._overall is not None:
            others = [name for name in self._variants if name not in finished]
            for name in others:
                shutil.rmtree(self._partial / name, ignore_errors=True)
            self._appear(finished, not_finished=dict.fromkeys(others, why))
            self.kept = f"{', '.join(finished)} had been finished and can be found in {self.place}"

    def _keep_unfinished(self, error: BaseException | None) -> None:
        """There may be no room for anything, but a manifest is there since the beginning."""
        if not self._keep_part:
            return
        unfinished = {**_COMMON, "complete": False, "problems": [str(error)]}
        for run in self._runs.values():
            run.make_room()
        with suppress(OSError):
            _write_json(self._partial / MANIFEST, unfinished)
        self._overall = None
        self._appear([])
        self.kept = f"what was written until then is in {self.place}, marked as not complete"


def partials(directory: Path) -> list[Path]:
    """Results in `directory` whose recorder has died before it could finish."""
    return [
        path
        for path in sorted(directory.glob(".*.partial"))
        if not Path(f"/proc/{path.name.split('.')[-2]}").exists()
    ]


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
        """The runs to compare, by variant; a result of one run is its own, under its name."""
        if not self.variants:
            return {self.name: self}
        return {variant: load(self.path / variant) for variant in self.variants}

    @cached_property
    def scenario(self) -> dict[str, Any]:
        scenario: dict[str, Any] = yaml.safe_load(
            (self.path / SCENARIO).read_text(encoding="utf-8")
        )
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
        """After this long a packet counts as lost (RFC 7680)."""
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
        """What the workloads of a kind have measured; None if the run had none that did."""
        written = WORKLOADS.get(kind).ROWS
        return self._read(written) if written is not None else None

    @cached_property
    def iterations(self) -> "pd.DataFrame | None":
        """The rounds of transfers of state; None if there were none."""
        return self._read(ITERATIONS)

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
        """The table of flows.csv, computed anew; a result from before there was one has it too."""
        from experiments.measure import totals

        return totals.table(self.packets, self.metrics, self.waiting_time_s)

    @cached_property
    def throughput(self) -> "pd.DataFrame | None":
        """None if the run had no TCP workload."""
        return self.rows("tcp-bulk")

    @cached_property
    def refused(self) -> list[dict[str, str]]:
        """What the overlay dropped or refused; nothing is known of an older result."""
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
        _require_columns(str(path), found, written)
        return found.astype({name: kind for name, kind in written.types.items() if kind == "Int64"})


def load(path: Path) -> Result:
    """Raises ResultError if there is no whole result of a known schema at `path`."""
    manifest_path = path / MANIFEST
    if path.name.endswith(".partial"):
        raise ResultError(f"{path} was left by a run that did not finish; run it again")
    if not manifest_path.is_file():
        raise ResultError(f"{path} is no result directory: there is no {MANIFEST} in it")
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
    required = (SCENARIO, MANIFEST) if manifest.get("variants") else _REQUIRED
    missing = [name for name in required if not (path / name).is_file()]
    if missing:
        raise ResultError(f"{path} lacks {', '.join(missing)}; it is no whole result")
    return Result(path, manifest)


@contextmanager
def written_into(path: Path) -> Iterator[None]:
    """What is written in the block goes into the result at `path`, which may be another user's.

    Raises ResultError where that is not possible.
    """
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{error.filename or path} cannot be written ({error.strerror}); copy the result to a "
            f"directory of yours and name that: cp -r {path} ."
        ) from None


def _written_by_others(out: Path) -> list[str]:
    """The processes that are recording a result of this name."""
    found = (
        path.name.split(".")[-2] for path in out.parent.glob(f".{glob.escape(out.name)}.*.partial")
    )
    return [pid for pid in found if pid != str(os.getpid()) and Path("/proc", pid).exists()]


def _renamed(partial: Path, place: Path) -> bool:
    """False if something is there already."""
    try:
        place.mkdir()  # an empty directory is replaced by a rename, in one step
    except FileExistsError:
        return False
    partial.rename(place)
    return True


def is_disk_full(error: BaseException | None) -> bool:
    """Whether that, or what it was raised from, is the disk's doing."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        error = error.__cause__
    return False


_COMMON = {"schema": SCHEMA_VERSION, "complete": True}


def _require_columns(place: str, frame: "pd.DataFrame", written: RowSchema) -> None:
    if missing := written.lacking(frame.columns):
        raise ResultError(f"{place} lacks the columns {', '.join(missing)}")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _replace(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    _replace(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def _replace(path: Path, text: str) -> None:
    """Nobody ever reads half of it, and where there is no room what was there stays."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
