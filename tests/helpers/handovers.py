"""An NVA that uses end markers, over the in-memory fabric, for tests of handovers.

vm1 moves from nve1 to nve2; vm2 talks to it from the destination, vm3 from a third NVE.
"""

from controller.core.dissemination import strategy
from controller.core.move import Move
from controller.core.move_fsm import Phase
from nve.pipeline.evaluator import Frame
from nve.pipeline.rules import AGENT_PORT, Purpose, Rule
from nve.wire.end_marker import ETHERTYPE, MarkerKind, agent_mac
from tests.helpers import frames
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import RED, vm, vteps

VM1, VM2, VM3 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("vm3", 3, "nve3")
SYSTEM = VM1.tenant_system
MARKER: Frame = {
    "in_port": AGENT_PORT,
    "eth_type": ETHERTYPE,
    "eth_src": agent_mac(RED),
    "eth_dst": VM1.mac,
}


def fabric(update: str = "push", *, keep: bool = False, end_markers: bool = True) -> Fabric:
    lifetime_s = 2 if update == "pull" else None
    dissemination = strategy(update, lifetime_s, keeps_expired=keep)
    made = Fabric(vteps(4), dissemination, end_markers=end_markers)
    for each in (VM1, VM2, VM3):
        made.associate(each)
    made.settle()
    return made


def with_entries(made: Fabric) -> Fabric:
    """Let all NVEs that pull ask for vm1, and return the fabric."""
    for each in (VM2, VM3):
        made.send(each.name, frames.ipv4(each, VM1.mac))
    made.settle()
    return made


def departed(made: Fabric, to: str = "nve2", timer_s: int = 0) -> Move:
    """Return a move that waits for the VM's arrival."""
    move = made.request_move("vm1", to, timer_s=timer_s)
    made.settle()
    made.redirect(move)
    made.settle()
    assert move.phase is Phase.REDIRECTED
    return move


def orders(made: Fabric) -> list[tuple[str, MarkerKind, tuple[str, ...]]]:
    return [(nve, signal.kind, signal.ingress_nves) for nve, signal in made.orders]


def entry(made: Fabric, nve: str) -> Rule | None:
    rules = made.nves[nve].rules.values()
    found = [each for each in rules if each.purpose is Purpose.FORWARD and each.about == SYSTEM]
    return max(found, key=lambda rule: rule.priority, default=None)


def expire(made: Fabric, nve: str) -> Rule:
    """Let an NVE's entry expire, so that the report of it is on its way."""
    old = entry(made, nve)
    assert old
    assert old.hard_s
    made.expire(nve, old)
    return old


def marker_rules(made: Fabric) -> list[Rule]:
    """Return the rules for end markers to vm1, at all NVEs."""
    held = [rule for node in made.nves.values() for rule in node.holds()]
    return [rule for rule in held if rule.purpose is Purpose.END_MARKER and rule.about == SYSTEM]
