"""A fast HTTP client for a unix socket: a suspended VM may be waiting for the answer.

Connections are kept and reused, unless the server has closed them meanwhile.  Several threads may
send requests at the same time.
"""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from nve.linux.wait import readable


class NoAnswer(Exception):
    """There was no answer, or not in time; the message says why."""


@dataclass(frozen=True)
class Answer:
    """An answer; `content` is its parsed JSON, or None if it is not JSON."""

    status: int
    content: Any


class SentRequest:
    """A request that was sent; readable when there is an answer, or never will be."""

    def __init__(self, connection: "_Connection", idle: "list[_Connection]") -> None:
        self._connection = connection
        self._idle = idle

    def fileno(self) -> int:
        return self._connection.sock.fileno()

    def answer(self) -> Answer:
        """Wait for the answer.  Raises NoAnswer.  Call this once."""
        try:
            response = self._connection.getresponse()
            answer = Answer(response.status, _read(response.read()))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoAnswer(str(error) or type(error).__name__) from None
        self._idle.append(self._connection)
        return answer


class HttpClient:
    """A client of the server at a unix socket, which may appear later, or anew."""

    def __init__(self, path: Path, headers: Mapping[str, str]) -> None:
        self._path = path
        self._headers = {**headers, "Content-Type": "application/json"}
        self._idle: list[_Connection] = []

    def ask(
        self,
        method: str,
        target: str,
        parameters: Mapping[str, object],
        body: Mapping[str, object] | None,
        timeout_s: float,
    ) -> Answer:
        """Send a request and return the answer.  Raises NoAnswer."""
        return self.begin(method, target, parameters, body, timeout_s).answer()

    def begin(
        self,
        method: str,
        target: str,
        parameters: Mapping[str, object],
        body: Mapping[str, object] | None,
        timeout_s: float,
    ) -> SentRequest:
        """Send a request; the caller asks for the answer later.  Raises NoAnswer."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        content = None if body is None else json.dumps(body)
        connection = self._connection()
        try:
            connection.wait_for(timeout_s)
            connection.request(method, f"{target}{query}", content, self._headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(str(error) or type(error).__name__) from None
        return SentRequest(connection, self._idle)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open():
                return connection
            connection.close()
        return _Connection(self._path)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("nva")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def wait_for(self, timeout_s: float) -> None:
        """Set the time-out for each part of an answer."""
        self.timeout = timeout_s
        if self.sock:
            self.sock.settimeout(timeout_s)

    def is_open(self) -> bool:
        """Return whether the server has not hung up: it sends nothing unasked."""
        return self.sock is not None and not readable(self.sock, 0)


def _read(octets: bytes) -> Any:
    try:
        return json.loads(octets)
    except ValueError:
        return None
