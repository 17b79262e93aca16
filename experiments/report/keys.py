"""What a reader of a figure calls a key of a scenario, and the unit of its values.

`KNOWN` is the one table of it.  A key that is not there is called by its own last part, with the
unit that its name ends with: `lifetime_s` is "lifetime (s)".
"""

from collections.abc import Iterable
from dataclasses import dataclass

UNITS = {
    "mb_s": "MiB/s",
    "mbit": "Mbit/s",
    "mb": "MiB",
    "ms": "ms",
    "s": "s",
    "pps": "packets/s",
    "rps": "requests/s",
    "pct": "%",
    "bytes": "octets",
    "octets": "octets",
}
"""The units by the ends of names; a longer end comes before those that it ends with."""

KNOWN: dict[str, tuple[str, str]] = {
    # a key or the end of one, `*` for any part: what it is called, with the part in the place of
    # {0}; and its unit
    "topology.nves": ("NVEs", ""),
    "topology.link.delay_ms": ("one-way delay of each link", "ms"),
    "topology.link.jitter_ms": ("jitter of each link", "ms"),
    "topology.link.loss_pct": ("loss on each link", "%"),
    "topology.link.rate_mbit": ("rate of each link", "Mbit/s"),
    "topology.link.mtu": ("MTU of each link", "octets"),
    "topology.links.*.delay_ms": ("one-way delay of {0}'s link", "ms"),
    "topology.links.*.jitter_ms": ("jitter of {0}'s link", "ms"),
    "topology.links.*.loss_pct": ("loss on {0}'s link", "%"),
    "topology.links.*.rate_mbit": ("rate of {0}'s link", "Mbit/s"),
    "topology.links.*.mtu": ("MTU of {0}'s link", "octets"),
    "topology.underlay": ("IP version of the underlay", ""),
    "control.delay_ms": ("one-way delay of control links", "ms"),
    "control.loss_pct": ("loss on control links", "%"),
    "traffic.*.rate_pps": ("probe rate of each flow", "packets/s"),
    "traffic.*.size_bytes": ("size of probe packets", "octets"),
    "traffic.*.rate_rps": ("rate of requests", "requests/s"),
    "traffic.*.rate_mbit": ("rate of TCP traffic", "Mbit/s"),
    "moves.*.pause_ms": ("pause asked for", "ms"),
    "moves.*.announce": ("announcement", ""),
    "moves.*.mode": ("mode of the move", ""),
    "moves.*.transfer": ("method of transfer", ""),
    "moves.*.transfer.kind": ("method of transfer", ""),
    "transfer.bandwidth_mbit": ("bandwidth limit of the transfer", "Mbit/s"),
    "transfer.downtime_limit_ms": ("downtime limit", "ms"),
    "transfer.max_iterations": ("largest number of rounds", ""),
    "transfer.post_copy_after": ("rounds before post-copy", ""),
    "transfer.channels": ("TCP connections of the transfer", ""),
    "transfer.compression": ("compression", ""),
    "guest.memory_mb": ("memory of the VM", "MiB"),
    "guest.disk_mb": ("disk of the VM", "MiB"),
    "guest.writes.rate_mb_s": ("rate of writing to memory", "MiB/s"),
    "guest.writes.working_set_mb": ("memory that the VM writes to", "MiB"),
    "standby.interval_s": ("interval between mirrors", "s"),
    "standby.detect_s": ("silence until a take-over", "s"),
    "overlay.mapping_update": ("mapping update", ""),
    "overlay.in_flight": ("packets in flight", ""),
    "overlay.hold": ("packets held at the destination", ""),
    "overlay.end_marker": ("end markers", ""),
    "overlay.lifetime_s": ("lifetime of entries", "s"),
    "overlay.idle_s": ("silence until forwarding ends", "s"),
    "overlay.timer_s": ("time until forwarding ends", "s"),
    "overlay.kind": ("overlay", ""),
    "name_server.ttl_s": ("TTL of the name", "s"),
    "task_moves.*.connections": ("connections", ""),
    "task_moves.*.meanwhile": ("packets during the move", ""),
    "tenants.*.encapsulation": ("encapsulation", ""),
    "tenants.*.mtu": ("MTU of the VMs", "octets"),
    "seed": ("seed", ""),
}


@dataclass(frozen=True)
class KeyWords:
    """What a key is called, and the unit of its values, which is empty if they have none."""

    name: str
    unit: str

    @property
    def axis(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def with_value(self, value: str) -> str:
        """Return "pause asked for: 50 ms"."""
        return f"{self.name}: {value}" + (f" {self.unit}" if self.unit else "")


def words_of(key: str) -> KeyWords:
    """Return what a key is called; the longest entry that fits it counts."""
    parts = key.split(".")
    fitting = [
        (pattern, starred)
        for pattern in KNOWN
        if (starred := _starred(pattern.split("."), parts)) is not None
    ]
    if not fitting:
        return _by_its_own_name(parts[-1])
    pattern, starred = max(fitting, key=lambda each: each[0].count("."))
    name, unit = KNOWN[pattern]
    return KeyWords(name.format(*starred), unit)


def words_of_all(keys: Iterable[str]) -> dict[str, KeyWords]:
    """Return what each of several keys is called; those that would be called the same are told
    apart by the keys themselves.
    """
    words = {key: words_of(key) for key in keys}
    names = [each.name for each in words.values()]
    return {
        key: each if names.count(each.name) == 1 else KeyWords(f"{each.name}, {key}", each.unit)
        for key, each in words.items()
    }


def _starred(pattern: list[str], parts: list[str]) -> list[str] | None:
    """Return the parts at the end of a key in the place of each `*`; None if it does not fit."""
    end = parts[-len(pattern) :]
    if len(end) < len(pattern):
        return None
    if any(wanted not in ("*", part) for wanted, part in zip(pattern, end, strict=True)):
        return None
    return [part for wanted, part in zip(pattern, end, strict=True) if wanted == "*"]


def _by_its_own_name(name: str) -> KeyWords:
    for end, unit in UNITS.items():
        if name.endswith(f"_{end}"):
            return KeyWords(name.removesuffix(f"_{end}").replace("_", " "), unit)
    return KeyWords(name.replace("_", " "), "")
