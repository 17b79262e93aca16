"""Packets of one flow, made by hand from the fate of each: input for metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from experiments.measure.packets import Samples

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
INTERVAL_NS = MS


def packets(
    delays_ms: Sequence[float | None],
    flow: str = "vm2>vm1/ipv4",
    copies: Mapping[int, int] | None = None,
    late_ns: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return packets: number n is sent n ms after START_NS and takes `delays_ms[n]`; None is
    lost.
    """
    count = len(delays_ms)
    late = list(late_ns or [0] * count)
    sent = [START_NS + seq * INTERVAL_NS + late[seq] for seq in range(count)]
    received = [
        None if delay is None else when + round(delay * MS)
        for when, delay in zip(sent, delays_ms, strict=True)
    ]
    arrivals = [(when, seq) for seq, when in enumerate(received) if when is not None]
    in_order = [seq for _, seq in sorted(arrivals)]
    place = {seq: index for index, seq in enumerate(in_order)}
    return pd.DataFrame(
        {
            "flow": pd.Series([flow] * count, dtype="str"),
            "seq": np.arange(count, dtype=np.int64),
            "sent_ns": np.array(sent, dtype=np.int64),
            "received_ns": pd.array(received, dtype="Int64"),
            "copies": np.array(
                [(copies or {}).get(seq, 1) if seq in place else 0 for seq in range(count)],
                dtype=np.int32,
            ),
            "late_ns": np.array(late, dtype=np.int64),
            "rx_index": pd.array([place.get(seq) for seq in range(count)], dtype="Int64"),
        }
    )


def samples(delays_ms: Sequence[float | None], copies: Mapping[int, int] | None = None) -> Samples:
    return Samples.of(packets(delays_ms, copies=copies))
