"""What a diskless client asks, takes for an answer, and writes down (R4.1.5; RFC 903)."""

from ipaddress import IPv4Address
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.workloads.rarp import talk
from experiments.workloads.rarp.talk import Request
from nve.model import NVE_MAC
from nve.wire import announcement, frames
from nve.wire.frames import ARP
from tests.helpers.tenants import vm

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1")
NOBODY = IPv4Address(0)


def frame(operation: int = 4, mac: str = VM1.mac, ethertype: int = frames.RARP) -> bytes:
    """What an NVE sends to vm1, padded as Ethernet is, or a variation of it."""
    body = frames.arp(operation, (NVE_MAC, NOBODY), (mac, VM1.ipv4))
    return frames.ethernet(NVE_MAC, VM1.mac, ethertype, body).ljust(60, b"\0")


@pytest.mark.shows("R4.1.5")
def test_a_client_asks_with_its_own_mac() -> None:
    """The same frame as a hypervisor's announcement of this form."""
    assert [talk.request(VM1.mac)] == announcement.frames(VM1, "rarp")


@pytest.mark.shows("R4.1.5")
def test_a_reply_to_its_mac_tells_it_an_address() -> None:
    assert talk.answer(frame(), VM1.mac) == VM1.ipv4


@pytest.mark.parametrize(
    "other",
    [
        b"",
        frame()[:41],
        frame(operation=3),
        frame(operation=2),
        frame(mac=VM2.mac),
        frame(ethertype=ARP),
    ],
    ids=["nothing", "cut off", "a request", "ARP's reply", "for another", "no reverse ARP"],
)
def test_nothing_else_is_an_answer(other: bytes) -> None:
    assert talk.answer(other, VM1.mac) is None


@given(st.binary(max_size=80))
def test_any_bytes_at_all_do_no_harm(received: bytes) -> None:
    assert talk.answer(received, VM1.mac) is None or len(received) >= 42


def test_the_waits_double_up_to_the_longest() -> None:
    assert list(islice(talk.waits_s(), 7)) == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_what_is_written_down_is_read_and_a_line_cut_off_is_left_out() -> None:
    made = [Request(10, 1), Request(20, 2, 4_020, "192.168.0.1", used=True)]
    lines = [*(each.line() for each in made), made[1].line()[:30]]

    assert talk.requests(lines) == made


def test_a_request_is_a_line_of_requests_csv() -> None:
    made = [Request(10, 1), Request(20, 2, 4_000_020, "192.168.0.1", used=True)]

    assert talk.rows("vm1", made) == [
        (10, "vm1", 1, None, None, None, False),
        (20, "vm1", 2, 4_000_020, 4.0, "192.168.0.1", True),
    ]
