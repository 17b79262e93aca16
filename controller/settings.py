"""What the NVA process is started with: a JSON file, validated."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, IPvAnyAddress, PositiveInt

from controller.dissemination import Dissemination, strategy


class NveSettings(BaseModel):
    """An NVE that the NVA serves.  A switch with another datapath id is sent away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dpid: PositiveInt
    vtep: IPvAnyAddress


class Settings(BaseModel):
    """All of it.  `northbound` is a unix socket, `token` what its callers have to present."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: IPvAnyAddress
    port: PositiveInt = 6653
    northbound: Path
    token: str
    trace: Path
    nves: dict[str, NveSettings]
    mapping_update: str
    lifetime_s: PositiveInt | None = None

    def dissemination(self) -> Dissemination:
        return strategy(self.mapping_update, self.lifetime_s)
