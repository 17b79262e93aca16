"""Hosts on one switch: only network namespaces, for tests that need kernels and no overlay.

Each namespace is held by a sleeping process; when the block ends, that is killed, and its namespace
goes with it.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from typing import Any

from nve.linux import child
from nve.linux.namespace import ip, set_sysctls
from tests.helpers.wait import wait_until

NIC = "eth0"


@dataclass(frozen=True)
class Host:
    name: str
    pid: int
    ipv4: IPv4Address
    ipv6: IPv6Address

    def start(self, argv: Sequence[str], **popen: Any) -> "subprocess.Popen[Any]":
        """Start a process in the host."""
        entered = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv]
        return subprocess.Popen(entered, **popen)


class Hosts:
    """The part of a data centre that tasks use: `vms`, `in_vm`."""

    def __init__(self, hosts: Sequence[Host], switch: int) -> None:
        self.of = {host.name: host for host in hosts}
        self.switch = switch
        """Its process."""
        self.vms = {
            host.name: SimpleNamespace(
                pid=host.pid, spec=SimpleNamespace(ipv4=host.ipv4, routed=None)
            )
            for host in hosts
        }

    def in_vm(self, vm: str, argv: Sequence[str], **popen: Any) -> "subprocess.Popen[Any]":
        return self.of[vm].start(argv, **popen)


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[Hosts]:
    """Yield hosts that reach each other at 10.9.0.1, fd09::1 and so on."""
    with ExitStack() as stack:
        switch = stack.enter_context(namespace())
        set_sysctls(switch, {"ipv6/conf/all/disable_ipv6": 1})
        ip(switch, ["link add br0 type bridge mcast_snooping 0", "link set br0 up"])
        made = []
        for number, name in enumerate(names, start=1):
            pid = stack.enter_context(namespace())
            found = Host(
                name, pid, IPv4Address(f"10.9.0.{number}"), IPv6Address(f"fd09::{number:x}")
            )
            set_sysctls(pid, {"ipv6/conf/default/accept_dad": 0, "ipv4/conf/default/rp_filter": 0})
            ip(
                switch,
                [
                    f"link add to-{name} type veth peer name {NIC} netns {pid}",
                    f"link set to-{name} master br0 up",
                ],
            )
            ip(
                pid,
                [
                    "link set lo up",
                    f"link set {NIC} up",
                    f"addr add {found.ipv4}/24 dev {NIC}",
                    f"addr add {found.ipv6}/64 dev {NIC} nodad",
                ],
            )
            made.append(found)
        yield Hosts(made, switch)


@contextmanager
def namespace() -> Iterator[int]:
    """A network namespace with nothing in it; the process that holds it."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        own = os.stat("/proc/self/ns/net").st_ino
        wait_until(
            lambda: None if os.stat(f"/proc/{process.pid}/ns/net").st_ino != own else "no namespace"
        )
        yield process.pid
    finally:
        child.end(process)
