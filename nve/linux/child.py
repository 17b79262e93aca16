"""Ends a child process (adapter)."""

import subprocess


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Kill a child process if it still runs, frozen or not, wait for it, and close the pipes to it.

    Calling this more than once is safe.
    """
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
