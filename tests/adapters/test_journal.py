"""The NVA's state on disk: what it survives, and what is refused rather than half believed."""

import json
import os
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from controller.core.directory import Directory
from controller.core.handover import Handover, PathChange
from controller.core.move import Move, MoveRequest
from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from controller.core.snapshot import NveSnapshot, SnapshotChange, decode, encode, merged
from controller.nva import Nva
from controller.storage import journal
from controller.storage.journal import Journal, Unreadable
from controller.storage.trace import Trace
from nve.messages import TraceRecord
from nve.model import Binding, IPAddress, TenantSystem
from nve.pipeline.state import Association, AssociationRole, Redirect, RemoteEntry
from tests.helpers.nva import confirm, connected, settings
from tests.helpers.tenants import BLUE, RED, vm, vteps

VM1, VM2, NAMESAKE = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("blue", 1, "nve2", BLUE)
SYSTEM, OTHER = VM1.tenant_system, VM2.tenant_system
VTEPS = {name: str(address) for name, address in vteps().items()}
SIX = vteps(version=6)


def binding(sequence: int, of: TenantSystem = SYSTEM, nve: str = "nve1") -> Binding:
    return Binding(of, VM1.addresses, nve, sequence)


CHANGES = {
    "nothing": SnapshotChange(),
    "vms": SnapshotChange(vms={"vm1": SYSTEM, "blue": NAMESAKE.tenant_system}, vm_mtus={RED: 1430}),
    "bindings": SnapshotChange(bindings=(binding(7), binding(1, NAMESAKE.tenant_system))),
    "places": SnapshotChange(
        places=(
            NveSnapshot("nve1", SYSTEM, Association(SYSTEM, VM1.addresses, 10,
            AssociationRole.REDIRECTED)), NveSnapshot("nve2", SYSTEM,
            remote=RemoteEntry(vteps()["nve1"], 2)), NveSnapshot("nve3", SYSTEM,
            remote=RemoteEntry(SIX["nve1"]), redirect=Redirect(None)), NveSnapshot("nve3",
            NAMESAKE.tenant_system, redirect=Redirect(SIX["nve1"], idle_s=2)), NveSnapshot("nve1",
            OTHER, marker=SIX["nve2"]),
        )
    ),
    "moves": SnapshotChange(
        moves=(
            Move("there", MoveRequest("vm1", "nve2", 10, timer_s=3), SYSTEM, "nve1", 5, 9),
            Move(
                "on", MoveRequest("vm1", "nve3", 10, idle_s=1), SYSTEM, "nve2", 6, 9,
                Phase.DRAINED, placed=True, outdated=frozenset({"nve1", "nve3"}),
            ),
        ),
        handovers=3,
    ),
    "paths": SnapshotChange(
        paths=(
            PathChange(SYSTEM, Handover(3, SYSTEM, "nve2", frozenset({"nve1", "nve3"}), False)),
            PathChange(OTHER, Handover(2, OTHER, "nve3", frozenset(), True)),
        )
    ),
    "the trace": SnapshotChange(traced=0),
}  # fmt: skip


def opened(directory: Path) -> Journal:
    return Journal(directory / "state", VTEPS)


def file_of(directory: Path) -> Path:
    return directory / "state" / "journal"


def written(directory: Path, *changes: SnapshotChange) -> Path:
    kept = opened(directory)
    for change in changes:
        kept.append(change, SnapshotChange)
    kept.close()
    return file_of(directory)


def appended(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(content), content))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_read_as_it_was_written(change: SnapshotChange) -> None:
    assert decode(encode(change)) == change


def test_later_changes_replace_parts_of_earlier_ones(tmp_path: Path) -> None:
    first = CHANGES["places"].places
    gone = NveSnapshot("nve1", SYSTEM)
    written(
        tmp_path,
        *CHANGES.values(),
        SnapshotChange(places=(gone,)),
        SnapshotChange(bindings=(binding(8),)),
    )

    found = opened(tmp_path).before
    assert set(found.places) == {gone, *first[1:]}
    assert set(found.bindings) == {binding(8), binding(1, NAMESAKE.tenant_system)}
    assert [move.phase for move in found.moves] == [Phase.PREPARING, Phase.DRAINED]
    assert (found.vms, found.vm_mtus, found.handovers) == (
        CHANGES["vms"].vms,
        {RED: 1430},
        3,
    )


