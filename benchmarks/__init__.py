"""Commands that measure vmmlab, each beside something plain.  README.md says what each shows."""

import signal
import sys
from collections.abc import Callable

EXIT_INTERRUPTED = 130


def run_as_command(main: Callable[[], None]) -> None:
    """Run a benchmark's `main`; SIGTERM and SIGHUP end it as Ctrl-C does.

    What it has built is taken down first.  Exits with 130 then, and says so in a sentence.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; everything that was started is ended", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
