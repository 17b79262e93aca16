"""VMs that come and go while a lab runs: on-boarded, adjusted, off-boarded (R8.2).

A VM that is on-boarded is built when the overlay has found room for it, and belongs to the first
tenant of the scenario.  It sends nothing by itself, and has no guest.
"""

from dataclasses import replace

from experiments.errors import UsageError
from experiments.overlays import VmAdmission
from experiments.run.lab import Lab
from experiments.scenario.tenants import VmPlace
from nve.model import VmSpec
from nve.resources import Resources


class Lifecycle:
    """Adds, adjusts and removes VMs of one lab.

    Methods raise UsageError for what is impossible, and OverlayError if the overlay refuses;
    nothing has changed then.
    """

    def __init__(self, lab: Lab, admission: VmAdmission) -> None:
        self._lab = lab
        self._admission = admission
        self._data_centre = lab.data_centre
        self._tenant = lab.scenario.tenants[0]
        self._last_number = len(self._tenant.vms)

    def on_board(self, name: str, nve: str | None, resources: Resources) -> VmSpec:
        """Add a VM at that NVE, or at any with room."""
        number = self._last_number + 1
        anywhere = next(iter(self._data_centre.nves))
        place = VmPlace.model_construct(nve=nve or anywhere, resources=resources)
        asked = self._tenant.vm(number, name, place)
        try:
            self._data_centre.check(asked)
        except ValueError as error:
            raise UsageError(str(error)) from None
        vm = replace(asked, nve=self._admission.offer(asked, nve))
        self._data_centre.add_vm(vm)
        self._lab.orchestrator.add_vm(name)
        self._last_number = number
        return vm

    def adjust(self, name: str, **changed: float) -> Resources:
        """Change the resources that a VM takes of its server; those that are not named stay."""
        vm = self._vm(name)
        wanted = replace(vm.resources, **changed)  # type: ignore[arg-type]
        guest = self._lab.guests.of.get(name)
        if guest and (
            wanted.memory_mb < guest.spec.memory_mb or wanted.storage_mb < guest.spec.disk_mb
        ):
            raise UsageError(
                f"{name} has a guest with {guest.spec.memory_mb} MB of memory and "
                f"{guest.spec.disk_mb} MB of disk; it cannot have less"
            )
        self._admission.adjust(name, wanted)
        limits = replace(vm.limits, **changed)  # type: ignore[arg-type]
        try:
            self._data_centre.limit_vm(name, limits)
        except OSError as error:
            self._admission.adjust(name, vm.resources)
            raise UsageError(f"{name} uses more than that already: {error.strerror}") from None
        self._data_centre.describe_anew(replace(vm, resources=wanted, limits=limits))
        return wanted

    def off_board(self, name: str) -> None:
        """Remove a VM."""
        self._vm(name)
        self._admission.off_board(name)
        if guest := self._lab.guests.of.pop(name, None):
            guest.close()
        self._lab.orchestrator.remove_vm(name)
        self._data_centre.remove_vm(name)

    def _vm(self, name: str) -> VmSpec:
        vms = self._data_centre.vms
        if name not in vms:
            raise UsageError(f"no VM {name!r}; there are {', '.join(vms) or 'none'}")
        return vms[name].spec
