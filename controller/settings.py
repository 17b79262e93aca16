"""The settings that the NVA process is started with: a JSON file, validated."""

from ipaddress import IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, IPvAnyAddress, PositiveInt

from controller.core.desired_state import TunnelMtus
from controller.core.dissemination import Dissemination, strategy
from nve.model import mac
from nve.pipeline.limits import USUAL, Limits
from nve.pipeline.state import UnderlayPlace
from nve.resources import UNLIMITED, Capacity


class UnderlaySettings(BaseModel):
    """An NVE's place on the underlay, for packets that go without a tunnel.

    This is the prefix of its locators, its MAC address, and for each other NVE the MAC address to
    which it sends packets for that NVE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: IPv6Network
    mac: str
    next_hops: dict[str, str]


class NveSettings(BaseModel):
    """An NVE that the NVA serves.

    A switch with another datapath id is refused, and so is one that connects from another address
    of the control network than the one given, if one is given.  `tunnel_mtus` holds the MTU of the
    tunnel to each other NVE (see `nve.pipeline.mtu_check`), and `capacity` what its server has for
    VMs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dpid: PositiveInt
    vtep: IPvAnyAddress
    control: IPvAnyAddress | None = None
    tunnel_mtus: dict[str, PositiveInt] = {}
    underlay: UnderlaySettings | None = None
    capacity: Capacity = UNLIMITED


class Settings(BaseModel):
    """All settings.  `northbound` is the path of a unix socket, `token` what its callers have to
    present.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: IPvAnyAddress
    port: PositiveInt = 6653
    northbound: Path
    token: str
    trace: Path
    state: Path
    nves: dict[str, NveSettings]
    mapping_update: str
    lifetime_s: PositiveInt | None = None
    on_expiry: Literal["forget", "keep"] = "forget"
    end_markers: bool = False
    limits: Limits = USUAL

    def tunnel_mtus(self) -> TunnelMtus:
        return {
            (here, there): mtu
            for here, nve in self.nves.items()
            for there, mtu in nve.tunnel_mtus.items()
        }

    def underlay(self) -> dict[str, UnderlayPlace]:
        known = {name: nve.underlay for name, nve in self.nves.items() if nve.underlay}
        return {
            name: UnderlayPlace(
                here.server,
                mac(here.mac),
                {self.nves[there].vtep: mac(hop) for there, hop in here.next_hops.items()},
                {self.nves[there].vtep: known[there].server for there in here.next_hops},
            )
            for name, here in known.items()
        }

    def dissemination(self) -> Dissemination:
        keeps_expired = self.on_expiry == "keep"
        return strategy(self.mapping_update, self.lifetime_s, keeps_expired=keeps_expired)
