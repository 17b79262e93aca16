"""What a VM sent last has arrived before what it sends elsewhere goes out.

vm1 moves from nve1 to nve2; there are VMs of its network at nve2 and nve3.
"""

import pytest

from nve.ovs.last_packets import LastPackets
from nve.wire.end_marker import COPIES, MarkerKind, Signal
from tests.helpers.tenants import vm

SYSTEM = vm("vm1", 1, "nve1").tenant_system
NUMBER = 7


def marker(copy: int, number: int = NUMBER) -> Signal:
    return Signal(MarkerKind.LAST, number, SYSTEM, ("nve1", "nve2"), copy)


def expecting(number: int = NUMBER) -> LastPackets:
    known = LastPackets()
    known.expect(SYSTEM, number)
    return known


@pytest.mark.parametrize("first", [0, COPIES - 1])
def test_a_marker_has_passed_with_any_one_of_its_copies(first: int) -> None:
    known = expecting()
    assert known.came(marker(first), "nve3")
    assert not any(known.came(marker(copy), "nve3") for copy in range(COPIES))
    assert known.missing(SYSTEM, ["nve3"]) == []


def test_all_has_arrived_when_the_marker_has_passed_every_nve() -> None:
    known = expecting()
    assert known.missing(SYSTEM, ["nve3", "nve2"]) == ["nve2", "nve3"]
    for nve, missing in (("nve3", ["nve2"]), ("nve2", [])):
        known.came(marker(0), nve)
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
