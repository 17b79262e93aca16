"""A standby of a VM at the server of another NVE: its state is mirrored there (R7.2, R7.3), or is
the same there at any time (R7.4).

    vms:
      vm1:
        nve: nve1
        guest: {memory_mb: 64, writes: {rate_mb_s: 5}, service: true}
        standby: {at: nve2, kind: warm, interval_s: 1, detect_s: 0.5}

When the server of the VM's NVE dies, and has been dead for `detect_s`, the standby takes over with
the last mirror that is whole: what the VM has done since is lost.

    warm    a guest waits at the standby with the last mirror in its memory
    cold    the last mirror is in a file there; a guest is started only when it takes over

A VM that is moved to a warm standby starts from the last mirror there: only what was written since
crosses the underlay.  After that it has no standby, or with `reverse: true` the one at its former
NVE.

        standby: {at: nve2, kind: hot, detect_s: 0.5}

    hot     a second instance serves there all the time: NVEs spread the VM's flows over both, and
            each request is answered when both have stored its change.  Nothing is lost, and
            nothing has to be moved, when one of them is gone
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from experiments.scenario.moves import MoveSpec
from experiments.scenario.parts import Name, Part, no_such
from nve.resources import Resources

StandbyKind = Literal["warm", "cold", "hot"]


class StandbySpec(Part):
    """The standby of one VM."""

    at: Name
    kind: StandbyKind = "warm"
    interval_s: float | None = Field(None, gt=0, le=86_400)
    """From mirror to mirror; a hot standby has none."""
    detect_s: float = Field(0.5, gt=0, le=600)
    """How long the primary's server has to be dead before the standby takes over."""
    bandwidth_mbit: float | None = Field(None, gt=0, le=100_000)
    """The limit of the connection; by default what the path gives."""
    reverse: bool = False
    """Whether the VM's former NVE has the standby when the VM was moved to `at`; else it has no
    standby any more."""

    @model_validator(mode="after")
    def _says_how_often(self) -> Self:
        if self.kind != "hot" and self.interval_s is None:
            raise ValueError(
                f"a {self.kind} standby is mirrored; give the interval in seconds: interval_s"
            )
        for key in ("interval_s", "bandwidth_mbit", "reverse"):
            if self.kind == "hot" and getattr(self, key):
                raise ValueError(
                    f"{key}: a hot standby has no mirrors, each change is at both at once; leave "
                    "it out"
                )
        return self

    def takes(self, of_vm: Resources) -> Resources:
        """Return what it takes of its server: as much memory and storage as the VM, and with two
        instances all that the VM takes; a cold one has the memory in a file."""
        if self.kind == "hot":
            return of_vm
        if self.kind == "cold":
            return Resources(storage_mb=of_vm.memory_mb + of_vm.storage_mb)
        return Resources(memory_mb=of_vm.memory_mb, storage_mb=of_vm.storage_mb)

    @property
    def mirrored_every_s(self) -> float:
        """0 for a hot one, which is not."""
        return self.interval_s or 0.0


def contradictions(
    standbys: Mapping[str, StandbySpec],
    place_of: Mapping[str, str],
    where: Mapping[str, str],
    nves: Sequence[str],
    guests: Sequence[str],
    moves: Sequence[MoveSpec],
    *,
    can_be_told: bool,
    serving: Collection[str],
    routed: Collection[str],
    not_to: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Yield where standbys do not fit the rest of their scenario: (field, complaint).

    `place_of` holds where in the scenario each standby is, and `where` where the VMs are at first;
    `can_be_told` says whether the overlay can tell NVEs where VMs are.  VMs that are `serving` have
    a service, those that are `routed` are in networks of layer 3; `not_to` holds by place the VM
    that something other than requests to its service is from or for.
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
        if standby.kind == "hot":
            if vm in guests and vm not in serving:
                yield (
                    place,
                    f"{vm} has no service that two instances could share; say service: "
                    "true in its guest, or take a warm standby",
                )
            if vm in routed:
                yield (
                    place,
                    f"{vm} is in a network of layer 3, and flows are spread over two instances at "
                    "layer 2 only; take a warm standby",
                )
    hot = {vm for vm, standby in standbys.items() if standby.kind == "hot"}
    for place, vm in not_to.items():
        if vm in hot:
            yield (
                place,
                f"{vm} has two instances, and both have only its service; name another VM, or "
                "give it a warm standby",
            )
    yield from not_moved(standbys, moves)


def not_moved(
    standbys: Mapping[str, StandbySpec], moves: Sequence[MoveSpec]
) -> Iterator[tuple[str, str]]:
    """Yield the moves that VMs with a standby cannot make: (field, complaint)."""
    hot = {vm for vm, standby in standbys.items() if standby.kind == "hot"}
    for number, move in enumerate(moves):
        if move.vm in hot:
            yield (
                f"moves.{number}.vm",
                f"{move.vm} has a hot standby, and cannot be moved; leave "
                "the move out, or give it a warm standby",
            )
            continue
        kind = move.transfer.kind if move.transfer else "pre-copy"
        if move.vm in standbys and kind not in ("pre-copy", "stop-and-copy"):
            yield (
                f"moves.{number}.transfer.kind",
                f"{move.vm} has a standby, which goes on from mirrors: its memory is never in two "
                "places; use pre-copy, or leave standby out",
            )
