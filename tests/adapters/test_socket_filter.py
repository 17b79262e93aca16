"""What the kernel keeps from a socket."""

import socket

from nve.linux.socket_filter import take_only


def test_only_what_has_that_octet_at_that_place_comes() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    take_only(ours, 2, 0x2A)
    for octets in (b"ab*d", b"*bcd", b"abcd", b"ab", b"", b"ab*"):
        theirs.send(octets)
    ours.setblocking(False)
    assert [ours.recv(16), ours.recv(16)] == [b"ab*d", b"ab*"]
    try:
        more = ours.recv(16)
    except BlockingIOError:
        more = None
    assert more is None
    ours.close()
    theirs.close()
