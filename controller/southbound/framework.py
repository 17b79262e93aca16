"""The OpenFlow framework: os-ken, or the Ryu 4.34 that os-ken continues.

No other file knows which of the two is used.  Both offer the same modules under another root.
`VMMLAB_FRAMEWORK` chooses; os-ken is the default.  Importing this module prepares the process (Ryu
runs on eventlet, which has to patch the standard library before anything else is imported), so an
entry point imports it first.
"""

import importlib
import importlib.metadata
import os
from typing import Any

NAME = os.environ.get("VMMLAB_FRAMEWORK", "os-ken")
_ROOTS = {"os-ken": "os_ken", "ryu": "ryu"}
if NAME not in _ROOTS:
    raise SystemExit(f"VMMLAB_FRAMEWORK is {NAME!r}; it can be {' or '.join(_ROOTS)}")


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
