"""What took this machine much longer than it should while a VM stood still, or packets waited.

These parts of a run wait for nobody but the kernel, which does them in a millisecond, or a failure
in some ten.  They may take seconds, for instance while the kernel removes the links of another data
centre: all changes of links wait for one lock.  What is lost meanwhile is no loss of the network.
"""

from collections.abc import Iterable, Iterator

from experiments.measure.trace import TraceEvent

STALL_MS = 1000.0
"""How long such a part takes, in milliseconds, in a run that is not valid if it lost packets."""
_DONE_BY_THE_KERNEL = {
    "shut_ms": "unplug the VM from its NVE",
    "flip_ms": "plug the VM into its NVE",
    "thaw_ms": "let the VM's processes run",
    "open_ms": "open the gate in front of the VM",
}
_REMEDY = "repeat the run when the machine has less to do"


def stalls(events: Iterable[TraceEvent]) -> Iterator[str]:
    """Yield a sentence about each stall in a trace."""
    for event in events:
        if event.name == "parts-of-pause":
            for part, what in _DONE_BY_THE_KERNEL.items():
                took_ms = event.details.get(part, 0.0)
                if took_ms >= STALL_MS:
                    took = f"this machine took {took_ms / 1000:.2f} s to {what}"
                    yield f"in a pause of {event.subject}, {took}; {_REMEDY}"
        elif event.name == "failure-injected" and event.details.get("move"):
            took_ms = (event.t_ns - event.details["began_ns"]) / 1e6
            if took_ms >= STALL_MS:
                took = f"this machine took {took_ms / 1000:.2f} s to begin a failure"
                yield f"{took} ({event.details['kind']}) in a move, which waited; {_REMEDY}"
