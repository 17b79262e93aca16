"""Network namespaces joined by veth pairs, without Mininet or OVS: two of them, for the probe
alone, and a delay for a port of a bridge in one.

A namespace lives as long as a `cat` that waits inside it; its interfaces vanish with it, also when
the test itself is killed (the pipe closes and `cat` ends).
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nve.linux.wait import wait_until
from topologies.emulation.delay_line import READY

REACHABLE_TIMEOUT_S = 10


class Namespace:
    """An anonymous network namespace."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "ready\n", "unshare --net failed: root is needed"

    @property
    def pid(self) -> int:
        return self._keeper.pid

    def popen(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(self._inside(*argv), **options)

    def run(self, *argv: str) -> str:
        """Run a program in the namespace and return what it printed; raise an error if it fails."""
        return subprocess.run(
            self._inside(*argv), check=True, capture_output=True, text=True
        ).stdout

    def _inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        for stream in (self._keeper.stdin, self._keeper.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def joined_pair() -> Iterator[dict[str, Namespace]]:
    """Yield namespaces `vm1` (10.0.0.1, fd00::1) and `vm2` (10.0.0.2, fd00::2), both with an
    `eth0`.
    """
    pair = {"vm1": Namespace(), "vm2": Namespace()}
    try:
        subprocess.run(
            f"ip link add eth0 netns {pair['vm1'].pid} type veth "
            f"peer name eth0 netns {pair['vm2'].pid}".split(),
            check=True,
        )
        for number, namespace in enumerate(pair.values(), start=1):
            for command in (
                "link set lo up",
                f"addr add 10.0.0.{number}/24 dev eth0",
                f"addr add fd00::{number}/64 dev eth0 nodad",
                "link set eth0 up",
            ):
                namespace.run("ip", *command.split())
        for address in ("10.0.0.2", "fd00::2"):
            wait_until(partial(_unreachable, pair["vm1"], address), REACHABLE_TIMEOUT_S)
        yield pair
    finally:
        for namespace in pair.values():
            namespace.close()


@contextmanager
def delayed(
    switch: int, port: str, bridge: str, delay_ms: float, directory: Path
) -> Iterator[None]:
    """What passes a port of a bridge, in the namespace of process `switch`, takes so long more in
    each direction; `directory` is for the delay line's files."""
    links = directory / "links.json"
    link = {"a": "port", "b": "bridge", "a_end": port, "b_end": "wire", "jitter_ms": 0}
    links.write_text(json.dumps([{**link, "delay_ms": delay_ms}]), encoding="utf-8")
    namespace = ["nsenter", f"--net=/proc/{switch}/ns/net"]
    for command in (
        f"link set {port} nomaster",
        "link add wire type veth peer name to-wire",
        "link set wire up",
        f"link set to-wire master {bridge} up",
    ):
        subprocess.run([*namespace, "ip", *command.split()], check=True)
    argv = [sys.executable, "-m", "topologies.emulation.delay_line", str(links)]
    argv += ["--statistics", str(directory / "statistics.json")]
    line = subprocess.Popen([*namespace, *argv], stdout=subprocess.PIPE, text=True)
    assert line.stdout is not None
    assert line.stdout.readline().strip() == READY
    try:
        yield
    finally:
        line.terminate()
        line.wait()
        line.stdout.close()
        for command in ("link del wire", f"link set {port} master {bridge}"):
            subprocess.run([*namespace, "ip", *command.split()], check=True)


def _unreachable(namespace: Namespace, address: str) -> str | None:
    """Return a sentence until the address is reachable.

    IPv6 routes appear only when the kernel has noticed that the link is up.
    """
    ping = namespace.popen(
        ["ping", "-c", "1", "-W", "1", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = ping.communicate()
    return said if ping.returncode else None
