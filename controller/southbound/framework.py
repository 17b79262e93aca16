"""The OpenFlow framework: os-ken, or the Ryu 4.34 that it continues.  The only place that knows.

Both offer the same modules under another root.  `VMMLAB_FRAMEWORK` chooses; os-ken is the default.
Importing this module prepares the process (Ryu runs on eventlet, whose patching has to come before
anything else is imported), so an entry point imports it first.
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
    """The framework's configuration object (oslo.config), where the listening address goes."""
    return importlib.import_module(f"{_ROOTS[NAME]}.cfg").CONF


def version() -> str:
    """Name and version, for the manifest."""
    return f"{NAME} {importlib.metadata.version(NAME)}"


def guard_connections(admission: Any) -> None:
    """Has a `controller.southbound.connection_admission` look at each connection before anything of
    it is read, and at each message before it is parsed.

    The framework has no place for that: two of its functions are replaced.
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
        if read is None:  # it has raised, and the framework has said so
            admission.misread(datapath)
        return read

    controller.datapath_connection_factory, protocol.msg = factory, message
