"""The VMs and NVEs that the NVA knows by name, and what a request has to say of them.

Every check raises `RequestRefused` with a sentence for the caller, or `Unknown` for a name that
stands for nothing here.  Only VMs are added and removed: the NVEs are the desired state's.
"""

from collections.abc import Mapping

from controller.core.desired_state import DesiredState
from controller.core.directory import AddressInUse, Directory
from controller.core.onboarding import Interface
from controller.core.refusals import RequestRefused, Unknown
from nve.model import NVE_MAC, Binding, TenantSystem
from nve.pipeline.rules import FIRST_VM_PORT, LAST_VM_PORT
from nve.wire import end_marker


class Known:
    """The names of VMs, and the checks that requests have in common."""

    def __init__(self, desired: DesiredState, directory: Directory) -> None:
        self._desired = desired
        self._directory = directory
        self._systems: dict[str, TenantSystem] = {}
        self._names: dict[TenantSystem, str] = {}

    @property
    def vms(self) -> Mapping[str, TenantSystem]:
        """The tenant system of each VM."""
        return self._systems

    def add(self, vms: Mapping[str, TenantSystem]) -> None:
        """Get to know VMs, for which `require_new` holds."""
        self._systems |= vms
        self._names |= {system: vm for vm, system in vms.items()}

    def remove(self, vm: str) -> None:
        """Forget a VM that has ended."""
        del self._names[self._systems.pop(vm)]

    def name(self, system: TenantSystem) -> str:
        """Return the VM's name as the trace uses it."""
        return self._names.get(system, str(system))

    def vm(self, vm: str) -> TenantSystem:
        """Return the tenant system of a VM.  Raises Unknown."""
        if vm not in self._systems:
            raise Unknown(f"no VM {vm!r} here; there are {', '.join(self._systems) or 'none'}")
        return self._systems[vm]

    def binding(self, system: TenantSystem) -> Binding:
        """Return where a known VM is."""
        binding = self._directory.find(system)
        assert binding is not None, f"{system} is associated but not in the directory"
        return binding

    def require_nve(self, nve: str) -> None:
        if nve not in self._desired.vteps:
            raise Unknown(f"no NVE {nve!r} here; there are {', '.join(self._desired)}")

    def require_connected(self, nve: str) -> None:
        if not self._desired.is_connected(nve):
            raise RequestRefused(f"{nve} is not connected to the NVA")

    def require_free_port(self, nve: str, port: int, for_: TenantSystem | None = None) -> None:
        """Refuse a port that another VM has; a VM that comes back may have the port it has left."""
        if not FIRST_VM_PORT <= port <= LAST_VM_PORT:
            raise RequestRefused(
                f"port {port} cannot be a VM's; VM ports are {FIRST_VM_PORT} to {LAST_VM_PORT}"
            )
        holder = self._desired.attachment_at(nve, port)
        if holder and holder.system != for_:
            raise RequestRefused(f"port {port} of {nve} belongs to {self.name(holder.system)}")

    def require_new(self, vm: str, interface: Interface) -> None:
        """Refuse a VM that may not be associated."""
        system = interface.system
        if system.mac == NVE_MAC or system.mac.startswith(end_marker.AGENTS[:8]):
            raise RequestRefused(f"{system.mac} is an NVE's own address; give {vm} another")
        if self._systems.get(vm, system) != system or self._names.get(system, vm) != vm:
            raise RequestRefused(
                f"{vm} and {system} do not belong together; names and MACs are unique"
            )
        if vm in self._systems:
            raise RequestRefused(
                f"{vm} is associated already; to bring it elsewhere, ask for a move"
            )
        known = self._directory.members(system.vni)
        if known and self._desired.routed_as(system.vni) != interface.routed:
            raise RequestRefused(
                f"{vm} is of VNI {system.vni}, which is another kind of network; all its VMs have "
                "to say the same of it"
            )
        try:
            self._directory.require_free(system, interface.addresses)
        except AddressInUse as error:
            raise RequestRefused(f"{vm} cannot be associated: {error}") from None

    def require_no_way_round(self, to: str, system: TenantSystem) -> None:
        """Refuse a move back to an NVE that `ila` packets would still reach by the VM's last one.

        An NVE tells such packets from others by the tunnel's sender, which an `ila` packet does not
        name.
        """
        network = self._desired.routed_as(system.vni)
        back = system in self._desired.state(to).redirects
        if back and network and network.encapsulation == "ila":
            raise RequestRefused(
                f"{to} still sends packets in flight for {self.name(system)} on, and with ila none "
                "could be told from those that come back; wait for in-flight-ended"
            )
