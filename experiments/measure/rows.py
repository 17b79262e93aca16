"""The files of rows in a result: their names, columns and units.

Each kind of traffic defines what it writes (`ROWS` in `experiments/workloads/<kind>.py`);
results/README.md explains the same columns in the same words, which a test checks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas takes half a second to import, which `vmmlab --help` should not
    import pandas as pd


@dataclass(frozen=True)
class RowSchema:
    """The schema of a table in a file of this name, `.csv` or `.parquet`."""

    file: str
    columns: Mapping[str, str]
    """What each column means, with its unit."""
    types: Mapping[str, str] = field(default_factory=dict)
    """The pandas types of those columns whose type pandas would not infer."""

    def lacking(self, columns: Iterable[str]) -> list[str]:
        """Return the columns of the schema that a table with `columns` lacks."""
        given = set(columns)
        return [column for column in self.columns if column not in given]

    def frame(self, rows: Iterable[Sequence[Any]]) -> "pd.DataFrame":
        """Return a table of these rows, which may be none."""
        import pandas as pd

        return pd.DataFrame(list(rows), columns=list(self.columns)).astype(dict(self.types))


ITERATIONS = RowSchema(
    "iterations.csv",
    {
        "move": "which move of the run",
        "vm": "whose state it is",
        "iteration": "from 1",
        "status": "`active` while the VM runs at the source, `device` while it stands still, "
        "`postcopy-active` while it runs at the destination",
        "began_ns": "when it began",
        "took_ms": "how long it took until the destination had all of it",
        "transferred_bytes": "what was sent in it, headers included",
        "normal_pages": "pages of 4096 bytes",
        "duplicate_pages": "pages of nothing but zeros, which are said and not sent",
        "remaining_bytes": "written meanwhile: what the next round has to send",
        "mbps": "10^6 bits a second",
        "dirty_pages_rate": "pages a second written meanwhile, those written twice counted once",
        "expected_downtime_ms": "how long what remains would take at this rate",
        "cpu_throttle_percentage": "by how much the guest was throttled in this round",
    },
)
"""The rounds of transfers of state, with QEMU's names."""

CONNECTIONS = RowSchema(
    "connections.csv",
    {
        "move": "which move of a task, from 1",
        "task": "whose connection it is",
        "from_vm": "the VM that the task has left",
        "to_vm": "the VM that it has moved to",
        "connection": "the task's end and the peer's",
        "state": "of TCP (RFC 9293), when the task had stopped",
        "fate": "`migrated` or `closed`",
        "received": "octets that the task had not read yet",
        "sent": "octets sent and not acknowledged",
        "unsent": "octets not yet sent",
        "before_mbit": "10^6 bits a second that the peer got last at the source",
        "freeze_ms": "from when the task stopped until it ran again",
        "package_ms": "how long it took to take all its connections out of the source's kernel",
        "transfer_ms": "how long the package was on its way",
        "restore_ms": "how long it took to put all of them into the destination's kernel",
        "gap_ms": "from when the task stopped until the first segment of the peer came to the "
        "destination's stack; empty: none within 5 s, or before the next move",
        "ramp_up_ms": "from the restart until the destination's kernel estimates 90 % of "
        "`before_mbit`; empty: not within 5 s, nothing sent before, or an unmodified process",
        "retransmissions": "segments that the destination's stack has sent again by the end of the "
        "record",
        "resets": "RST segments that both hosts have sent, and that have come to the source, from "
        "the beginning of the move to the end of the record; of all connections",
    },
    {
        **dict.fromkeys(("received", "sent", "unsent", "retransmissions", "resets"), "Int64"),
        **dict.fromkeys(
            (
                *("before_mbit", "freeze_ms", "package_ms", "transfer_ms", "restore_ms"),
                *("gap_ms", "ramp_up_ms"),
            ),
            "float64",
        ),
    },
)
"""The outcome of each connection in each move of a task."""

