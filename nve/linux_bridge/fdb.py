"""The entries of forwarding databases, and where they make an NVE send.  Pure.

An NVE has two databases for each virtual network.  The bridge's says behind which port an address
is; the VXLAN device's, behind which VTEP.  An address that the bridge has behind a VM's plug is
local; for any other the VXLAN device decides, and floods to all VTEPs what it does not know.
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from nve.model import Mac, TenantSystem, Vtep

Way: TypeAlias = str | Vtep
"""Where an NVE sends packets: to a port of its own, or to another NVE."""


@dataclass(frozen=True)
class FdbEntry:
    """An address behind an interface; `vtep` is set in a VXLAN device's own database."""

    mac: Mac
    interface: str
    vtep: Vtep | None = None
    learned: bool = True
    """Whether it was learned rather than configured."""


def read(text: str) -> list[FdbEntry]:
    """Return the entries of bridges and VXLAN devices in what `bridge -json fdb show` prints.

    Entries of other devices say what the device itself listens to, and are left out.
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
    """An entry has appeared, has another interface or VTEP than before, or is gone."""

    system: TenantSystem
    interface: str
    vtep: Vtep | None
    """Set in a VXLAN device's own database, None in a bridge's."""
    gone: bool = False


class Learned:
    """Where one NVE sends packets for each VM, after all changes of its databases from the
    start.
    """

    def __init__(self) -> None:
        self._ports: dict[TenantSystem, str] = {}
        self._vteps: dict[TenantSystem, Vtep] = {}

    def apply(self, change: FdbChange, *, is_plug: bool) -> None:
        """Apply a change; `is_plug` says that the interface leads to a VM, not to the underlay."""
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
        """Return where the NVE sends a VM's packets, or None if it does not know and floods
        them.
        """
        return self._ports.get(system) or self._vteps.get(system)
