"""Commands that measure vmmlab, each beside a plain counterpart.  README.md says what each
shows.
"""

import signal
import sys
from collections.abc import Callable

from experiments.errors import RunError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def run_as_command(main: Callable[[], None]) -> None:
    """Run a benchmark's `main`; SIGTERM and SIGHUP end it as Ctrl-C does.

    What it has built is taken down first.  It then exits with 130 and a sentence.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        main()
    except (UsageError, RunError) as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is ended", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
