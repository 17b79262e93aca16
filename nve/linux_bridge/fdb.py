"""What forwarding databases say, and where they make an NVE send.  Pure.

An NVE has two for each virtual network.  The bridge's says behind which port an address is; the
VXLAN device's, behind which VTEP.  An address that the bridge has behind a VM's plug is here; for
any other the VXLAN device decides, and what it does not know goes everywhere.
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from nve.model import Mac, TenantSystem, Vtep

Way: TypeAlias = str | Vtep
"""Where an NVE sends: to a port of its own, or to another NVE."""


@dataclass(frozen=True)
class FdbEntry:
    """An address behind an interface; `vtep` is given in a VXLAN device's own FDB."""

    mac: Mac
    interface: str
    vtep: Vtep | None = None
    learned: bool = True
    """Nobody has configured it."""


def read(text: str) -> list[FdbEntry]:
    """The entries of bridges and VXLAN devices in what `bridge -json fdb show` prints.

    Those of other devices say what the device itself listens to, and are left out.
    """
    return [
        FdbEntry(
            Mac(row["mac"]),
            row["ifname"],
            ip_address(row["dst"]) if "dst" in row else None,
            row.get("state") != "permanent",
        )
        for row in json.loads(text)
        if "dst" in row or "master" in row
    ]


@dataclass(frozen=True)
class FdbChange:
    """An entry has come, has another interface or VTEP than before, or is gone."""

    system: TenantSystem
    interface: str
    vtep: Vtep | None
    """Given in a VXLAN device's own FDB, None in a bridge's."""
    gone: bool = False


class Learned:
    """Where one NVE sends what is for a VM, by all changes of its FDBs since there were none."""

    def __init__(self) -> None:
        self._ports: dict[TenantSystem, str] = {}
        self._vteps: dict[TenantSystem, Vtep] = {}

    def apply(self, change: FdbChange, *, is_plug: bool) -> None:
        """Take a change over.  `is_plug`: the interface leads to a VM, not to the underlay."""
        system = change.system
        if change.vtep is not None:
            if not change.gone:
                self._vteps[system] = change.vtep
            elif self._vteps.get(system) == change.vtep:
                del self._vteps[system]
        elif is_plug and not change.gone:
            self._ports[system] = change.interface
        elif not change.gone or self._ports.get(system) == change.interface:
            self._ports.pop(system, None)

    def way(self, system: TenantSystem) -> Way | None:
        """None: it does not know, and sends to everybody."""
        return self._ports.get(system) or self._vteps.get(system)
