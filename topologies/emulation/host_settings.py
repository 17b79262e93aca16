"""Settings of the machine that a run raises, and puts back.

A network namespace has nearly everything of its own, but its neighbours (ARP, neighbour discovery)
are in one table for the whole machine, whose size is a setting of the machine's own namespace.  A
run that needs a larger table raises that setting, and says so in its result.

    /run/vmmlab/settings.json          the settings' original values, and what they were set to
    /run/vmmlab/<id>/settings.json     what the run of that session needs

Several runs may go on at a time: a setting is as high as the run that needs most requires, and is
put back when the last run has ended.  The needs of a run that was killed are dropped by the next
run, or by `vmmlab clean`.  A setting that somebody else has changed meanwhile is left alone.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from topologies.emulation.session import RUN_DIRECTORY, Session, living

SYSCTLS = Path("/proc/sys")
SETTINGS = "settings.json"

Settings = Mapping[str, int]
"""Values by the path of the setting below /proc/sys."""


class Change(NamedTuple):
    """The values of a setting before and after a change."""

    was: int
    now: int


@contextmanager
def raised(session: Session, needed: Settings) -> Iterator[Mapping[str, Change]]:
    """Raise each of these settings to at least that value for the block; yield those that changed.

    A setting that this machine does not have, or does not let root change, stays as it is.
    """
    wish(session, needed)
    settle()
    try:
        changed = _changes()
        yield {name: changed[name] for name in needed if name in changed}
    finally:
        wish(session, {})
        settle()


def wish(session: Session, needed: Settings) -> None:
    """Record what a session needs, for `settle`."""
    _write(session.directory / SETTINGS, dict(needed))


def settle() -> list[str]:
    """Set the settings to what living runs need; return a sentence for each that was put back."""
    if not RUN_DIRECTORY.is_dir():
        return []
    said = []
    with _locked():
        changes = _changes()
        wanted: dict[str, int] = {}
        for identifier in living():
            for name, value in _values(RUN_DIRECTORY / identifier / SETTINGS).items():
                wanted[name] = max(value, wanted.get(name, 0))
        for name in {**changes, **wanted}:
            now, change = value_of(name), changes.pop(name, None)
            if now is None:
                continue
            was = change.was if change and change.now == now else now
            target = max(was, wanted.get(name, 0))
            if target != now and not _set(name, target):
                target = now
            if target != was:
                changes[name] = Change(was, target)
            elif target != now:
                said.append(f"put {name.replace('/', '.')} back to {was}")
        _write(RUN_DIRECTORY / SETTINGS, {name: list(each) for name, each in changes.items()})
    return said


def value_of(name: str) -> int | None:
    """Return the value of a setting, or None if this machine does not have it."""
    try:
        return int((SYSCTLS / name).read_text(encoding="ascii"))
    except OSError:
        return None


def _set(name: str, value: int) -> bool:
    try:
        (SYSCTLS / name).write_text(str(value), encoding="ascii")
    except OSError:
        return False
    return True


@contextmanager
def _locked() -> Iterator[None]:
    directory = os.open(RUN_DIRECTORY, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _changes() -> dict[str, Change]:
    return {name: Change(*both) for name, both in _loaded(RUN_DIRECTORY / SETTINGS).items()}


def _values(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in _loaded(file).items()}


def _loaded(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _write(file: Path, content: Mapping[str, object]) -> None:
    """Write a file completely or not at all; empty content removes it."""
    if not content:
        file.unlink(missing_ok=True)
        return
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.rename(file)
