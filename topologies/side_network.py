"""A network beside the underlay: one switch, with some of the nodes around it.

There are two.  The *control network* joins the control node to every NVE.  The *migration network*
joins the servers, for the state of VMs that does not go over the underlay (`Fabric.migration`).
Both have IPv4 addresses from the range for benchmarks (RFC 2544), and static neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from nve.model import Mac


@dataclass(frozen=True)
class SideNetwork:
    """`members` is host number by node; `asks` are those that each of the others talks to, where
    that is not everybody."""

    switch: str
    network: IPv4Network
    kind: int
    """In MAC addresses."""
    members: Mapping[str, int]
    asks: frozenset[str] | None = None

    @property
    def interface(self) -> str:
        """The interface of a member."""
        return f"to-{self.switch}"

    @property
    def switch_interfaces(self) -> Sequence[str]:
        """The interfaces of the switch, one for each member."""
        return [f"to-{member}" for member in self.members]

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {member: place for place, member in enumerate(self.members)}

    def address(self, name: str) -> IPv4Address:
        """Return the address of a member."""
        return self.network[self.members[name]]

    def mac(self, name: str, *, switch_side: bool = False) -> Mac:
        """Return the MAC address of a member's end of its cable, or of the switch's end."""
        place = self._places[name]
        return Mac(
            f"06:{self.kind:02x}:00:{int(switch_side):02x}:{place >> 8:02x}:{place & 255:02x}"
        )

    def configure(self, name: str) -> Sequence[str]:
        """Return `ip` commands of a member: its address, and its neighbours."""
        return [
            f"addr add {self.address(name)}/{self.network.prefixlen} dev {self.interface}",
            *(
                f"neigh replace {self.address(peer)} "
                f"lladdr {self.mac(peer)} dev {self.interface} nud permanent"
                for peer in self._peers(name)
            ),
        ]

    def _peers(self, name: str) -> Sequence[str]:
        others = [member for member in self.members if member != name]
        if self.asks is None or name in self.asks:
            return others
        return [other for other in others if other in self.asks]
