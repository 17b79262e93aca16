"""The OpenFlow framework: os-ken, or the Ryu 4.34 that os-ken continues.

No other file knows which of the two is used.  Both offer the same modules under another root.
`VMMLAB_FRAMEWORK` chooses; os-ken is the default.  Importing this module prepares the process (Ryu
runs on eventlet, which has to patch the standard library before anything else is imported), so an
entry point imports it first.
"""

import importlib
import importlib.metadata
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

NAME = os.environ.get("VMMLAB_FRAMEWORK", "os-ken")
_ROOTS = {"os-ken": "os_ken", "ryu": "ryu"}
if NAME not in _ROOTS:
    raise SystemExit(f"VMMLAB_FRAMEWORK is {NAME!r}; it can be {' or '.join(_ROOTS)}")


_sending = threading.Lock()
_collected = threading.local()
_full: WeakSet[Any] = WeakSet()
"""The connections that had no room for a message once."""


def _part(path: str) -> Any:
    return importlib.import_module(f"{_ROOTS[NAME]}.{path}")


if NAME == "ryu":
    # Ryu's own WSGI server looks for a name that eventlet dropped in 0.30.3; ours is not used.
    import eventlet.wsgi

    if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
        eventlet.wsgi.ALREADY_HANDLED = object()
    # Everything, threads too: the northbound's and the controller's share locks and queues.
    _part("lib.hub").patch()

# The application manager has to be loaded before the controller modules.
app_manager = _part("base.app_manager")
handler = _part("controller.handler")
ofp_event = _part("controller.ofp_event")
ofproto = _part("ofproto.ofproto_v1_3")
parser = _part("ofproto.ofproto_v1_3_parser")
hub = _part("lib.hub")
packet = _part("lib.packet.packet")
ethernet = _part("lib.packet.ethernet")
arp = _part("lib.packet.arp")
ipv6 = _part("lib.packet.ipv6")
icmpv6 = _part("lib.packet.icmpv6")

OPENFLOW_HANDLER = f"{_ROOTS[NAME]}.controller.ofp_handler"
Application: Any = app_manager.OSKenApp if NAME == "os-ken" else app_manager.RyuApp


def settings() -> Any:
    """Return the framework's configuration object (oslo.config), which takes the listening
    address.
    """
    return importlib.import_module(f"{_ROOTS[NAME]}.cfg").CONF


def version() -> str:
    """Return the framework's name and version, for the manifest."""
    return f"{NAME} {importlib.metadata.version(NAME)}"


def send_at_once() -> None:
    """Make the thread that sends a message to an NVE write it into the connection itself.

    os-ken has a thread for each connection that does this, so that each message would wait until
    that thread gets the interpreter.  A connection without room for a message is left to that
    thread from then on, so that nothing overtakes.  Ryu's threads are not the kernel's, and it is
    left as it is.
    """
    if NAME != "os-ken":
        return
    controller = _part("controller.controller")
    usual = controller.Datapath.send

    def send(datapath: Any, octets: bytes, close_socket: bool = False) -> Any:
        collected: dict[Any, bytearray] | None = getattr(_collected, "octets", None)
        if collected is not None and not close_socket:
            collected.setdefault(datapath, bytearray()).extend(octets)
            return True
        with _sending:
            if not close_socket and datapath not in _full:
                sent = _write(datapath.socket, octets)
                if sent == len(octets):
                    return True
                _full.add(datapath)
                return usual(datapath, octets[sent:])
        return usual(datapath, octets, close_socket)

    controller.Datapath.send = send


@contextmanager
def together() -> Iterator[None]:
    """Send what this thread tells NVEs in the block at its end, to each in one piece.

    So the last NVE is not told later than the first by the time that it takes to encode everything.
    """
    octets: dict[Any, bytearray] = {}
    _collected.octets = octets
    try:
        yield
    finally:
        _collected.octets = None
        for datapath, each in octets.items():
            datapath.send(bytes(each))


def _write(connection: Any, octets: bytes) -> int:
    """Return how many octets found room; none if the connection has ended, which its own thread
    finds out.
    """
    try:
        room = select.poll()
        room.register(connection, select.POLLOUT)
        return int(connection.send(octets)) if room.poll(0) else 0
    except (OSError, ValueError):
        return 0


def guard_connections(admission: Any) -> None:
    """Make the framework ask `admission` about each connection and each message before it reads
    them.

    The framework has no hook for that, so that two of its functions are replaced.
    """
    controller, protocol = _part("controller.controller"), _part("ofproto.ofproto_parser")
    serve, parse = controller.datapath_connection_factory, protocol.msg

    def factory(connection: Any, address: Any) -> None:
        if not admission.admits(address[0]):
            connection.close()
            return
        try:
            serve(connection, address)
        finally:
            admission.left(address[0])

    def message(datapath: Any, version: int, kind: int, length: int, xid: int, octets: Any) -> Any:
        if not admission.reads(datapath, bytes(octets)):
            return None
        read = parse(datapath, version, kind, length, xid, octets)
        if read is None:  # it has raised, and the framework has logged that
            admission.misread(datapath)
        return read

    controller.datapath_connection_factory, protocol.msg = factory, message
