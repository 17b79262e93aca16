"""Joins what senders sent with what receivers got.

The result is the table packets.parquet (results/README.md): one row per packet *sent*.
`received_ns` is the arrival of its first copy, `copies` how often it was delivered (RFC 5560),
`rx_index` its place in the order of arrival of its flow (RFC 4737), counting first copies only.

Whether a packet is lost is not decided here: a packet that arrived after the waiting time counts as
lost (RFC 7680, section 2.8.2), and the waiting time can be chosen anew for recorded packets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Int64s = npt.NDArray[np.int64]

SENT_COLUMNS = ("flow", "seq", "sent_ns", "late_ns")
RECEIVED_COLUMNS = ("flow", "seq", "received_ns")
"""The columns of both arrays: flows have their number in the plan; received rows are in the order
of arrival."""


@dataclass(frozen=True)
class Account:
    """The packets, and how many deliveries match no packet sent (0 unless a file is lost)."""

    packets: pd.DataFrame
    unmatched: int


def account(flow_names: Sequence[str], sent: Int64s, received: Int64s) -> Account:
    """Return the account of `sent` and `received`, arrays with the columns named above."""
    packets = pd.DataFrame(sent, columns=list(SENT_COLUMNS))
    deliveries = pd.DataFrame(received, columns=list(RECEIVED_COLUMNS))
    arrivals = _arrivals(deliveries)
    packets = packets.merge(arrivals, how="left", on=["flow", "seq"], validate="one_to_one")
    packets = packets.sort_values(["flow", "seq"], ignore_index=True)
    matched = int(packets["copies"].fillna(0).sum())
    names = pd.Series(list(flow_names), dtype="str")
    table = pd.DataFrame(
        {
            "flow": packets["flow"].map(names).astype("str"),
            "seq": packets["seq"].astype("int64"),
            "sent_ns": packets["sent_ns"].astype("int64"),
            "received_ns": packets["received_ns"].astype("Int64"),
            "copies": packets["copies"].fillna(0).astype("int32"),
            "late_ns": packets["late_ns"].astype("int64"),
            "rx_index": packets["rx_index"].astype("Int64"),
        }
    )
    return Account(table, unmatched=len(deliveries) - matched)


def _arrivals(deliveries: pd.DataFrame) -> pd.DataFrame:
    """Return one row per packet that arrived at least once."""
    by_packet = deliveries.groupby(["flow", "seq"], sort=False)["received_ns"]
    arrivals = by_packet.agg(received_ns="first", copies="size").reset_index()
    arrivals["rx_index"] = arrivals.groupby("flow").cumcount()
    for column in ("received_ns", "copies", "rx_index"):
        arrivals[column] = arrivals[column].astype("Int64")
    return arrivals
