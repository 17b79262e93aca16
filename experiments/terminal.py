"""Standard output and error, be they a screen, a closed pipe, or a locale without arrows.

A failure of printing disturbs nothing else: `head` may close the pipe after a line, and a character
that the locale lacks is replaced by one that reads like it.
"""

import codecs
import os
import sys
from typing import IO, NamedTuple

from rich.console import Console, RenderableType
from rich.measure import Measurement

READS_LIKE = str.maketrans(
    {"→": "->", "–": "-", "−": "-", "…": "...", "✓": "ok", "×": "x", "µ": "u", "─": "-", "━": "-"}
)
_HANDLER = "vmmlab.reads-like"


class Terminal(Console):
    """A console to which printing never fails because of its reader."""

    lost: OSError | None = None
    """Why not everything could be printed; None if the reader just closed the pipe."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, as nobody reads on, and continue the work."""
        self.quiet = True
        _discard(self.file)

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:  # the file that it is redirected to is on a full disk
            self.lost = error
            self.on_broken_pipe()

    @property
    def room(self) -> int | None:
        """The largest width of a table; None if nothing limits it."""
        return self.width if self.is_terminal or "COLUMNS" in os.environ else None

    def print_whole(self, what: RenderableType) -> None:
        """Print tables and the like as wide as they need if there is no screen to fit them to."""
        before = self.width
        if self.room is None:
            natural = Measurement.get(self, self.options.update(max_width=10_000), what).maximum
            self.width = max(before, natural)
        self.print(what)
        self.width = before


def be_robust() -> None:
    """Make standard output and error replace what their encoding lacks.  Call once, at the
    start.
    """
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors=_HANDLER)  # type: ignore[union-attr]


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_plain(character) for character in lacking), error.end


def _plain(character: str) -> str:
    reads_like = character.translate(READS_LIKE)
    return reads_like if reads_like.isascii() else "?"


def _discard(stream: IO[str]) -> None:
    """Discard what is written to the stream, also what Python flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Screen(NamedTuple):
    """The consoles to which a command prints."""

    out: Terminal
    err: Terminal
