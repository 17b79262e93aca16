"""Announcements on real parts: each form heard, repeated, and lost on its way; nothing else lost.

Two VMs go to and fro in turns, announcing themselves in another way each time, while a
correspondent behind a third NVE sends to them.
"""

import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace, moves_of
from nve.hypervisor.announcer import Announcer
from nve.hypervisor.outbound_gate import OutboundGate
from nve.hypervisor.plug import NIC, Plug, vm_interface
from nve.linux.namespace import inside
from nve.model import Bounds
from nve.wire import announcement
from nve.wire.announcement import Announcement
from tests.helpers.lab import data_centre, vm_spec
from tests.helpers.runs import WHERE, probe, recorded, scenario
from tests.helpers.wait import wait_until
from topologies.emulation.data_centre import DataCentre

RATE_PPS = 200
MOVING = ("vm1", "vm5")
"""In turns, so that neither waits for what is left of the other's move."""
APART_S = 1.5
"""Enough for nothing to be left of a VM's move when its next one begins."""
FORMS = [*announcement.FORMS, "both"]
CASES = [
    *(Announcement(form) for form in [*FORMS, announcement.NOTHING]),
    *(Announcement(form, times=3) for form in ("garp", "na-solicited")),
    *(Announcement(form, lost=True) for form in FORMS),
    Announcement("both", times=2, lost=True),
]

IPV6, ADVERTISEMENT = b"\x86\xdd", 136


def name(case: Announcement) -> str:
    return f"{case.form} x{case.times}{' lost' if case.lost else ''}"


@dataclass(frozen=True)
class Run:
    result: Result
    problems: list[str]
    moves: dict[Announcement, MoveTrace]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run with a move for each case."""
    turns = itertools.cycle([(vm, to) for to in ("nve2", "nve1") for vm in MOVING])
    moves = [
        {
            "at_s": 0.5 + number * APART_S,
            "vm": vm,
            "to": to,
            "pause_ms": 20,
            "announce": case.form,
            "announce_times": case.times,
            "announcement_lost": case.lost,
        }
        for number, (case, (vm, to)) in enumerate(zip(CASES, turns, strict=False))
    ]
    wanted = scenario(
        moves=moves,
        tenants=[{"vni": 5000, "vms": {**WHERE, "vm5": "nve1"}}],
        traffic=[
            {**probe(*ends), "rate_pps": rate_pps}
            for vm in MOVING
            for ends, rate_pps in (
                (("vm4", "ipv4", vm), RATE_PPS),
                ((vm, "ipv4", "vm4"), 5 * RATE_PPS),
            )
        ],
        overlay__hold=True,
        duration_s=2 + len(CASES) * APART_S,
    )
    outcome, result = recorded(wanted, tmp_path_factory.mktemp("run") / "result")
    # A move that waits for what is left of another may be requested after the next one.
    moved = sorted(moves_of(result.events), key=lambda move: move.number)
    return Run(result, outcome.problems, dict(zip(CASES, moved, strict=True)))


def forms(move: MoveTrace, event: str) -> list[str]:
    return [found.details["form"] for found in move.events if found.name == event]


def single(form: str) -> list[str]:
    """The forms by which the NVA hears one announcement."""
    return {"both": ["garp", "na"], announcement.NOTHING: []}.get(form, [form])


@pytest.mark.shows("R4.1.2", "R4.1.6", "R8.1")
@pytest.mark.parametrize("case", CASES, ids=name)
def test_whatever_the_vm_says_and_however_often_the_mapping_follows(
    run: Run, case: Announcement
) -> None:
    """Heard as often as it was said; where it was lost, the destination's activation is enough."""
    move = run.moves[case]

    said = [] if case.form == announcement.NOTHING else [case.form] * case.times
    assert forms(move, "announced") == said
    assert forms(move, "announcement-lost") == (said if case.lost else [])
    heard = [] if case.lost else single(case.form) * case.times
    assert sorted(forms(move, "announcement-received")) == sorted(heard)
    (updated,) = (event for event in move.events if event.name == "mapping-updated")
    assert updated.details["nve"] == move.destination_nve
    assert move.outcome == "completed"


def test_nothing_is_lost_and_every_mapping_is_right(run: Run) -> None:
    assert run.problems == []  # among them would be a VM that is not where the overlay believes it
    moves = run.result.moves
    assert len(moves[moves["role"] != "reference"]) == 2 * len(CASES)  # to the VM, and from it
    assert set(moves["lost"]) == {0}
    assert set(moves["duplicated"]) == {0}
    assert set(moves["packets_via_source_after_convergence"]) == {0}


