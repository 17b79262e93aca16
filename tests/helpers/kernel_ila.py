"""Linux's own translator of identifiers and locators (`ip ila`), to compare ours with.

It stands in a network namespace with one interface, a TUN device: what is written there comes in,
is translated and routed, and leaves by it again.
"""

import fcntl
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import FileIO
from ipaddress import IPv6Network

from nve import ila
from nve.linux.namespace import inside, ip, set_sysctls
from nve.linux.wait import readable
from tests.helpers.hosts import namespace

UNCHANGED, ADJUSTED = "no-action", "adj-transport"
"""What the translator does to the checksums of TCP, UDP and ICMPv6."""
_DEVICE = "ila0"
_SOURCE = slice(8, 24)
_LONGEST = 2048
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # linux/if_tun.h: IFF_TUN | IFF_NO_PI


@cache
def lacking() -> str:
    """Return why this kernel cannot be asked; empty if it can."""
    subprocess.run(["modprobe", "--quiet", "ila"], check=False)
    asked = subprocess.run(
        ["unshare", "--net", "ip", "ila", "list"], capture_output=True, text=True, check=False
    )
    return "" if asked.returncode == 0 else "this kernel has no translator (module ila)"


@contextmanager
def translator(
    matched: IPv6Network, replaced_by: IPv6Network, checksums: str
) -> Iterator[Callable[[bytes], bytes]]:
    """What makes of an IPv6 packet to the one prefix the packet to the other one."""
    with namespace() as pid, _tun(pid) as tun:
        set_sysctls(pid, {"ipv6/conf/all/forwarding": 1})
        rule = f"loc_match {_words(matched)} loc {_words(replaced_by)} csum-mode {checksums}"
        ip(
            pid,
            [
                f"link set {_DEVICE} addrgenmode none up",
                f"route add ::/0 dev {_DEVICE}",
                f"ila add {rule}",
            ],
        )

        def translate(packet: bytes) -> bytes:
            tun.write(packet)
            while readable(tun, 5):
                said = tun.read(_LONGEST)
                if said[_SOURCE] == packet[_SOURCE]:  # and not what the kernel says itself
                    return said
            raise AssertionError("the kernel has let nothing out")

        yield translate


def _tun(pid: int) -> FileIO:
    with inside(pid):  # it belongs to where it is opened
        tun = FileIO("/dev/net/tun", "r+")
        wanted = struct.pack("16sH14x", _DEVICE.encode(), _TUN_WITHOUT_HEADER)
        fcntl.ioctl(tun, _TUNSETIFF, wanted)
    return tun


def _words(prefix: IPv6Network) -> str:
    return ":".join(f"{word:x}" for word in ila.words(prefix))
