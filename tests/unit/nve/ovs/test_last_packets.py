"""What a VM sent last has arrived before what it sends elsewhere goes out.

vm1 moves from nve1 to nve2; there are VMs of its network at nve2 and nve3.
"""

from nve.ovs.last_packets import LastPackets
from nve.wire.end_marker import COPIES, NEEDED, MarkerKind, Signal
from tests.helpers.tenants import vm

SYSTEM = vm("vm1", 1, "nve1").tenant_system
NUMBER = 7


def marker(copy: int, number: int = NUMBER) -> Signal:
    return Signal(MarkerKind.LAST, number, SYSTEM, ("nve1", "nve2"), copy)


def expecting(number: int = NUMBER) -> LastPackets:
    known = LastPackets()
    known.expect(SYSTEM, number)
    return known


def test_a_marker_has_passed_once_when_enough_of_its_copies_have_come() -> None:
    known = expecting()
    said = [known.came(marker(copy), "nve3") for copy in range(COPIES)]
    assert said == [copy == NEEDED - 1 for copy in range(COPIES)]


def test_the_same_copies_again_say_nothing_new() -> None:
    known = expecting()
    for _ in range(3):
        assert not any(known.came(marker(copy), "nve3") for copy in range(NEEDED - 1))
    assert known.missing(SYSTEM, ["nve3"]) == ["nve3"]
    assert known.came(marker(NEEDED), "nve3")


def test_copies_that_have_passed_different_nves_are_not_added_up() -> None:
    known = expecting()
    for nve in ("nve2", "nve3"):
        assert not any(known.came(marker(copy), nve) for copy in range(NEEDED - 1))
    assert known.missing(SYSTEM, ["nve2", "nve3"]) == ["nve2", "nve3"]


def test_all_has_arrived_when_the_marker_has_passed_every_nve() -> None:
    known = expecting()
    assert known.missing(SYSTEM, ["nve3", "nve2"]) == ["nve2", "nve3"]
    for nve, missing in (("nve3", ["nve2"]), ("nve2", [])):
        for copy in range(NEEDED):
            known.came(marker(copy), nve)
        assert known.missing(SYSTEM, ["nve2", "nve3"]) == missing


def test_markers_of_an_earlier_move_do_not_count() -> None:
    known = expecting(NUMBER + 1)
    assert not any(known.came(marker(copy), "nve2") for copy in range(COPIES))
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]


def test_what_is_not_expected_is_not_remembered() -> None:
    known = LastPackets()
    for copy in range(COPIES):
        known.came(marker(copy), "nve2")
    known.expect(SYSTEM, NUMBER)
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]
    for copy in range(COPIES):
        known.came(marker(copy), "nve2")
    assert known.missing(SYSTEM, ["nve2"]) == []
    known.forget(SYSTEM)
    assert known.missing(SYSTEM, ["nve2"]) == ["nve2"]
