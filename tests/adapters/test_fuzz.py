"""Whatever octets come, the parsers make a report of them and nothing else (R9.2).

They are the NVA's outer skin: what a tenant sends is read here, with the NVA's lock not yet taken.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.southbound import packets
from nve.messages import Malformed, Missed
from nve.wire import announcement, frames
from tests.helpers.tenants import vm

VM1 = vm("vm1", 1, "nve1")
SOLICITATION = frames.solicitation((VM1.mac, VM1.ipv6), VM1.ipv6 + 1)
HONEST = [*(announcement.frames(VM1, form)[0] for form in announcement.FORMS), SOLICITATION]
READERS = [packets.reported, packets.missed]


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """An honest frame with some octets changed, cut off or added."""
    frame = bytearray(draw(st.sampled_from(HONEST)))
    for _ in range(draw(st.integers(1, 4))):
        if frame:
            frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))]) + draw(st.binary(max_size=16))


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize("read", READERS)
@given(frame=st.one_of(st.binary(max_size=200), nearly_right()))
def test_any_octets_are_a_report_of_their_port(read, frame: bytes) -> None:
    report = read(7, frame)

    assert report.port == 7
    assert isinstance(report, Malformed | Missed) or len(frame) >= 14


@given(frame=nearly_right())
def test_what_is_read_is_what_is_there(frame: bytes) -> None:
    """Nothing is made up: the same octets in a frame with a longer tail say the same."""
    report = packets.reported(7, frame)
    if not isinstance(report, Malformed) and frame[12:14] in (b"\x08\x06", b"\x80\x35"):
        assert packets.reported(7, frame + bytes(18)) == report


@pytest.mark.parametrize("frame", HONEST, ids=[*announcement.FORMS, "solicitation"])
def test_honest_frames_are_not_malformed(frame: bytes) -> None:
    """The check above, checked."""
    assert not isinstance(packets.reported(7, frame), Malformed)
    assert packets.reported(8, frame).port == 8  # type: ignore[union-attr]