def test_a_handover_that_is_over_is_forgotten(tmp_path: Path) -> None:
    first, second = CHANGES["paths"].paths
    written(tmp_path, CHANGES["paths"], SnapshotChange(paths=(PathChange(SYSTEM, None),)))

    assert opened(tmp_path).before.paths == (second,)
    written(tmp_path, CHANGES["paths"])
    assert set(opened(tmp_path).before.paths) == {first, second}


def test_a_new_directory_holds_nothing(tmp_path: Path) -> None:
    assert not opened(tmp_path).before
    assert not opened(tmp_path).before


@pytest.mark.parametrize("left", [1, 9, 10, -2, -1])
def test_a_line_that_the_process_died_over_is_left_out(tmp_path: Path, left: int) -> None:
    path = written(tmp_path, CHANGES["vms"], CHANGES["moves"], CHANGES["bindings"])
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole, last[:left]]))

    assert opened(tmp_path).before == merged([CHANGES["vms"], CHANGES["moves"]])
    written(tmp_path, CHANGES["bindings"])
    assert opened(tmp_path).before.bindings == CHANGES["bindings"].bindings


def test_any_other_damage_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, CHANGES["vms"], CHANGES["moves"])
    sound = path.read_bytes()
    for place in range(0, len(sound) - 1, 7):
        damaged = bytearray(sound)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(Unreadable, match=r"journal is damaged in line \d; move it away"):
            opened(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(Unreadable, match="is empty"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"version": 2}, "is of version 2, and this NVA reads version 3"),
        ({"version": 4}, "is of version 4, and this NVA reads version 3"),
        ({"nves": {"nve1": "10.9.9.9"}}, "is about other NVEs"),
    ],
)
def test_what_another_nva_has_written_is_refused(
    tmp_path: Path, header: dict[str, object], complaint: str
) -> None:
    path = written(tmp_path)
    sound = {"format": journal.FORMAT, "version": journal.VERSION, "nves": VTEPS}
    path.write_bytes(b"")
    appended(path, json.dumps({**sound, **header}).encode())

    with pytest.raises(Unreadable, match=complaint):
        opened(tmp_path)


def test_a_line_that_means_nothing_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, CHANGES["vms"])
    appended(path, b'{"bindings": [{"nve": 7}]}')

    with pytest.raises(
        Unreadable, match="cannot be read in line 4: this is not a change of the NVA's"
    ):
        opened(tmp_path)


def test_a_file_that_has_grown_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LEAST_BYTES", 2000)
    kept = opened(tmp_path)
    sizes = []
    for sequence in range(1, 200):
        change = SnapshotChange(bindings=(binding(sequence),))
        kept.append(change, partial(SnapshotChange, bindings=change.bindings))
        sizes.append(file_of(tmp_path).stat().st_size)
    kept.close()

    assert max(sizes) < 3000
    assert opened(tmp_path).before.bindings == (binding(199),)
    assert not file_of(tmp_path).with_suffix(".new").exists()


def test_a_process_that_died_while_writing_anew_has_lost_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, CHANGES["moves"])
    path.with_suffix(".new").write_bytes(b"half a")

    assert opened(tmp_path).before == CHANGES["moves"]


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    assert written(tmp_path).parent.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = opened(tmp_path)
    monkeypatch.setattr(os, "write", lambda file, line: len(line) - 1)
    with pytest.raises(OSError, match="no room for another line"):
        kept.append(CHANGES["vms"], SnapshotChange)


LINE = '{"t_ns": 5, "event": "e", "subject": "s", "details": {"move": 1}}\n'
RECORD = TraceRecord(5, "e", "s", {"move": 1})


@pytest.mark.parametrize("before_bytes", [None, len(LINE), len(LINE) + 9, 3 * len(LINE)])
def test_the_trace_goes_on_after_its_last_whole_line(
    tmp_path: Path, before_bytes: int | None
) -> None:
    path = tmp_path / "trace"
    assert Trace(path, before_bytes).records == []
    path.write_text(LINE + '{"t_ns": 6, "ev')

    found = Trace(path, before_bytes)
    assert found.records == [RECORD]
    found.write([RECORD])
    assert path.read_text() == LINE * 2
    assert found.bytes == len(LINE) * 2


