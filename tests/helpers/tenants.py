"""VMs and NVEs for tests: two virtual networks that hold the same addresses (R4.1.8)."""

from ipaddress import IPv4Address, IPv6Address

from nve import ila
from nve.model import VmSpec, Vtep, mac, vni
from nve.pipeline.state import UnderlayPlace

RED, BLUE = vni(5000), vni(6000)


def vm(name: str, number: int, nve: str, network: int = RED) -> VmSpec:
    """Return the number-th VM of a virtual network."""
    return VmSpec(
        name,
        vni(network),
        mac(f"02:00:00:00:00:{number:02x}"),
        IPv4Address("192.168.0.0") + number,
        IPv6Address("fd77::") + number,
        nve,
    )


def vteps(count: int = 3, version: int = 4) -> dict[str, Vtep]:
    """Return nve1, nve2, … and their underlay addresses."""
    first: Vtep = IPv4Address("10.1.0.0") if version == 4 else IPv6Address("fd00:0:0:1::")
    return {f"nve{number}": first + number for number in range(1, count + 1)}


def underlay() -> dict[str, UnderlayPlace]:
    """Return the NVEs' places on an underlay where every NVE is beside all others."""
    servers = {nve: ila.server(number) for number, nve in enumerate(vteps(), start=1)}
    macs = {nve: mac(f"06:00:00:00:00:0{number}") for number, nve in enumerate(vteps(), start=1)}
    return {
        nve: UnderlayPlace(
            servers[nve],
            macs[nve],
            {vtep: macs[there] for there, vtep in vteps().items() if there != nve},
            {vtep: servers[there] for there, vtep in vteps().items() if there != nve},
        )
        for nve in vteps()
    }
