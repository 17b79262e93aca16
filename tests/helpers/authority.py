"""An NVA over the in-memory fabric, with a few VMs, for tests of its decisions."""

from dataclasses import replace

from controller.core.dissemination import strategy
from controller.core.move import InFlight, Move
from controller.core.move_fsm import Phase
from nve.model import Mac
from nve.pipeline.rules import Rule
from tests.helpers import frames
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import BLUE, vm, vteps

VM1, VM2, VM3 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("vm3", 3, "nve1")
NAMESAKE = vm("blue", 1, "nve2", BLUE)
GHOST = Mac("02:00:00:00:00:63")


def fabric(mapping_update: str = "pull", lifetime_s: int | None = 2) -> Fabric:
    """Return a fabric that is fully informed.

    vm1 and vm3 are at nve1, vm2 at nve2, and another tenant has a VM with the same addresses as
    vm1.
    """
    made = Fabric(vteps(), strategy(mapping_update, lifetime_s))
    for each in (VM1, VM2, VM3, NAMESAKE):
        made.associate(each)
    made.settle()
    return made


def push() -> Fabric:
    return fabric("push", None)


def rules_of(at: Fabric) -> dict[str, frozenset[Rule]]:
    return {nve: at.authority.desired.rules(nve) for nve in at.nves}


def state_of(at: Fabric) -> object:
    """Return everything that a refusal must not change."""
    return (
        list(at.authority.directory),
        rules_of(at),
        [replace(move) for move in at.authority.moves],
        at.under_way(),
    )


def phase_of(move: Move) -> Phase:
    """Return the phase anew, which a type checker would take for unchanged."""
    return move.phase


def redirected(
    at: Fabric, vm_name: str = "vm1", to: str = "nve3", how: InFlight = "tunnel"
) -> Move:
    move = at.request_move(vm_name, to, how)
    at.settle()
    at.redirect(move)
    at.settle()
    assert phase_of(move) is Phase.REDIRECTED
    return move


def pull(at: Fabric, sender: str, to: str) -> None:
    """Let the sender's NVE get its entry by asking."""
    at.send(sender, frames.ipv4(at.vms[sender], at.vms[to].mac))
    at.settle()
