"""A Python program of vmmlab somewhere in the data centre that obeys lines.

It answers with lines of JSON; `failed` in an answer says why an order was not carried out.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from nve.linux import child
from nve.linux.wait import readable


class LineProcess:
    """One program.  `start(argv, **popen)` starts a process where it is to run."""

    def __init__(
        self,
        name: str,
        start: Callable[..., Any],
        module: Sequence[str],
        failure: type[RuntimeError],
        files: Sequence[int] = (),
        *,
        without_it: str = "",
    ) -> None:
        """`name` is used in messages, and `module` is its module with its arguments.

        `failure` is raised if it does not do what it is told, with `without_it` before its own
        message.
        """
        self._name = name
        self._without_it = without_it
        self._failure = failure
        self._said = bytearray()
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] = start(
            [sys.executable, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=files,
            bufsize=0,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, timeout_s: float) -> dict[str, Any]:
        """Send a line and return the answer; threads take turns.  Raises the failure."""
        with self._turn:
            self.tell(what)
            return self.line(timeout_s)

    def tell(self, what: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{what}\n".encode())
        except ValueError:  # ended by us
            raise self._failure(f"the {self._name} has ended") from None
        except OSError:  # gone; its last line says why
            while True:
                self.line(0)

    def line(self, timeout_s: float) -> dict[str, Any]:
        """Return the next line.  Raises the failure if none comes, or if it reports a failure."""
        assert self._process.stdout
        until_s = time.monotonic() + timeout_s
        while b"\n" not in self._said:
            if not readable(self._process.stdout, until_s - time.monotonic()):
                raise self._failure(f"the {self._name} has said nothing for {timeout_s:g} s")
            octets = os.read(self._process.stdout.fileno(), 65536)
            if not octets:
                raise self._failure(f"the {self._name} has ended")
            self._said += octets
        line, _, rest = bytes(self._said).partition(b"\n")
        self._said = bytearray(rest)
        told: dict[str, Any] = json.loads(line)
        if why := told.get("failed"):
            raise self._failure(f"{self._without_it}{why}")
        return told

    def end(self) -> None:
        """End the process; safe at any time: whoever waits for an answer is told that it has
        ended.
        """
        if self.alive:
            self._process.kill()
        with self._turn:
            child.end(self._process)
