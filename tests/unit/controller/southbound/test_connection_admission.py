"""Who is let in on the control network, and whose messages are read."""

from ipaddress import ip_address

import pytest

from controller.southbound.connection_admission import MOST_CONNECTIONS, ConnectionAdmission
from tests.helpers.impostor import EVERYTHING, HELLO, message
from tests.helpers.wire import Wire

HOME, OTHER, STRANGER = "198.18.1.1", "198.18.1.2", "198.18.9.9"


class Door:
    def __init__(self, *homes: str) -> None:
        self.refused: list[tuple[str, str]] = []
        self.keeper = ConnectionAdmission(
            [ip_address(home) for home in homes], lambda *what: self.refused.append(what)
        )


@pytest.fixture
def door() -> Door:
    return Door(HOME, OTHER)


def test_nves_are_let_in_and_nobody_else(door: Door) -> None:
    assert [door.keeper.admits(address) for address in (HOME, STRANGER, OTHER)] == [1, 0, 1]
    assert door.refused == [(STRANGER, "connection")]


def test_where_no_home_is_known_everybody_may_be_one() -> None:
    assert Door().keeper.admits(STRANGER)


def test_from_one_address_a_few(door: Door) -> None:
    """And what ends makes room; others are not concerned."""
    tries = [door.keeper.admits(HOME) for _ in range(MOST_CONNECTIONS + 2)]
    assert tries == [True] * MOST_CONNECTIONS + [False] * 2
    assert door.keeper.admits(OTHER)
    door.keeper.left(HOME)
    assert door.keeper.admits(HOME)
    assert door.refused == [(HOME, "connection")] * 2


def test_a_malformed_message_ends_its_connection(door: Door) -> None:
    wire = Wire(1)
    wire.address = (HOME, 4711)
    for octets in EVERYTHING:
        assert door.keeper.reads(wire, octets)
    assert not door.keeper.reads(wire, message(99))
    assert door.refused == []
    assert not door.keeper.reads(wire, message(HELLO, version=1))
    assert wire.closed
    assert door.refused == [(HOME, "malformed-openflow")]