def test_a_disk_that_is_too_full_for_the_trace_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Trace(tmp_path / "trace", None)
    monkeypatch.setattr(os, "write", lambda file, line: len(line) - 1)
    with pytest.raises(OSError, match="no room for another line"):
        made.write([RECORD])


# -- the whole NVA ---------------------------------------------------------------------------------


def associated(nva: Nva) -> None:
    for each, port in ((VM1, 10), (VM2, 11)):
        system, addresses = each.tenant_system, each.addresses
        nva.decide(partial(nva.authority.associate, each.name, system, addresses, each.nve, port))


def test_another_process_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    first = Nva(wanted)
    wires = connected(first)
    associated(first)
    confirm(first, *wires.values())
    request = MoveRequest("vm1", "nve3", 10, idle_s=2)
    first.decide(partial(first.authority.request_move, "a-move", request))

    second = Nva(wanted)
    assert [line.event for line in second.trace.records][-1] == "nva-restarted"
    assert second.trace.records[:-1] == first.trace.records
    assert list(second.authority.directory) == list(first.authority.directory)
    for nve in second.authority.desired:
        assert second.authority.desired.rules(nve) == first.authority.desired.rules(nve)
    assert (
        second.decide(partial(second.authority.request_move, "a-move", request)).phase
        == "preparing"
    )
    assert len(second.authority.moves) == 1
    with pytest.raises(RequestRefused, match="move a-move is another one: of vm1 to nve3"):
        second.decide(partial(second.authority.request_move, "a-move", replace(request, to="nve2")))
    confirm(second, *connected(second).values())
    assert second.authority.move("a-move").phase is Phase.PREPARED


class Killed(Exception):
    """The process ends here."""


def test_the_trace_has_what_was_decided_when_the_nva_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two of its steps, it has neither lost a record nor recorded what it forgot."""
    wanted = settings(tmp_path)
    first = Nva(wanted)
    confirm(first, *connected(first).values())

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(first.sender, "carry_out", killed)
        with pytest.raises(Killed):
            associated(first)
    second = Nva(wanted)
    *before, restarted = [(line.event, line.subject) for line in second.trace.records]
    assert before[-1] == ("vm-associated", "vm1")
    assert restarted[0] == "nva-restarted"
    assert [binding.system for binding in second.authority.directory] == [SYSTEM]

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", killed)
        with pytest.raises(Killed):
            associated(second)
    third = Nva(wanted)
    assert third.trace.records[: len(before) + 1] == second.trace.records[: len(before) + 1]
    assert [line.event for line in third.trace.records[len(before) + 1 :]] == ["nva-restarted"]
    assert [binding.system for binding in third.authority.directory] == [SYSTEM]


@pytest.mark.parametrize(
    "stranger",
    [
        SnapshotChange(places=(NveSnapshot("nve9", SYSTEM),)),
        SnapshotChange(paths=(PathChange(SYSTEM, Handover(1, SYSTEM, "nve9", frozenset(), True)),)),
        SnapshotChange(
            paths=(PathChange(SYSTEM, Handover(1, SYSTEM, "nve1", frozenset({"nve9"}), True)),)
        ),
    ],
    ids=["place", "destination", "edge"],
)
def test_a_state_that_speaks_of_other_nves_is_refused(
    tmp_path: Path, stranger: SnapshotChange
) -> None:
    """The header could be right, and the rest nonsense."""
    wanted = settings(tmp_path)
    path = tmp_path / "state" / "journal"
    first = Nva(wanted)
    assert path.exists()
    appended(path, encode(stranger))

    with pytest.raises(ValueError, match="it speaks of nve9, which is no NVE here"):
        Nva(wanted)
    assert list(first.authority.directory) == list(Directory())


def test_addresses_of_either_family_are_told_apart() -> None:
    addresses: frozenset[IPAddress] = VM1.addresses
    (found,) = decode(
        encode(SnapshotChange(bindings=(replace(binding(1), addresses=addresses),)))
    ).bindings
    assert found.addresses == addresses
