"""The sender over real TCP, with another side that does not do its part."""

import os
import socket
import threading
import time

import pytest

from nve.guest.dirty_log import DirtyLog, log_size
from nve.guest.spec import PAGE_SIZE
from nve.transfer.connection import TransferConnection
from nve.transfer.convergence import TransferLimits
from nve.transfer.sender import StateSender
from nve.transfer.state import State

PAGES = 16
PATIENCE_S = 0.5


def test_a_receiver_that_takes_everything_and_never_answers_is_given_up() -> None:
    memory, log = os.memfd_create("memory"), os.memfd_create("log")
    os.ftruncate(memory, PAGES * PAGE_SIZE)
    os.ftruncate(log, log_size(PAGES))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = socket.create_connection(listening.getsockname())
        there, _ = listening.accept()
    threading.Thread(target=swallow, args=(there,), daemon=True).start()
    limits = TransferLimits(patience_s=PATIENCE_S)
    sender = StateSender(
        [TransferConnection(here, limits.patience_s)],
        None,
        State(memory, PAGES, -1, 0),
        DirtyLog(log, PAGES),
        limits,
    )
    began_s = time.monotonic()
    with pytest.raises(OSError, match=r"next to nothing has arrived for 0\.5 s"):
        sender.rounds()
    assert time.monotonic() - began_s >= PATIENCE_S
    assert TransferConnection(socket.socket(), 1).arrived == 0, "of a connection that is over"


def swallow(there: socket.socket) -> None:
    while there.recv(65536):
        pass
