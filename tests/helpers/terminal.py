"""Runs a command at a terminal of its own, as a user does: with a screen, and Ctrl-C."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.helpers.wait import wait_until

CTRL_C, CTRL_D = b"\x03", b"\x04"
# Wide, so that no text is broken in two; without decorations of the prompt.
SCREEN = {"TERM": "xterm", "COLUMNS": "200"}
TAIL_CHARACTERS = 2000


def _hear_ctrl_c() -> None:
    """Make Ctrl-C reach the command: it needs a controlling terminal, and background jobs ignore
    it.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """Runs a command; a context manager that kills it if it has not ended by itself."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._shown = ""
        self._read = 0
        self.process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | SCREEN,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )
        os.close(theirs)

    @property
    def shown(self) -> str:
        """Everything on the screen so far."""
        try:
            while octets := os.read(self._ours, 65536):
                self._shown += octets.decode(errors="replace")
        except OSError:  # nothing more at the moment, or nobody at the other end
            pass
        return self._shown

    def await_text(self, text: str, timeout_s: float = 30.0) -> None:
        """Return as soon as the text has been shown, below what was awaited before."""

        def missing() -> str | None:
            found = self.shown.find(text, self._read)
            self._read = self._read if found < 0 else found + len(text)
            return self._not_yet(text) if found < 0 else None

        wait_until(missing, timeout_s)

    def press(self, octets: bytes) -> None:
        os.write(self._ours, octets)

    def hang_up(self) -> None:
        """Close the window as a user does; nothing can be read any more."""
        os.close(self._ours)
        self._ours = -1

    def await_end(self, timeout_s: float = 30.0) -> int:
        """Return the exit code, once the command has ended."""
        wait_until(lambda: None if self._ended() else self._not_yet("the end"), timeout_s)
        assert self.process.returncode is not None
        return self.process.returncode

    def _ended(self) -> bool:
        ended = self.process.poll() is not None
        _ = self.shown  # a full screen that nobody reads would stop the command
        return ended

    def _not_yet(self, awaited: str) -> str:
        return f"{awaited!r} does not come; shown: {self.shown[-TAIL_CHARACTERS:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._ours != -1:
            os.close(self._ours)
