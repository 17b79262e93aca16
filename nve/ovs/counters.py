"""Counts the packets for which Open vSwitch had no room.

A datapath hands a packet that it has no flow for to ovs-vswitchd, which looks at the rules (an
upcall).  With the kernel's datapath, upcalls go through a queue between two programs, which may be
full, and a later packet may be faster; the userspace datapath looks at the rules itself and then
goes on.
"""

import re
from collections.abc import Mapping

_LOOKUPS = re.compile(r"lookups: hit:\d+ missed:(\d+) lost:(\d+)")
_TOTAL = re.compile(r"^(\w+) .*total: (\d+)$", re.MULTILINE)
_FAILED = ("datapath_drop_upcall_error", "datapath_drop_lock_error")
"""Counters of packets that the userspace datapath dropped because it could not get their rules."""


def counted(shown: str, coverage: str, socket_drops: int, *, kernel: bool) -> Mapping[str, int]:
    """Return counters by name, from what `dpctl/show` and `coverage/show` print.

    What the userspace datapath shows as lost are packets for which it made no flow; it treated them
    by the rules all the same.

    Raises RuntimeError if no lookups are shown.
    """
    lookups = _LOOKUPS.search(shown)
    if lookups is None:
        raise RuntimeError(f"dpctl/show shows no lookups: {shown}")
    missed, lost = map(int, lookups.groups())
    if kernel:
        return {"upcall": missed, "upcall-lost": lost}
    totals = {name: int(total) for name, total in _TOTAL.findall(coverage)}
    failed = sum(totals.get(name, 0) for name in _FAILED)
    return {"upcall-failed": failed, "switch-socket": socket_drops}
