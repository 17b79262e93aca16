"""How frames to a group (broadcast or multicast) reach each VM of a network exactly once.

The sender's NVE copies such a frame.  As long as nobody moves, each other NVE gets one copy for all
its VMs.  That is not enough for a VM that moves: its source and its destination would have to
change roles at the same packet of every sender, or the VM would get the frame twice or not at all.
So a VM that moves gets copies of its own, which each NVE treats like unicast packets to the VM: by
the same entries, redirected, held, and behind the same end markers.  Only the sender's NVE decides
which path a copy takes.

    flooded   the NVEs that get one copy for all VMs which began there and have not moved
    copies    the VMs that get copies of their own: each that has moved, and those that began at an
              NVE which another VM of the network has left

The latter need their own copies because a copy for all VMs of their NVE may still be on its way
when the set of these VMs changes.  Senders stop sending such copies at once, and the source
redirects those that still arrive.  A VM's own copy carries the VM's own VNI
(`nve.model.Binding.copy_vni`).  A move that is given up before the VM has arrived changes nothing.

NVEs ignore group membership (IGMP, MLD): every VM gets every frame, so that no membership has to
move.
"""

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from nve.model import Vni
from nve.pipeline.state import GroupCopy


def spread(desired: DesiredState, directory: Directory, vni: Vni) -> None:
    """Set where frames to the groups of a virtual network have to go now: at layer 3, nowhere."""
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
