"""Parts of a VM's pause for which the machine needed much longer than it should.

They wait for nobody but the kernel, which does them in a millisecond.  It may take seconds, for
instance while it removes the links of another data centre: all changes of links wait for one lock.
What is lost meanwhile is no loss of the network.
"""

from collections.abc import Iterable, Iterator

from experiments.measure.trace import TraceEvent

STALL_MS = 500.0
"""The time of such a part, in milliseconds, from which on the run is not valid."""
_DONE_BY_THE_KERNEL = {
    "shut_ms": "unplug the VM from its NVE",
    "flip_ms": "plug the VM into its NVE",
    "thaw_ms": "let the VM's processes run",
    "open_ms": "open the gate in front of the VM",
}


def stalls(events: Iterable[TraceEvent]) -> Iterator[str]:
    """Yield a sentence about each stall in the pauses of a trace."""
    for event in events:
        if event.name != "parts-of-pause":
            continue
        for part, what in _DONE_BY_THE_KERNEL.items():
            took_ms = event.details.get(part, 0.0)
            if took_ms >= STALL_MS:
                yield (
                    f"in a pause of {event.subject}, this machine took {took_ms / 1000:.2f} s to "
                    f"{what}; repeat the run when the machine has less to do"
                )
