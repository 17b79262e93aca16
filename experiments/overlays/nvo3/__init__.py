"""The draft's overlay (draft-ietf-nvo3-vmm-03): an NVA tells NVEs, Open vSwitch, where VMs are."""

from experiments.overlays import FaultKind, Ground, Overlay
from experiments.overlays.nvo3.settings import Settings
from nve.edge import EdgeFactory

SAYS = "The draft's overlay: an NVA tells the NVEs (Open vSwitch) where VMs are."
CONTROL_NODE = "nva"
LAYERS = (2, 3)
PROGRAMS = (
    *("ovs-vswitchd", "ovsdb-server", "ovsdb-tool"),
    *("ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovs-dpctl"),
)
NVA_DIES = "nva-dies"
FAULTS = {
    NVA_DIES: FaultKind(
        "the NVA is killed; what it had decided is on its disk",
        "nothing; the move goes on when the NVA is back",
    )
}


def edges(_settings: Settings, datapath: str) -> EdgeFactory:
    """Return the factory of Open vSwitch instances with that datapath."""
    from nve.ovs import bridge

    return bridge.edges(datapath)


def lacking(settings: Settings) -> list[str]:
    """Return sentences if the NVA's framework is not installed, or the kernel cannot hold
    packets.
    """
    from experiments import needs
    from experiments.overlays.nvo3.nva import PYTHONS
    from nve.linux import capabilities

    said = []
    if not PYTHONS[settings.framework].exists():
        said.append(
            f"{settings.framework} is not installed; `make test-ryu` prepares it in .venv-ryu"
        )
    if settings.hold and not capabilities.ifb_available():
        said.append(needs.IFB.refusal("overlay.hold"))
    return said


def build(ground: Ground, settings: Settings) -> Overlay:
    """See `experiments.overlays`."""
    from experiments.overlays.nvo3.overlay import Nvo3

    return Nvo3(ground, settings)
