"""How frames to a group, which are broadcast or multicast, reach each VM of a network once.

The NVE of the sender copies such a frame.  As long as nobody moves, each other NVE gets one copy
for all its VMs.  That does not do for a VM that moves: its source and its destination would have to
change at the same packet, of every sender, or the VM would get one twice or not at all.  So it gets
copies of its own, which are treated at each NVE as what is sent to the VM alone is treated: by the
same entries, redirected, held, and behind the same end markers.  Only the sender's NVE decides
which path a copy takes.

    flooded   the NVEs that get one copy for all VMs which are at home there, where they began
    copies    the VMs that get copies of their own: each that has moved, and those at home at an NVE
              from which a VM of the network has left home

The second, because one copy for all VMs of that NVE may still be on its way, and would have to be
for one VM less from some moment on: its sender stops to send such copies at once, and the source
redirects what comes of them until then.  A copy is marked by its VNI, which is the VM's own
(`nve.model.Binding.copy_vni`).  A move that is given up before the VM has arrived changes nothing.

NVEs do not look at who wants which group (IGMP, MLD): every VM gets every frame.  So no membership
has to move.
"""

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from nve.model import Vni
from nve.pipeline.state import GroupCopy


def spread(desired: DesiredState, directory: Directory, vni: Vni) -> None:
    """Say where frames to the groups of a virtual network have to go, as things are now: at layer 3
    nowhere."""
    if desired.is_routed(vni):
        desired.set_members(vni, directory.members(vni), (), {})
        return
    bindings = [binding for binding in directory if binding.system.vni == vni]
    redirecting = {
        nve
        for nve in desired
        for system, redirect in desired.state(nve).redirects.items()
        if system.vni == vni and redirect.flooded
    }
    left = redirecting | {binding.home for binding in bindings if binding.moved}
    at_home = {binding.nve for binding in bindings if not binding.moved}
    copies = {
        binding.system: GroupCopy(binding.copy_vni, desired.vteps[binding.nve])
        for binding in bindings
        if binding.moved or binding.nve in left
    }
    desired.set_members(vni, directory.members(vni), at_home - left, copies)
