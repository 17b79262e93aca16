"""Serves the northbound interface on a unix socket, and limits what callers may occupy."""

import threading
from typing import Any

from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from controller.northbound.api import Northbound
from controller.nva import Nva

MAX_CONNECTIONS = 256
SILENCE_S = 10.0
"""A caller that is silent for this long in the middle of a request is disconnected."""


class _QuietHandler(WSGIRequestHandler):
    """Writes no line on stderr for each request; the trace says what happened."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S

    def log(self, *args: object, **kwargs: object) -> None:
        return

    def address_string(self) -> str:
        return "northbound"  # a unix socket has no client address


class _Server(ThreadedWSGIServer):
    """Runs a thread for each connection, up to a limit, and closes further connections."""

    def __init__(self, path: str, application: Northbound) -> None:
        super().__init__(f"unix://{path}", 0, application, _QuietHandler)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def serve(nva: Nva) -> BaseWSGIServer:
    """Return the listening server, whose `serve_forever` the caller runs; only the owner may
    connect.
    """
    path = nva.settings.northbound
    server = _Server(str(path), Northbound(nva))
    path.chmod(0o600)
    return server