def test_an_announcement_that_cannot_be_sent_holds_nothing_up_and_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VM runs at its destination, its packets come there, and nobody takes the run for one in
    which it has announced itself."""
    prepare = Announcer.prepare

    def prepare_in_vain(announcer: Announcer, announcement: Announcement) -> None:
        prepare(announcer, announcement)
        announcer._heard.close()

    monkeypatch.setattr(Announcer, "prepare", prepare_in_vain)
    outcome, result = recorded(scenario(overlay__hold=True), tmp_path / "result")

    assert outcome.problems == [
        "an announcement of vm1 could not be sent: [Errno 9] Bad file descriptor"
    ]
    (move,) = moves_of(result.events)
    assert move.outcome == "completed"
    assert forms(move, "announced") == []
    assert set(result.moves["lost"]) == {0}


# -- the sender alone ------------------------------------------------------------------------------


class Voice:
    """A VM's announcer, what it records, and what arrives at the NVE's end of the cable."""

    def __init__(self, running: DataCentre, plug: Plug) -> None:
        vm = running.vms["vm1"]
        self.vm, self.pid = vm.spec, vm.pid
        self.noted: list[str] = []
        self.announcer = Announcer(vm.spec, vm.pid, lambda event, **_: self.noted.append(event))
        with inside(plug.nve_pid):
            self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.ear.bind((plug.nve_interface, 3))
            self.ear.settimeout(5)
        with inside(vm.pid):
            self.mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.mouth.bind((NIC, 0))

    def hears(self) -> list[bytes]:
        """What has arrived, up to a frame that is sent now; the guest kernel says things of its own
        in between, such as which groups it listens to."""
        last = bytes.fromhex("ffffffffffff" + "020000000001" + "88b5").ljust(60, b"\0")
        self.mouth.send(last)
        frames = iter(lambda: self.ear.recv(2048), last)
        own = bytes.fromhex("020000000001")
        heard = [frame for frame in frames if frame[6:12] == own]
        return [frame for frame in heard if frame[12:14] != IPV6 or frame[54] == ADVERTISEMENT]

    def close(self) -> None:
        for each in (self.announcer, self.ear, self.mouth):
            each.close()


@pytest.fixture(scope="module")
def speaking() -> Iterator[Voice]:
    with data_centre(vms=(vm_spec(1, "nve1"),)) as running:
        offloads = running.nves["nve1"].edge.offloads
        pids = running.vms["vm1"].pid, running.nves["nve1"].pid
        plug = Plug.create("vm1", "nve1", *pids, offloads=offloads)
        plug.set_forwarding(True)
        voice = Voice(running, plug)
        yield voice
        voice.close()


@pytest.fixture
def voice(speaking: Voice) -> Voice:
    speaking.hears()
    speaking.noted.clear()
    return speaking


@pytest.mark.parametrize("form", announcement.FORMS)
def test_what_is_said_comes_to_the_nve_and_what_is_lost_does_not(voice: Voice, form: str) -> None:
    """What else the VM sends passes: it is by such a frame that the silence is known."""
    for lost in (False, True, False):
        voice.announcer.prepare(Announcement(form, lost=lost))
        voice.announcer.announce()
        assert voice.hears() == ([] if lost else announcement.frames(voice.vm, form))
    assert voice.noted == ["announced", "announced", "announcement-lost", "announced"]


def test_a_vm_repeats_itself(voice: Voice) -> None:
    voice.announcer.prepare(Announcement("garp", times=3))
    voice.announcer.announce()
    voice.announcer.repeat()
    wait_until(lambda: None if len(voice.noted) == 3 else f"said {len(voice.noted)} times")
    assert voice.hears() == announcement.frames(voice.vm, "garp") * 3


def test_nobody_waits_for_the_repetitions_and_a_vm_that_stops_says_no_more(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcement, "INTERVAL_S", 3600)
    voice.announcer.prepare(Announcement("garp", times=10))
    voice.announcer.announce()
    voice.announcer.repeat()
    voice.announcer.stop()
    assert voice.hears() == announcement.frames(voice.vm, "garp")

    voice.announcer.prepare(Announcement("na"))
    voice.announcer.announce()
    assert voice.hears() == announcement.frames(voice.vm, "na")


def test_what_is_said_passes_by_what_is_held(voice: Voice) -> None:
    bounds = Bounds(packets=9, octets=1 << 20, time_s=60)
    gate = OutboundGate(voice.pid, vm_interface("nve1"), bounds)
    gate.close()
    voice.announcer.prepare(Announcement("garp"))
    voice.announcer.pass_by(vm_interface("nve1"))
    voice.mouth.send(b"\xff" * 6 + bytes(54))
    voice.announcer.announce()
    said = announcement.frames(voice.vm, "garp")
    assert [voice.ear.recv(2048) for _ in said] == list(said)
    assert gate.open() == 1
    gate.end()
