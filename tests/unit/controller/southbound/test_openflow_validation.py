"""What of OpenFlow is read, passed over, or ends the connection."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.southbound.openflow_validation import MessageVerdict, judge
from tests.helpers.impostor import EVERYTHING, HELLO, MULTIPART_REPLY, message


def statistics(kind: int, body: bytes) -> bytes:
    return message(MULTIPART_REPLY, struct.pack("!HH4x", kind, 0) + body)


def flow(*instructions: bytes, length: int | None = None, match_length: int = 4) -> bytes:
    behind = struct.pack("!HH4x", 1, match_length) + b"".join(instructions)
    own = 48 + len(behind) if length is None else length
    return struct.pack("!H46x", own) + behind


def instruction(kind: int, *actions: bytes, length: int | None = None) -> bytes:
    inside = b"".join(actions)
    return struct.pack("!HH4x", kind, 8 + len(inside) if length is None else length) + inside


def action(kind: int, octets: int, length: int | None = None) -> bytes:
    return struct.pack("!HH", kind, octets if length is None else length) + bytes(octets - 4)


def meter(length: int = 40) -> bytes:
    return struct.pack("!IH34x", 20, length)


READ = {
    **{f"what an NVE sends, {n}": each for n, each in enumerate(EVERYTHING)},
    "no flow": statistics(1, b""),
    "a flow that drops": statistics(1, flow()),
    "two flows": statistics(1, flow(instruction(4, action(0, 16))) + flow(instruction(1))),
    "a short action of Open vSwitch": statistics(1, flow(instruction(4, action(0xFFFF, 24)))),
    "meters": statistics(9, meter() + meter(56) + bytes(16)),
    "ports": statistics(13, bytes(128)),
}
MALFORMED = {
    "another version": message(HELLO, version=1),
    "a hello whose element has no length": message(HELLO, struct.pack("!HHI", 1, 0, 16)),
    "a hello whose element is too long": message(HELLO, struct.pack("!HHI", 1, 99, 16)),
    "a hello that is cut off": message(HELLO, b"\0\1"),
    "statistics without a kind": message(MULTIPART_REPLY, b"\0"),
    "a flow without a length": statistics(1, flow(length=0)),
    "a flow that is too long": statistics(1, flow(length=64)),
    "a flow that is cut off": statistics(1, flow()[:-1]),
    "a match without a length": statistics(1, flow(match_length=0)),
    "a match that is too long": statistics(1, flow(match_length=90)),
    "an instruction without a length": statistics(1, flow(instruction(4, length=0))),
    "an instruction that is too long": statistics(1, flow(instruction(1, length=16))),
    "an action without a length": statistics(1, flow(instruction(4, action(0, 16, length=0)))),
    "an action that is too long": statistics(1, flow(instruction(4, action(0, 16, length=24)))),
    "an action with parts": statistics(1, flow(instruction(4, action(0xFFFF, 48)))),
    "a meter without a length": statistics(9, meter(0)),
    "a meter that is too long": statistics(9, meter(48)),
    "half a port": statistics(13, bytes(32)),
}
PASSED_OVER = {
    "table features": statistics(12, bytes(64)),
    "groups": statistics(7, bytes(8)),
    "a flow-mod": message(14, bytes(64)),
    "a kind that there is not": message(99),
}


@pytest.mark.parametrize("octets", READ.values(), ids=READ)
def test_what_an_nve_sends_is_read(octets: bytes) -> None:
    assert judge(octets) is MessageVerdict.READ


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_whole_ends_the_connection(octets: bytes) -> None:
    assert judge(octets) is MessageVerdict.HANG_UP


@pytest.mark.parametrize("octets", PASSED_OVER.values(), ids=PASSED_OVER)
def test_what_is_of_no_use_is_passed_over(octets: bytes) -> None:
    assert judge(octets) is MessageVerdict.PASS_OVER


@given(st.sampled_from([0, 19]), st.binary(max_size=200))
def test_any_octets_are_judged(kind: int, body: bytes) -> None:
    judge(message(kind, body))
