"""The files of rows in a result: their names, columns and units.

What sends a kind of traffic says what it writes down (`ROWS` in `experiments/workloads/<kind>.py`);
results/README.md explains the same columns in the same words, which a test holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas takes half a second to import, which `vmmlab --help` should not
    import pandas as pd


@dataclass(frozen=True)
class RowSchema:
    """A table in a file of this name, `.csv` or `.parquet`."""

    file: str
    columns: Mapping[str, str]
    """What each column means, with its unit."""
    types: Mapping[str, str] = field(default_factory=dict)
    """pandas' types of those columns that it would not find out by itself."""

    def lacking(self, columns: Iterable[str]) -> list[str]:
        """The columns that a table with these does not have."""
        given = set(columns)
        return [column for column in self.columns if column not in given]

    def frame(self, rows: Iterable[Sequence[Any]]) -> "pd.DataFrame":
        """A table of these rows, which may be none."""
        import pandas as pd

        return pd.DataFrame(list(rows), columns=list(self.columns)).astype(dict(self.types))


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
"""Every probe packet sent; what the metrics are computed from."""
