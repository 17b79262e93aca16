"""A kept connection to the control socket of ovs-vswitchd, by which it is told what to do at once.

The protocol is JSON-RPC 1.0 (ovs-appctl(8), `ovs.unixctl`): requests and answers follow each other
without a separator.  Open vSwitch's own client sends one request and polls for its answer; packets
may be waiting here, so that several can be sent in one piece.  The switch carries those out one
after the other, before it looks at a packet again.
"""

import errno
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_DECODER = json.JSONDecoder()
_LONGEST = 65536


class ControlSocket:
    """A connection to one ovs-vswitchd; one thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        """Connect.  Raises OSError if nobody listens there."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._unread = ""
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def tell(self, commands: Sequence[str]) -> None:
        """Send these commands in one piece; return when all are answered.

        Raises RuntimeError with the complaint about the first that has failed, and OSError if there
        is no answer.
        """
        asked = (
            json.dumps({"id": number, "method": command, "params": []})
            for number, command in enumerate(commands)
        )
        self._socket.sendall("".join(asked).encode())
        answers = [self._answer() for _ in commands]
        for command, answer in zip(commands, answers, strict=True):
            if complaint := answer.get("error"):
                raise RuntimeError(f"{command}: {complaint}")

    def _answer(self) -> dict[str, Any]:
        while True:
            with suppress(ValueError):  # not all of it is there
                answer, end = _DECODER.raw_decode(self._unread)
                self._unread = self._unread[end:]
                return dict(answer)
            received = self._socket.recv(_LONGEST)
            if not received:
                raise ConnectionResetError(errno.ECONNRESET, "ovs-vswitchd has hung up")
            self._unread += received.decode()

    def close(self) -> None:
        self._socket.close()