FAULTS = RowSchema(
    "faults.csv",
    {
        "move": "which move of the run",
        "vm": "whose page it is",
        "t_ns": "when it was heard that the guest waits for it",
        "page": "its number in the memory",
        "latency_ms": "from then until the page was in place",
    },
)
"""Pages that guests have waited for in a post-copy."""

MIRRORS = RowSchema(
    "mirrors.csv",
    {
        "vm": "whose state it is",
        "standby": "the NVE of its standby",
        "mirror": "from 1, and again where the VM is mirrored anew after a move; the first is all "
        "of the state",
        "taken_ns": "when the VM stood still for it: the standby has the state of that moment",
        "pause_ms": "for how long the VM stood still while its pages were copied",
        "took_ms": "from then until the standby had all of it in place",
        "normal_pages": "pages of 4096 bytes",
        "transferred_bytes": "what was sent for it, headers included",
    },
)
"""The mirrors of VMs that have a standby."""

TAKEOVERS = RowSchema(
    "takeovers.csv",
    {
        "move": "its number among the moves of the run, behind those of the scenario; empty: hot",
        "vm": "whose standby has taken over",
        "kind": "`warm`, `cold`, or `hot`: that is no move, and nothing is lost",
        "interval_s": "from mirror to mirror, as the scenario asks for; 0 where there are none",
        "from_nve": "the NVE whose server has died",
        "to_nve": "that of the standby",
        "outcome": "as in moves.csv",
        "failed_ns": "when the server was found dead for the first time",
        "detected_ms": "from then until the standby was told to take over",
        "resumed_ms": "from then until it ran",
        "mirror": "the mirror that it went on from",
        "mirror_age_ms": "how old that was when the server died",
        "counter_before": "the largest number that the VM's service had answered with before",
        "counter_after": "the first one that it answered with after",
        "lost_requests": "requests that had been answered, and that the standby knows nothing of",
        "lost_age_ms": "how long ago the first of them had been answered when the server died",
        "silence_ms": "from the last answer before to the first one after",
    },
    {
        **dict.fromkeys(
            ("move", "mirror", "counter_before", "counter_after", "lost_requests"), "Int64"
        ),
    },
)
"""The costs of take-overs by standbys (`experiments.measure.takeovers`)."""

STANDBYS = RowSchema(
    "standbys.csv",
    {
        "vm": "whose standby it is",
        "kind": "`warm`, `cold` or `hot`",
        "interval_s": "from mirror to mirror, as the scenario asks for; 0 where there are none",
        "mirror_mbit_s": "what was sent for it from server to server, on average, once it was "
        "there; headers of packets not counted",
        "standby_memory_mb": "what it takes of the memory of its server",
        "answered_first": "hot: how many requests the first instance has answered",
        "answered_second": "hot: how many the second one has",
        "requests": "that were answered, before a server died if one did",
        "latency_p50_ms": "median of their latency",
        "latency_p99_ms": "of a hundred, one took longer",
    },
    dict.fromkeys(("answered_first", "answered_second"), "Int64"),
)
"""What standbys cost while nothing fails (`experiments.measure.standby_costs`)."""

PACKETS = RowSchema(
    "packets.parquet",
    {
        "flow": "`vm3>vm1/ipv4`; a second flow between the same ends has `#2` behind it",
        "seq": "number of the packet's due time: packet n is due n intervals after the first",
        "sent_ns": "read next to the send call",
        "received_ns": "the kernel's receive time (SO_TIMESTAMPNS) of the first copy; null: it "
        "never arrived",
        "copies": "deliveries: 0 lost, 1, 2 duplicated … (RFC 5560)",
        "late_ns": "how late the sender was: sent minus due",
        "rx_index": "place in the order of arrival of its flow, first copies only (RFC 4737)",
    },
    {
        "flow": "str",
        "seq": "int64",
        "sent_ns": "int64",
        "received_ns": "Int64",
        "copies": "int32",
        "late_ns": "int64",
        "rx_index": "Int64",
    },
)
"""Every probe packet sent; the metrics are computed from them."""
