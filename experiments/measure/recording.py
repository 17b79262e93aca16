"""Writes result directories: no measurement is lost, and no partial result looks complete.

A run is recorded under a hidden name beside its destination and renamed when it is complete, so
that whatever carries a result's name is a whole result.  A crashed run leaves only a hidden
`.<name>.<pid>.partial`.  Of several runs, those that were finished before another failed are a
result of their own, whose manifest names the others (`not_finished`).  If the disk is full, what
has been written is kept under the result's name, with a manifest that says that it is not complete.

All text is UTF-8, whatever the user's locale.  `experiments.measure.results` reads what is written.
"""

import csv
import errno
import glob
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml

from experiments.catalogue import WORKLOADS
from experiments.errors import RunError
from experiments.measure.results import (
    EVENT_COLUMNS,
    EVENTS,
    FLOWS,
    MANIFEST,
    MOVES,
    REFUSED,
    REFUSED_COLUMNS,
    REQUIRED,
    SCENARIO,
    SCHEMA_VERSION,
    ResultError,
    require_columns,
)
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
from experiments.measure.trace import TraceEvent

if TYPE_CHECKING:  # pandas takes half a second to import, which `vmmlab --help` should not
    import pandas as pd

ROOM, ROOM_BYTES = ".room", 1 << 20
"""A file that reserves room on the disk while a run goes on, and is removed at its end."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_COMMON = {"schema": SCHEMA_VERSION, "complete": True}


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
        """Free the reserved room on a full disk, for the events and for a manifest that reports
        it.
        """
        self._room.unlink(missing_ok=True)

    def scenario(self, scenario: Mapping[str, Any]) -> None:
        """Write the scenario as resolved: defaults filled in, plain values only."""
        _write_yaml(self.directory / SCENARIO, scenario)

    def manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest; `schema` and `complete` are added here."""
        self.make_room()
        _write_json(self.directory / MANIFEST, {**_COMMON, **manifest})
        self._has_manifest = True

    def text(self, name: str, lines: Sequence[str]) -> None:
        """Write a text for people to read; no file if there are no lines."""
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
        """Write what the workloads of a kind have measured to the file that the kind names."""
        written = WORKLOADS.get(kind).ROWS
        if written is None:
            raise ValueError(f"the kind {kind} of traffic has no ROWS; say what it writes")
        self._write(written, measured)

    def iterations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the rounds of state transfers: rows with the columns of ITERATIONS."""
        self._write_named(ITERATIONS, rows)

    def faults(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the page faults of post-copies: rows with the columns of FAULTS."""
        self._write_named(FAULTS, rows)

    def _write_named(self, written: RowSchema, rows: Iterable[Mapping[str, Any]]) -> None:
        columns = list(written.columns)
        self._write(written, written.frame([[row[each] for each in columns] for row in rows]))

    def connections(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the connections of moved tasks: rows with the columns of CONNECTIONS, some
        optional.
        """
        columns = list(CONNECTIONS.columns)
        made = [[row.get(each) for each in columns] for row in rows]
        self._write(CONNECTIONS, CONNECTIONS.frame(made))

    def mirrors(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the mirrors of VMs with a standby: rows with the columns of MIRRORS."""
        self._write_named(MIRRORS, rows)

    def takeovers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the take-overs by standbys: rows with the columns of TAKEOVERS."""
        self._write_named(TAKEOVERS, rows)

    def standbys(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """What they have cost: rows with the columns of STANDBYS."""
        self._write_named(STANDBYS, rows)

    def refused(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write what the overlay dropped or refused: rows with the columns of REFUSED_COLUMNS."""
        with (self.directory / REFUSED).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, REFUSED_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def _write(self, written: RowSchema, measured: "pd.DataFrame") -> None:
        require_columns(written.file, measured, written)
        place = self.directory / written.file
        unfinished = place.with_name(f"{place.name}.partial")
        if place.suffix == ".parquet":
            measured.to_parquet(unfinished, index=False, compression="zstd")
        else:
            measured.to_csv(unfinished, index=False)
        unfinished.rename(place)

    @property
    def missing(self) -> list[str]:
        there = {name for name in REQUIRED if (self.directory / name).exists()}
        if not self._has_manifest:  # one that says "not complete" is there from the beginning
            there.discard(MANIFEST)
        return [name for name in REQUIRED if name not in there]


class Recorder:
    """Records a result; used as a context manager, which names it at the end or removes it.

        with Recorder.create(out, variants=["drop", "tunnel"]) as recorder:
            recorder.overall(scenario, manifest)       # only with variants
            run = recorder.run("drop")                 # run() without variants
            run.scenario(…); run.manifest(…); run.events(…); run.packets(…); run.moves(…)

    If the block is left by an exception, or a file is missing, the variants that are complete are
    the result; if there is none, no result appears.  `place` is its path; `kept` says in a sentence
    what is there if some of it is missing.
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
        """Begin a result at `out`.

        With `keep_part`, what was measured is kept even if the run is not complete.  Raises
        ResultError if there is, or is going to be, something at `out` already, or if nothing can be
        written there.
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
        """Write what the variants have in common: the scenario as given, and what was run."""
        self._overall = {**_COMMON, **manifest}
        _write_yaml(self._partial / SCENARIO, scenario)

    def run(self, variant: str | None = None) -> RunRecorder:
        """Return the recorder of one run: of a variant declared at creation, or of the only run."""
        if variant is None and not self._variants:
            return self._runs.setdefault("", RunRecorder(self._partial))
        if variant not in self._variants:
            raise ValueError(f"there is no variant {variant!r}; there are {self._variants}")
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
        """Give what was recorded its name, or the next free one if that has been taken
        meanwhile.
        """
        if self._overall is not None:
            told = {**self._overall, "variants": list(finished), **more}
            _write_json(self._partial / MANIFEST, told)
        names = itertools.chain(
            [self.place],
            (self.place.with_name(f"{self.place.name}-{n}") for n in itertools.count(2)),
        )
        self.place = next(place for place in names if _renamed(self._partial, place))

    def _finished(self) -> list[str]:
        """Return the variants that are complete."""
        return [name for name, run in self._runs.items() if name and not run.missing]

    def _keep_finished(self, why: str) -> None:
        """Keep the variants that are complete, if there is one."""
        finished = self._finished()
        if finished and self._overall is not None:
            others = [name for name in self._variants if name not in finished]
            for name in others:
                shutil.rmtree(self._partial / name, ignore_errors=True)
            self._appear(finished, not_finished=dict.fromkeys(others, why))
            self.kept = f"{', '.join(finished)} had been finished and can be found in {self.place}"

    def _keep_unfinished(self, error: BaseException | None) -> None:
        """Keep what was written, although the disk may be full; there is a manifest from the
        start.
        """
        if not self._keep_part:
            return
        unfinished = {**_COMMON, "complete": False, "problems": [str(error)]}
        finished = self._finished()
        for run in self._runs.values():
            run.make_room()
        with suppress(OSError):
            _write_json(self._partial / MANIFEST, unfinished)
        self._overall = None
        self._appear([])
        self.kept = f"what was written until then is in {self.place}, marked as not complete"
        if finished:
            self.kept += f"; {', '.join(finished)} in it had been finished"


def partials(directory: Path) -> list[Path]:
    """Return the results in `directory` whose recorder has died before it could finish."""
    return [
        path
        for path in sorted(directory.glob(".*.partial"))
        if not Path(f"/proc/{path.name.split('.')[-2]}").exists()
    ]


def _written_by_others(out: Path) -> list[str]:
    """Return the ids of other processes that are recording a result of this name."""
    found = (
        path.name.split(".")[-2] for path in out.parent.glob(f".{glob.escape(out.name)}.*.partial")
    )
    return [pid for pid in found if pid != str(os.getpid()) and Path("/proc", pid).exists()]


def _renamed(partial: Path, place: Path) -> bool:
    """Rename a partial result; return False if there is something at that place already."""
    try:
        place.mkdir()  # an empty directory is replaced by a rename, in one step
    except FileExistsError:
        return False
    partial.rename(place)
    return True


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, means that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        error = error.__cause__
    return False


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _replace(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    _replace(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step; if there is no room, the former file stays."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
