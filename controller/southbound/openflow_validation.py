"""Which OpenFlow messages the framework may read: those that an NVE sends, if they are well-formed.

Both frameworks follow the lengths that a message gives for its parts without checking them: a part
of length 0 is read again and again, until the memory is full.  So every such length is checked here
first (OpenFlow 1.3.5 section 7).  A message that is not well-formed ends its connection; a kind of
message that the NVA does not use is skipped.
"""

import enum
from collections.abc import Iterator

VERSION = 4
HELLO, MULTIPART_REPLY = 0, 19
_FLOWS, _METERS, _PORTS = 1, 9, 13
_USED = frozenset(
    {
        *(HELLO, 1, 2, 3, 6),  # and error, echo request and reply, features reply
        *(10, 11, 12),  # packet-in, flow-removed, port status
        *(MULTIPART_REPLY, 21),  # and barrier reply
    }
)
_HEADER_OCTETS, _MULTIPART_OCTETS = 8, 16
_PORT_OCTETS, _METER_OCTETS, _FLOW_OCTETS, _MATCH_AT = 64, 40, 56, 48
_WITH_ACTIONS = frozenset({3, 4, 5})
_EXPERIMENTER, _EXPERIMENTER_OCTETS = 0xFFFF, 24
"""Longer ones have parts of their own; no rule of ours has such an action."""


class MessageVerdict(enum.Enum):
    READ = "read"
    PASS_OVER = "pass over"
    HANG_UP = "hang up"


class _Malformed(Exception):
    pass


def judge(message: bytes) -> MessageVerdict:
    """Return what to do with a message; its length has to be the one that its header gives."""
    if message[0] != VERSION or len(message) < _HEADER_OCTETS:
        return MessageVerdict.HANG_UP
    kind = message[1]
    if kind not in _USED:
        return MessageVerdict.PASS_OVER
    try:
        if kind == HELLO:
            _walk(message, _HEADER_OCTETS, len(message), at=2, least=4)
        elif kind == MULTIPART_REPLY:
            return _of_statistics(message)
    except _Malformed:
        return MessageVerdict.HANG_UP
    return MessageVerdict.READ


def _of_statistics(message: bytes) -> MessageVerdict:
    if len(message) < _MULTIPART_OCTETS:
        raise _Malformed
    start, end = _MULTIPART_OCTETS, len(message)
    match _number(message, _HEADER_OCTETS):
        case kind if kind == _PORTS:
            if (end - start) % _PORT_OCTETS:
                raise _Malformed
        case kind if kind == _METERS:
            _walk(message, start, end, at=4, least=_METER_OCTETS)
        case kind if kind == _FLOWS:
            for place, length in _walk(message, start, end, at=0, least=_FLOW_OCTETS):
                _check_flow(message, place, place + length)
        case _:
            return MessageVerdict.PASS_OVER
    return MessageVerdict.READ


def _check_flow(message: bytes, start: int, end: int) -> None:
    match_octets = _number(message, start + _MATCH_AT + 2)
    instructions = start + _MATCH_AT + (match_octets + 7) // 8 * 8
    if match_octets < 4 or instructions > end:
        raise _Malformed
    for place, length in _walk(message, instructions, end, at=2, least=8):
        if _number(message, place) in _WITH_ACTIONS:
            for action, octets in _walk(message, place + 8, place + length, at=2, least=8):
                if _number(message, action) == _EXPERIMENTER and octets > _EXPERIMENTER_OCTETS:
                    raise _Malformed


def _walk(message: bytes, start: int, end: int, *, at: int, least: int) -> list[tuple[int, int]]:
    """Return place and length of each part between two places; `at` is where a part holds its
    length.
    """
    return list(_parts(message, start, end, at, least))


def _parts(message: bytes, start: int, end: int, at: int, least: int) -> Iterator[tuple[int, int]]:
    while start < end:
        if start + at + 2 > end:
            raise _Malformed
        length = _number(message, start + at)
        if length < least or start + length > end:
            raise _Malformed
        yield start, length
        start += length


def _number(message: bytes, place: int) -> int:
    return int.from_bytes(message[place : place + 2], "big")
