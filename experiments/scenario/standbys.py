"""A standby of a VM: its state, mirrored to the server of another NVE (R7.2, R7.3).

    vms:
      vm1:
        nve: nve1
        guest: {memory_mb: 64, writes: {rate_mb_s: 5}, service: true}
        standby: {at: nve2, kind: warm, interval_s: 1, detect_s: 0.5}

When the server of the VM's NVE dies, and has been dead for `detect_s`, the standby takes over with
the last mirror that is whole: what the VM has done since is lost.

    warm    a guest waits at the standby with the last mirror in its memory
    cold    the last mirror is in a file there; a guest is started only when it takes over
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from experiments.scenario.moves import MoveSpec
from experiments.scenario.parts import Name, Part, no_such

StandbyKind = Literal["warm", "cold"]


class StandbySpec(Part):
    """The standby of one VM."""

    at: Name
    kind: StandbyKind = "warm"
    interval_s: float = Field(gt=0, le=86_400)
    detect_s: float = Field(0.5, gt=0, le=600)
    """How long the primary's server has to be dead before the standby takes over."""
    bandwidth_mbit: float | None = Field(None, gt=0, le=100_000)
    """The limit of the connection; by default what the path gives."""


def contradictions(
    standbys: Mapping[str, StandbySpec],
    place_of: Mapping[str, str],
    where: Mapping[str, str],
    nves: Sequence[str],
    guests: Sequence[str],
    moves: Sequence[MoveSpec],
    *,
    can_be_told: bool,
) -> Iterator[tuple[str, str]]:
    """Yield where standbys do not fit the rest of their scenario: (field, complaint).

    `place_of` holds where in the scenario each standby is, and `where` where the VMs are at first;
    `can_be_told` says whether the overlay can tell NVEs where VMs are.
    """
    for vm, standby in standbys.items():
        place = place_of[vm]
        if standby.at not in nves:
            yield f"{place}.at", no_such("NVE", standby.at, nves)
        if standby.at == where.get(vm):
            yield f"{place}.at", f"{vm} is at {standby.at} itself; name another NVE"
        if vm not in guests:
            yield place, f"{vm} has no state to mirror; give it a guest, or leave standby out"
        if not can_be_told:
            yield (
                place,
                "this overlay has nobody who could be told of a take-over; leave standby out",
            )
    for number, move in enumerate(moves):
        kind = move.transfer.kind if move.transfer else "pre-copy"
        if move.vm in standbys and kind not in ("pre-copy", "stop-and-copy"):
            yield (
                f"moves.{number}.transfer.kind",
                f"{move.vm} has a standby, which goes on from mirrors: its memory is never in two "
                "places; use pre-copy, or leave standby out",
            )
