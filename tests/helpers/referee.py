"""Checks a handover (`tests.helpers.handovers`): no packet may overtake, and the handover must end.

The ingress NVE that is checked is nve3.  The referee delivers the messages.
"""

from collections.abc import Callable

from controller.core.move import Move
from controller.core.snapshot import SnapshotChange, decode, merged
from nve import messages
from nve.pipeline.rules import Rule, lane_port
from nve.wire.end_marker import MarkerKind, Signal
from tests.helpers.fabric import Fabric
from tests.helpers.fake_nve import Direction
from tests.helpers.handovers import (
    MARKER,
    SYSTEM,
    departed,
    entry,
    expire,
    fabric,
    marker_rules,
    with_entries,
)
from tests.helpers.tenants import vteps


class Referee:
    """Checks whether the order of packets to vm1 is kept.

    The destination has to hold from when an ingress NVE takes another path until that NVE has sent
    its marker on the former one.  Otherwise it raises AssertionError while the fabric delivers.
    """

    def __init__(self, made: Fabric, ingress_nve: str) -> None:
        self._made = made
        self._edge = ingress_nve
        self._open = {made.where["vm1"]}
        """The NVEs at which the VM is reached without being waited for."""
        self.switched = False
        """Whether the ingress NVE has left a path whose marker nobody has waited for yet."""
        self._path = self._now()
        self._release, self._activate, self._on_change = made.release, made.activate, made.on_change
        made.release, made.activate = self.release, self.activate  # type: ignore[method-assign]
        made.on_change = self.look

    def look_away(self) -> None:
        """Stop checking: from now on order may suffer."""
        made = self._made
        made.on_change, made.release = self._on_change, self._release  # type: ignore[method-assign]

    def activate(self, move: Move) -> None:
        """Activate a move, whose destination has to hold from before the VM runs there."""
        self._open.discard(move.destination)
        self._activate(move)

    def look(self, _: Rule) -> None:
        before, self._path = self._path, self._now()
        if None not in (before, self._path) and before != self._path:
            at = self._made.where["vm1"]
            holding = at not in self._open or (at, SYSTEM) in self._made.expecting
            assert holding, f"{self._edge} leaves {before}, and {at} does not hold"
            self.switched = True

    def release(self, nve: str, expected: Signal, missing: tuple[str, ...] = ()) -> None:
        waited = self._edge in expected.ingress_nves and self._edge not in missing
        assert waited or not self.switched, f"{nve} did not wait for {self._edge}"
        self.switched = False
        self._open.add(nve)
        self._release(nve, expected, missing)

    def deliver(self, nve: str, direction: Direction) -> None:
        """Deliver a message, checking that a marker comes out of the lane."""
        node, lane = self._made.nves[nve], lane_port(self._made.port("vm1"))
        message = node.down[0] if direction == "down" else None
        if isinstance(message, messages.Order) and message.signal.kind is MarkerKind.SEND_MARKER:
            places = self._made.deliveries(MARKER, nve)
            assert places == ((self._made.where["vm1"], lane),), (
                f"the marker of {nve} comes to {places}"
            )
        self._made.deliver(nve, direction)

    def settle(self) -> None:
        while ways := self._made.under_way():
            self.deliver(*ways[0])

    def _now(self) -> object:
        found = entry(self._made, self._edge)
        return found.actions if found else None


Begun = tuple[Fabric, Referee]


def arriving() -> Begun:
    """Return a handover with push: nve2 and nve3 are ingress NVEs, told at once."""
    made = fabric()
    move = departed(made)
    watched = Referee(made, "nve3")
    made.activate(move)
    return made, watched


def expiring() -> Begun:
    """Return a handover with pull: the VM has been at nve2 for a while, and nve3's entry has
    expired.
    """
    made, watched = arrived()
    expire(made, "nve3")
    return made, watched


def arrived(timer_s: int = 0) -> Begun:
    made = with_entries(fabric("pull", keep=True))
    move = departed(made, timer_s=timer_s)
    watched = Referee(made, "nve3")
    made.activate(move)
    watched.settle()
    made.orders.clear()
    return made, watched


def until(begin: Callable[[], Begun], moment: int) -> Begun:
    made, watched = begin()
    for _ in range(moment):
        for way in made.under_way()[:1]:
            watched.deliver(*way)
    return made, watched


def restarted(made: Fabric, watched: Referee) -> None:
    made.kill()
    made.connect_all()
    watched.settle()


def ended(made: Fabric) -> list[dict[str, object]]:
    """Return the details in the trace of handovers that had ingress NVEs."""
    lines = [line.details for line in made.trace if line.event == "paths-changed"]
    return [dict(details) for details in lines if details["nves"]]


def kept(made: Fabric) -> SnapshotChange:
    """Return the state that another process would find."""
    return merged(map(decode, made.journal))


def assert_it_is_over(made: Fabric) -> None:
    """Assert that no handover is left anywhere, and that nve3 knows where the VM is."""
    assert made.expecting == {}
    assert marker_rules(made) == []
    assert not made.authority._handovers.under_way(SYSTEM)
    assert (kept(made).paths, made.authority.durable.whole().paths) == ((), ())
    binding = made.authority.directory.find(SYSTEM)
    assert binding
    assert made.authority.desired.state("nve3").remotes[SYSTEM].vtep == vteps(4)[binding.nve]
