"""Sends what a VM announces after a move: once before it resumes, and again while it runs.

`prepare` gets everything ready, so that no time is spent on it between the flip of the NIC and the
resume; `announce` sends the first announcement; `repeat` starts the others, one every
`nve.wire.announcement.INTERVAL_S`, which delay nothing.  If the VM is suspended again, `stop` ends
them.

An announcement that cannot be sent is recorded and delays nothing either: the VM runs at its
destination, and the overlay learns of it from the activation by the destination.

An announcement that is to be lost is sent by the VM like any other, but marked, and a filter behind
the NIC removes it: it reaches no plug.  Whatever else the VM sends passes.
"""

import socket
import threading
from collections.abc import Sequence
from typing import Protocol

from nve.hypervisor.plug import NIC
from nve.hypervisor.realtime import threads_in_line
from nve.linux.namespace import inside, tc
from nve.model import VmSpec
from nve.wire import announcement
from nve.wire.announcement import Announcement

_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20  # linux/socket.h, linux/if_packet.h
_LOST = 0x6C6F7374
_MARK_OF_FRAME = 0xFFFFF014  # linux/filter.h, SKF_AD_OFF + SKF_AD_MARK
_TAKEN, _PASSED = 4, 0xFFFFFFFF  # linux/pkt_cls.h, TC_ACT_STOLEN and TC_ACT_UNSPEC
_TAKE_MARKED = (
    f"4,32 0 0 {_MARK_OF_FRAME},21 0 1 {_LOST},6 0 0 {_TAKEN},6 0 0 {_PASSED}"
)  # fmt: skip


class NoteAnnouncement(Protocol):
    """Takes an event of the trace that has happened just now."""

    def __call__(self, event: str, **details: object) -> None: ...


class Announcer:
    """Sends the announcements of one VM."""

    def __init__(self, vm: VmSpec, pid: int, record: NoteAnnouncement) -> None:
        self._vm = vm
        self._pid = pid
        self._record = record
        # Open beforehand: opening a packet socket takes longer than a whole switch-over.
        self._heard = self._socket(mark=0)
        self._lost = self._socket(mark=_LOST)
        self._loses_marked = False
        self._said = Announcement(announcement.NOTHING)
        self._frames: Sequence[bytes] = ()
        self._stopped = threading.Event()
        self._repeating: threading.Thread | None = None

    def prepare(self, said: Announcement) -> None:
        """Get ready to send these announcements; those that were being repeated end."""
        self.stop()
        self._said = said
        self._frames = announcement.frames(self._vm, said.form)
        if said.lost:
            self.lay_filter()

    def pass_by(self, plug: str) -> None:
        """Send announcements that are to be heard directly by this plug, past the VM's other
        packets.

        Those may be held.  An NVE reports announcements and does not forward them, so that they
        need no order with other packets.
        """
        self._heard.close()
        self._heard = self._socket(mark=0, interface=plug)
        self._heard.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)

    def lay_filter(self) -> None:
        """Have announcements that are to be lost removed from now on.

        This is better done before the VM sends anything: the kernel drops what passes a device
        while a qdisc is added to it.
        """
        if not self._loses_marked:
            filtered = f"filter add dev {NIC} egress protocol all bpf da bytecode"
            tc(self._pid, [f"qdisc add dev {NIC} clsact", f'{filtered} "{_TAKE_MARKED}"'])
            self._loses_marked = True

    def announce(self) -> None:
        """Send the first announcement."""
        self._say(1)

    def repeat(self) -> None:
        """Begin to send the other announcements."""
        if self._frames and self._said.times > 1:
            self._stopped.clear()
            self._repeating = threading.Thread(target=self._go_on, daemon=True)
            with threads_in_line():
                self._repeating.start()

    def stop(self) -> None:
        """Return when no more announcements are sent."""
        self._stopped.set()
        if self._repeating:
            self._repeating.join()
            self._repeating = None

    def close(self) -> None:
        self.stop()
        self._heard.close()
        self._lost.close()

    def _go_on(self) -> None:
        for time in range(2, self._said.times + 1):
            if self._stopped.wait(announcement.INTERVAL_S):
                return
            self._say(time)

    def _say(self, time: int) -> None:
        if not self._frames:
            return
        details: dict[str, object] = {"form": self._said.form}
        if self._said.times > 1:
            details |= {"time": time, "of": self._said.times}
        try:
            for frame in self._frames:
                (self._lost if self._said.lost else self._heard).send(frame)
        except OSError as error:
            self._record("announcement-not-sent", **details, why=str(error))
            return
        self._record("announced", **details)
        if self._said.lost:
            self._record("announcement-lost", **details)

    def _socket(self, mark: int, interface: str = NIC) -> socket.socket:
        with inside(self._pid):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            raw.bind((interface, 0))
        return raw
