"""Ends a process that we started (adapter)."""

import subprocess


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Kill it if it still runs, frozen or not, wait for it, and close our ends of its pipes.  Safe
    more than once."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
