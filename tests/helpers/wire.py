"""The far end of a control channel: it reads the bytes that an OpenFlow message becomes."""

from typing import Any

from controller.southbound.framework import ofproto, parser


class Wire:
    """Stands in for the framework's datapath; keeps what was sent, in order."""

    ofproto = ofproto
    ofproto_parser = parser

    def __init__(self, dpid: int = 1) -> None:
        self.id = dpid
        self.closed = False
        self.address = ("198.18.1.1", 40000)
        self.sent: list[Any] = []
        self._xid = 0

    def set_xid(self, message: Any) -> int:
        self._xid += 1
        message.set_xid(self._xid)
        return self._xid

    def send_msg(self, message: Any) -> None:
        """Serialise every message; keep a flow-mod as the switch reads it."""
        if message.xid is None:
            self.set_xid(message)
        octets = self.octets(message)
        self.sent.append(self.read(octets) if isinstance(message, parser.OFPFlowMod) else message)

    def send(self, octets: bytes) -> None:
        """Take one or more messages that are encoded already."""
        while octets:
            length = int.from_bytes(octets[2:4], "big")
            message, octets = octets[:length], octets[length:]
            if message[1] == ofproto.OFPT_BARRIER_REQUEST:  # of which there is nothing to read
                barrier = parser.OFPBarrierRequest(self)
                barrier.set_xid(int.from_bytes(message[4:8], "big"))
                self.sent.append(barrier)
            else:
                self.sent.append(self.read(message))

    def close(self) -> None:
        self.closed = True

    def octets(self, message: Any) -> bytes:
        message.datapath = self
        if message.xid is None:
            self.set_xid(message)
        message.serialize()
        return bytes(message.buf)

    def read(self, octets: bytes) -> Any:
        version, kind, length = octets[0], octets[1], int.from_bytes(octets[2:4], "big")
        assert length == len(octets)
        return parser.msg_parser(self, version, kind, length, 1, octets)
