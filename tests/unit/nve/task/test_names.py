"""Updates of a task's name, read octet by octet: RFC 2136, and RFC 8945 for the signature."""

import base64
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from nve.task.names import TaskName, UpdateKey, confirmation, leading_to

NAME = TaskName("web", "lab.test", 3)
KEY = UpdateKey.new()
OLD = [ip_address("192.168.9.51"), ip_address("fd77::9:51")]
UPDATE, INTERNET, ANY = 5, 1, 255
A, SOA, AAAA, TSIG = 1, 6, 28, 250


@dataclass(frozen=True)
class Record:
    owner: str
    kind: int
    of_class: int
    ttl_s: int
    data: bytes


class Reader:
    """RFC 1035 section 4.1, as far as it is needed here."""

    def __init__(self, octets: bytes) -> None:
        self.octets, self.place = octets, 0

    def take(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self.octets, self.place)
        self.place += struct.calcsize(form)
        return found

    def name(self) -> str:
        labels = []
        while length := self.octets[self.place]:
            if length >= 0xC0:
                (pointer,) = self.take("!H")
                before, self.place = self.place, pointer & 0x3FFF
                labels.append(self.name().rstrip("."))
                self.place = before
                return ".".join(labels) + "."
            labels.append(self.octets[self.place + 1 : self.place + 1 + length].decode())
            self.place += 1 + length
        self.place += 1
        return ".".join(labels) + "."

    def record(self) -> Record:
        owner = self.name()
        kind, of_class, ttl_s, length = self.take("!HHIH")
        self.place += length
        return Record(owner, kind, of_class, ttl_s, self.octets[self.place - length : self.place])


def read(octets: bytes) -> tuple[tuple[str, int, int], list[Record], list[Record], int]:
    """The zone, the prerequisites, the updates, and where the signature begins."""
    reader = Reader(octets)
    _, flags, zones, prerequisites, updates, more = reader.take("!6H")
    assert (flags, zones, more) == (UPDATE << 11, 1, 1)
    zone = (reader.name(), *reader.take("!HH"))
    before = [reader.record() for _ in range(prerequisites)]
    after = [reader.record() for _ in range(updates)]
    return zone, before, after, reader.place  # type: ignore[return-value]


def test_an_update_replaces_all_addresses_of_the_name() -> None:
    zone, before, after, _ = read(leading_to(NAME, OLD, KEY).to_wire())
    assert zone == ("lab.test.", SOA, INTERNET)
    assert before == []
    assert after == [
        Record("web.lab.test.", A, ANY, 0, b""),
        Record("web.lab.test.", AAAA, ANY, 0, b""),
        Record("web.lab.test.", A, INTERNET, 3, OLD[0].packed),
        Record("web.lab.test.", AAAA, INTERNET, 3, OLD[1].packed),
    ]


def test_a_confirmation_changes_nothing() -> None:
    _, before, after, _ = read(confirmation(NAME, OLD, KEY).to_wire())
    assert after == []
    assert before == [
        Record("web.lab.test.", A, INTERNET, 0, OLD[0].packed),
        Record("web.lab.test.", AAAA, INTERNET, 0, OLD[1].packed),
    ]


def signature(octets: bytes, secret: str) -> tuple[bytes, bytes]:
    """The one that a message has, and the one that it should have (RFC 8945 section 4.3.3)."""
    end = read(octets)[-1]
    reader = Reader(octets)
    reader.place = end
    owner = reader.name()
    kind, of_class, ttl_s, _ = reader.take("!HHIH")
    assert (kind, of_class, ttl_s) == (TSIG, ANY, 0)
    algorithm = reader.name()
    high, low, fudge, length = reader.take("!HIHH")
    mac = reader.octets[reader.place : reader.place + length]
    reader.place += length
    original, error, others = reader.take("!HHH")
    assert (owner, algorithm, error, others) == ("vmmlab.", "hmac-sha256.", 0, 0)

    unsigned = struct.pack("!H", original) + octets[2:10] + struct.pack("!H", 0) + octets[12:end]
    variables = [
        *(wire(owner), struct.pack("!HI", ANY, 0), wire(algorithm)),
        struct.pack("!HIHHH", high, low, fudge, 0, 0),
    ]
    key = base64.b64decode(secret)
    return mac, hmac.new(key, unsigned + b"".join(variables), "sha256").digest()


def wire(name: str) -> bytes:
    labels: Sequence[str] = name.rstrip(".").split(".")
    return b"".join(bytes([len(each)]) + each.encode() for each in labels) + b"\0"


@pytest.mark.parametrize("make", [leading_to, confirmation])
def test_the_signature_is_that_of_the_key(make: type) -> None:
    octets = make(NAME, OLD, KEY).to_wire()
    mac, wanted = signature(octets, KEY.secret)
    assert mac == wanted
    assert signature(octets, UpdateKey.new().secret)[1] != mac
