"""Finds out whether everything sent into a cable at its NVE's end has come out of it in the VM.

A VM that is to be suspended still gets what its NVE has delivered.  Between the NVE's switch and
the VM's NIC there are queues (a gate's, even an open one's, and the kernel's own), which a busy
machine empties some milliseconds later; what is in them when the cable is shut would be lost.  So a
frame is sent after it by the same path: when that frame has arrived, everything before it has.

The kernel has a queue for each processor, which takes in what is sent from there, and a switch does
not stay on one.  So the frame is sent once from every processor.
"""

import itertools
import os
import socket
from collections.abc import Sequence
from typing import Self

from nve.hypervisor.plug import NIC, Plug
from nve.linux.namespace import inside
from nve.linux.socket_filter import take_only
from nve.wire.end_marker import ETHERTYPE, VERSION_AT

TIMEOUT_S = 0.02
"""The longest time for which a VM is suspended because of a packet, in seconds."""
_REST_OF_HEADER = bytes.fromhex("020202020202") + ETHERTYPE.to_bytes(2, "big")
_NO_VERSION = 0
"""No signal of ours begins with that (`nve.wire.end_marker`), so nobody takes a probe for one."""
_LONGEST_FRAME = 2048
_numbers = itertools.count(1)


class DrainProbe:
    """Probes one cable.  It is opened beforehand, as opening a packet socket takes longest."""

    def __init__(self, nve_pid: int, nve_interface: str, vm_pid: int, nic: str = NIC) -> None:
        with inside(nve_pid):
            self._above = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._above.bind((nve_interface, 0))
        with inside(vm_pid):
            self._below = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            take_only(self._below, VERSION_AT, _NO_VERSION)
            self._below.bind((nic, ETHERTYPE))
            self._below.settimeout(TIMEOUT_S)
            # To the NIC alone: the bridge would forward a broadcast to the VM's other cables.
            self._header = self._below.getsockname()[4] + _REST_OF_HEADER

    @classmethod
    def of(cls, cable: Plug) -> Self:
        return cls(cable.nve_pid, cable.nve_interface, cable.vm_pid)

    def runs_dry(self) -> bool:
        """Wait until this cable is empty (see `run_dry`)."""
        return run_dry([self])

    def send(self) -> bytes:
        """Sends a frame from the processor that this runs on; returns it."""
        number = next(_numbers).to_bytes(8, "big")
        frame: bytes = (self._header + bytes([_NO_VERSION]) + number).ljust(60, b"\0")
        self._above.send(frame)
        return frame

    def has_come(self, awaited: set[bytes]) -> bool:
        """Wait until all of these frames have come out; return False if that takes too long."""
        try:
            while awaited:
                awaited.discard(self._below.recv(_LONGEST_FRAME))
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._above.close()
        self._below.close()


def run_dry(drain_probes: Sequence[DrainProbe]) -> bool:
    """Wait until all that was in the cables is with the VM.

    Returns False if that takes too long, as behind a closed gate.
    """
    awaited: list[set[bytes]] = [set() for _ in drain_probes]
    processors = os.sched_getaffinity(0)
    try:
        for processor in processors:
            os.sched_setaffinity(0, {processor})  # of this thread alone
            for drain_probe, frames in zip(drain_probes, awaited, strict=True):
                frames.add(drain_probe.send())
    finally:
        os.sched_setaffinity(0, processors)
    come = [each.has_come(frames) for each, frames in zip(drain_probes, awaited, strict=True)]
    return all(come)
