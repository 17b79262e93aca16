"""Which connections may talk OpenFlow to the NVA, and which of their messages are read (R9.3).

Admitted are addresses of NVEs on the control network, a few connections from each; read are
well-formed messages of the kinds that an NVE sends.  An admitted connection still has to say which
NVE it is, and is heard only as that one (`controller.nva`).
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from controller.southbound.openflow_validation import MessageVerdict, judge
from nve.model import IPAddress

MOST_CONNECTIONS = 8
"""The connections from one address: the NVE's, a new one that replaces it, and some not closed
yet."""


class ConnectionAdmission:
    """Decides about connections and messages.

    `homes` are the addresses that NVEs connect from, or None if they are not known; `refused` is
    called with the address and the reason of each refusal.
    """

    def __init__(self, homes: Collection[IPAddress], refused: Callable[[str, str], None]) -> None:
        self._homes = {str(home) for home in homes}
        self._refused = refused
        self._connections: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admits(self, address: str) -> bool:
        """Return whether a connection from this address is accepted; if so, call `left` when it has
        ended.
        """
        with self._lock:
            at_home = not self._homes or address in self._homes
            admitted = at_home and self._connections[address] < MOST_CONNECTIONS
            if admitted:
                self._connections[address] += 1
        if not admitted:
            self._refused(address, "connection")
        return admitted

    def left(self, address: str) -> None:
        with self._lock:
            self._connections[address] -= 1

    def reads(self, datapath: Any, message: bytes) -> bool:
        """Return whether the framework may parse the message; a malformed one ends the
        connection.
        """
        verdict = judge(message)
        if verdict is MessageVerdict.HANG_UP:
            self.misread(datapath)
        return verdict is MessageVerdict.READ

    def misread(self, datapath: Any) -> None:
        """Close a connection that has sent a message that could not be read."""
        self._refused(datapath.address[0], "malformed-openflow")
        datapath.close()
