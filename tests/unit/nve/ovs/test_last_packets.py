"""What a VM sent last has arrived before what it sends elsewhere goes out.

vm1 moves from nve1 to nve2; there are VMs of its network at nve2 and nve3.
"""

from nve.ovs.last_packets import REMEMBERED, LastPackets
from nve.wire.end_marker import COPIES, NEEDED, MarkerKind, Signal
from tests.helpers.tenants import vm

SYSTEM = vm("vm1", 1, "nve1").tenant_system
NUMBER = 7


def marker(copy: int, number: int = NUMBER) -> Signal:
    return Signal(MarkerKind.LAST, number, SYSTEM, ("nve1", "nve2"), copy)


def arrived(nve: str, number: int = NUMBER) -> Signal:
    return Signal(MarkerKind.ARRIVED, number, SYSTEM, (nve,))


def test_a_marker_has_come_once_when_enough_of_its_copies_have() -> None:
    known = LastPackets()
    said = [known.have_come(marker(copy)) for copy in range(COPIES)]
    assert said == [copy == NEEDED - 1 for copy in range(COPIES)]


def test_the_same_copies_again_say_nothing_new() -> None:
    known = LastPackets()
    for _ in range(3):
        assert not any(known.have_come(marker(copy)) for copy in range(NEEDED - 1))
    assert known.have_come(marker(NEEDED))


def test_copies_of_different_markers_are_not_added_up() -> None:
    known = LastPackets()
    for number in (NUMBER, NUMBER + 1):
        assert not any(known.have_come(marker(copy, number)) for copy in range(NEEDED - 1))


def test_more_markers_than_there_is_room_for_push_out_the_oldest() -> None:
    known = LastPackets()
    for copy in range(NEEDED - 1):
        known.have_come(marker(copy))
    for number in range(NUMBER + 1, NUMBER + 1 + REMEMBERED):
        known.have_come(marker(0, number))
    assert not known.have_come(marker(NEEDED - 1))


def test_all_has_arrived_when_the_marker_has_come_to_every_nve() -> None:
    known = LastPackets()
    known.expect(SYSTEM, NUMBER)
    assert known.missing(SYSTEM, ["nve3", "nve2"]) == ["nve2", "nve3"]
    known.arrived(arrived("nve3"))
    assert known.missing(SYSTEM, ["nve2", "nve3"]) == ["nve2"]
    known.arrived(arrived("nve2"))
    assert known.missing(SYSTEM, ["nve2", "nve3"]) == []


def test_markers_of_an_earlier_move_do_not_count() -> None:
    known = LastPackets()
    known.expect(SYSTEM, NUMBER)
    known.arrived(arrived("nve2"))
    known.expect(SYSTEM, NUMBER + 1)
    known.arrived(arrived("nve2"))
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]


def test_what_is_not_expected_is_not_remembered() -> None:
    known = LastPackets()
    known.arrived(arrived("nve2"))
    known.expect(SYSTEM, NUMBER)
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]
    known.arrived(arrived("nve2"))
    known.forget(SYSTEM)
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]
