"""An NVA and its NVEs in memory: one `Authority`, and switches whose speed a test decides.

Each NVE has a control channel, two queues, one for each direction, in order as TCP keeps it.
Nothing moves by itself: `deliver` hands over the next message of one queue, so a test (or
hypothesis) decides how the messages of different NVEs interleave.  `lose` takes the next message of
a queue off the wire once; it is sent again, and nothing behind it overtakes it.

An NVE (`tests.helpers.fake_nve`) carries its instructions out rule by rule, so that every
intermediate state can be checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from controller.core import snapshot
from controller.core.authority import Authority
from controller.core.dissemination import Dissemination
from controller.core.move import InFlight, Move, MoveRequest
from nve.messages import (
    AnswerArp,
    AnswerRarp,
    AnswerSolicitation,
    ArpSent,
    Effect,
    Emit,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    Order,
    RarpSent,
    Reconcile,
    Report,
    Signalled,
    Tell,
    TraceRecord,
    Unrouted,
)
from nve.model import IPAddress, Mac, MoveMode, TenantSystem, VmSpec, Vtep
from nve.pipeline.evaluator import MAX_TUNNELS, ForwardingLoop, Frame, PacketVerdict, out_of_tunnel
from nve.pipeline.rules import AGENT_PORT, FIRST_VM_PORT, PipelineTable, Purpose, Rule
from nve.pipeline.state import UnderlayPlace
from nve.resources import Capacity
from nve.wire.end_marker import MarkerKind, Signal
from nve.wire.frames import ARP, IPV4, NEIGHBOUR_SOLICITATION, RARP, ethernet, ip
from tests.helpers.fake_nve import (
    Add,
    Confirm,
    Direction,
    FakeNve,
    Instruction,
    Message,
    Remove,
    RemoveOthers,
)
from tests.helpers.frames import entering

SECOND_NS = 1_000_000_000
ENDLESS = 10_000
"""A number of messages that no exchange of a few NVEs needs."""


class Fabric:
    """The NVA, the NVEs, the VMs, and the messages on their way."""

    def __init__(
        self,
        vteps: dict[str, Vtep],
        dissemination: Dissemination,
        *,
        end_markers: bool = False,
        capacities: Mapping[str, Capacity] | None = None,
        underlay: Mapping[str, UnderlayPlace] | None = None,
    ) -> None:
        self._new = partial(
            Authority,
            vteps,
            dissemination,
            end_markers=end_markers,
            capacities=capacities,
            underlay=underlay,
        )
        self.authority = self._new()
        self.journal: list[bytes] = []
        """What the NVA has written down."""
        self.nves = {name: FakeNve(name, vtep) for name, vtep in vteps.items()}
        self._behind = {vtep: name for name, vtep in vteps.items()}
        self.vms: dict[str, VmSpec] = {}
        self.where: dict[str, str] = {}
        """Where each VM really runs, which is for the orchestrator to say."""
        self.now_ns = 0
        self.trace: list[TraceRecord] = []
        self.answered: list[AnswerArp | AnswerRarp | AnswerSolicitation] = []
        self.emitted: list[Emit] = []
        self.orders: list[tuple[str, Signal]] = []
        """What the agents were told, in order."""
        self.markers: set[tuple[int, str]] = set()
        """The handovers and ingress NVEs that a marker has been sent for."""
        self.expecting: dict[tuple[str, TenantSystem], Signal] = {}
        """What destinations still hold for: the order that said so."""
        self.on_change: Callable[[Rule], None] = lambda rule: None
        """Called after a rule was added, replaced by another or removed, or has timed out."""
        for name in vteps:
            self.connect(name)

    # -- the NVA -----------------------------------------------------------------------------------

    def ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the authority with the time; its effects go on their way."""
        try:
            return call(*arguments, self.now_ns)
        finally:
            change = self.authority.durable.take()
            self.journal += [snapshot.encode(change)] if change else []
            for effect in self.authority.take_effects():
                self._send_down(effect)

    def events(self, subject: str | None = None) -> list[str]:
        """Return the names of the trace's events, in order."""
        return [line.event for line in self.trace if subject in (None, line.subject)]

    def refused(self) -> dict[str, int]:
        """Return how often peers made each mistake."""
        counted: dict[str, int] = {}
        for (_, _, what), times in self.authority.counted.items():
            counted[what] = counted.get(what, 0) + times
        return counted

    # -- what an orchestrator does -----------------------------------------------------------------

    def port(self, vm: str) -> int:
        """Return the VM's port number, which is the same at every NVE."""
        return FIRST_VM_PORT + list(self.vms).index(vm)

    def associate(self, vm: VmSpec, claimable: frozenset[IPAddress] = frozenset()) -> None:
        self.vms[vm.name] = vm
        port = self.port(vm.name)
        system, addresses = vm.tenant_system, vm.addresses
        associate = partial(self.authority.associate, claimable=claimable, routed=vm.routed)
        self.ask(associate, vm.name, system, addresses, vm.nve, port)
        self.where[vm.name] = vm.nve

    def request_move(
        self,
        vm: str,
        to: str,
        in_flight: InFlight = "tunnel",
        deadline_s: float = 60,
        timer_s: int = 0,
        mode: MoveMode = "hot",
        *,
        source_runs: bool = False,
    ) -> Move:
        """Request a move; the n-th move of all has the key `n`."""
        request = MoveRequest(
            *(vm, to, self.port(vm), in_flight, 0 if timer_s else 2, timer_s, deadline_s),
            mode=mode,
            source_runs=source_runs,
        )
        return self.ask(self.authority.request_move, str(len(self.authority.moves) + 1), request)

    def redirect(self, move: Move) -> None:
        self.ask(self.authority.redirect, move.key)

    def activate(self, move: Move) -> None:
        """Let the VM run at the destination, and the orchestrator report it."""
        self.ask(self.authority.activate, move.key)
        self.where[move.request.vm] = move.destination

    def move(self, vm: str, to: str, in_flight: InFlight = "tunnel") -> Move:
        """Carry out a whole move: everything is delivered at once and all time-outs come."""
        move = self.request_move(vm, to, in_flight)
        self.settle()
        self.redirect(move)
        self.settle()
        self.activate(move)
        self.settle()
        self.expire_all()
        self.ask(self.authority.de_associate, vm, move.source)
        self.settle()
        return move

    # -- the control channels ----------------------------------------------------------------------

    def connect(self, nve: str) -> None:
        self.nves[nve].connected = True
        self.ask(self.authority.nve_connected, nve)

    def disconnect(self, nve: str) -> None:
        """Break the connection: messages on their way are lost, rules stay."""
        node = self.nves[nve]
        node.connected = False
        node.down.clear()
        node.up.clear()
        node.lost.clear()
        self.ask(self.authority.nve_disconnected, nve)

    def die(self, nve: str) -> None:
        """Let the NVE die: it comes back without a rule."""
        self.disconnect(nve)
        self.nves[nve].forget()

    def kill(self) -> None:
        """Kill the NVA, with all messages on their way, and start another; nobody is connected."""
        for node in self.nves.values():
            node.connected = False
            node.down.clear()
            node.up.clear()
            node.lost.clear()
        self.authority = self._new()
        before = snapshot.merged(map(snapshot.decode, self.journal))
        self.ask(self.authority.restore, before)

    def connect_all(self) -> None:
        for name, node in self.nves.items():
            if not node.connected:
                self.connect(name)

    def under_way(self) -> list[tuple[str, Direction]]:
        """Return the queues that hold messages."""
        found: list[tuple[str, Direction]] = []
        for name, node in self.nves.items():
            found += [(name, "down")] if node.down else []
            found += [(name, "up")] if node.up else []
        return found

    def lose(self, nve: str, direction: Direction) -> None:
        """Let the next attempt to deliver from this queue fail."""
        self.nves[nve].lost.add(direction)

    def deliver(self, nve: str, direction: Direction) -> bool:
        """Hand over the next message of a queue; False if it was lost and is sent again."""
        node = self.nves[nve]
        if direction in node.lost:
            node.lost.discard(direction)
            return False
        if direction == "down":
            self._carry_out(node, node.down.popleft())
        else:
            self._take(node, node.up.popleft())
        return True

    def settle(self) -> None:
        """Deliver until nothing is under way.  Raises AssertionError if that does not end."""
        for _ in range(ENDLESS):
            for name, node in self.nves.items():
                if node.down or node.up:
                    self.deliver(name, "down" if node.down else "up")
                    break
            else:
                return
        raise AssertionError(f"NVA and NVEs have not stopped talking; the last: {self.trace[-3:]}")

    # -- time --------------------------------------------------------------------------------------

    def has_timeout(self) -> list[tuple[str, Rule]]:
        """Return the rules with a time-out, in a stable order."""
        found = [
            (name, rule)
            for name, node in self.nves.items()
            for rule in node.rules.values()
            if rule.idle_s or rule.hard_s
        ]
        return sorted(found, key=repr)

    def expire(self, nve: str, rule: Rule) -> None:
        self.nves[nve].expire(rule)
        self.on_change(rule)

    def expire_all(self) -> None:
        """Let every time-out come, as after a long silence, and be handled.

        Those for packets in flight come last, and again while there is an old entry.  One at an NVE
        out of reach stays: otherwise they would come without end.
        """
        in_vain = 0
        while found := sorted(self.has_timeout(), key=lambda place: _in_flight(place[1])):
            in_vain = in_vain + 1 if _in_flight(found[0][1]) else 0
            if in_vain > 2 * len(self.authority.moves):
                return
            self.expire(*found[0])
            self.settle()

    # -- frames ------------------------------------------------------------------------------------

    def judge(self, frame: Frame, at: str) -> PacketVerdict:
        """Return what one NVE does with a frame that has come in."""
        return self.nves[at].judge(frame)

    def way(self, frame: Frame, at: str) -> list[tuple[str, PacketVerdict]]:
        """Return the NVEs that a frame visits, in order, and the verdict of each.

        Raises ForwardingLoop as `nve.pipeline.evaluator.deliveries` does.
        """
        found: list[tuple[str, PacketVerdict]] = []
        to_visit = [(at, frame, 0)]
        while to_visit:
            name, seen, hops = to_visit.pop(0)
            if hops > MAX_TUNNELS:
                raise ForwardingLoop(f"a frame that entered at {at} is still tunnelled at {name}")
            verdict = self.judge(seen, name)
            found.append((name, verdict))
            for vni, to in verdict.tunnels:
                tunnelled = out_of_tunnel(verdict, vni, self.nves[name].vtep)
                to_visit.append((self._behind[to], tunnelled, hops + 1))
        return found

    def deliveries(self, frame: Frame, at: str) -> tuple[tuple[str, int], ...]:
        """Return where a frame is delivered, over all NVEs."""
        return tuple((nve, port) for nve, seen in self.way(frame, at) for port in seen.ports)

    def send(self, vm: str, frame: Frame) -> PacketVerdict:
        """Let a VM send a frame where it runs; a report to the NVA goes on its way."""
        return self.send_from(self.where[vm], self.port(vm), frame)

    def send_from(self, nve: str, port: int, frame: Frame) -> PacketVerdict:
        frame = entering(frame, port)
        verdict = self.judge(frame, nve)
        if verdict.reported and self.nves[nve].connected:
            assert verdict.last is not None
            self.nves[nve].up.append(self._report(verdict.frame, verdict.last))
        return verdict

    # -- inside ------------------------------------------------------------------------------------

    def _send_down(self, effect: Effect) -> None:
        if not isinstance(effect, TraceRecord):
            assert self.nves[effect.nve].connected, f"nobody is there to hear {effect}"
        match effect:
            case TraceRecord():
                self.trace.append(effect)
            case Tell(nve, change, token):
                added, removed = map(Add, change.added), map(Remove, change.removed)
                self.nves[nve].down.extend([*added, *removed, Confirm(token)])
            case Reconcile(nve, rules, token):
                cookies = frozenset(rule.cookie for rule in rules)
                added = map(Add, sorted(rules, key=lambda rule: -rule.table))
                self.nves[nve].down.extend([*added, RemoveOthers(cookies), Confirm(token)])
            case (
                AnswerArp(nve) | AnswerRarp(nve) | AnswerSolicitation(nve) | Emit(nve) | Order(nve)
            ):
                self.nves[nve].down.append(effect)

    def _carry_out(self, node: FakeNve, instruction: Instruction) -> None:
        match instruction:
            case Add(rule) | Remove(rule):  # first: nine of ten are
                before = node.rules.get(rule.key)
                node.carry_out(instruction)
                if node.rules.get(rule.key) != before:
                    self.on_change(rule)
            case AnswerArp() | AnswerRarp() | AnswerSolicitation():
                self.answered.append(instruction)
            case Emit():
                self.emitted.append(instruction)
            case Order(nve, signal):
                self._obey(nve, signal)
            case _:
                node.carry_out(instruction)

    def _obey(self, nve: str, order: Signal) -> None:
        """Do what an agent does: a marker takes no time here, and none is lost."""
        self.orders.append((nve, order))
        match order.kind:
            case MarkerKind.SEND_MARKER:
                self.markers.add((order.handover, nve))
            case MarkerKind.FOLLOW:
                pass  # a switch follows its rules at once here
            case _:
                self.expecting[nve, order.system] = order
                self.say(nve, replace(order, kind=MarkerKind.EXPECTING, ingress_nves=()))
        for (destination, _), expected in list(self.expecting.items()):
            if all(
                (expected.handover, ingress_nve) in self.markers
                for ingress_nve in expected.ingress_nves
            ):
                self.release(destination, expected)

    def release(self, nve: str, expected: Signal, missing: tuple[str, ...] = ()) -> None:
        """Let a destination end its holding: the markers have come, or the time is over."""
        del self.expecting[nve, expected.system]
        self.say(nve, replace(expected, kind=MarkerKind.RELEASED, ingress_nves=missing))

    def say(self, nve: str, signal: Signal) -> None:
        """Let an agent send a signal."""
        if self.nves[nve].connected:
            self.nves[nve].up.append(Signalled(AGENT_PORT, signal))

    def _take(self, node: FakeNve, message: Message) -> None:
        if isinstance(message, Confirm):
            self.ask(self.authority.confirmed, node.name, message.token)
        else:
            self.ask(self.authority.reported, node.name, message)

    def _report(self, frame: Frame, rule: Rule) -> Report:
        """Return what `controller.southbound.packets` would read from the frame that a rule
        reports.
        """
        said = dict(frame)
        port = int(said["in_port"])
        sender = Mac(str(said["eth_src"]))
        if rule.table is PipelineTable.ROUTE:
            version = "ipv4" if said["eth_type"] == IPV4 else "ipv6"
            source, to = (ip_address(said[f"{version}_{end}"]) for end in ("src", "dst"))
            octets = ip(source, to, int(said["ip_proto"]), b"")
            frame_octets = ethernet(sender, str(said["eth_dst"]), int(said["eth_type"]), octets)
            return Unrouted(port, to, frame_octets)
        if rule.table is PipelineTable.FORWARD:
            octets = repr(sorted(said.items())).encode()
            return Missed(port, Mac(str(said["eth_dst"])), octets)
        if said["eth_type"] == ARP:
            return ArpSent(
                port,
                int(said["arp_op"]),
                Mac(str(said["arp_sha"])),
                IPv4Address(said["arp_spa"]),
                IPv4Address(said["arp_tpa"]),
            )
        if said["eth_type"] == RARP:
            return RarpSent(port, int(said["arp_op"]), Mac(str(said["arp_tha"])))
        target = IPv6Address(said["ipv6_nd_target"])
        if said["icmpv6_type"] == NEIGHBOUR_SOLICITATION:
            return NeighbourSolicited(port, sender, IPv6Address(said["ipv6_src"]), target)
        return NeighbourAdvertised(port, sender, target, IPv6Address(said["ipv6_dst"]))


def _in_flight(rule: Rule) -> bool:
    return rule.purpose in (Purpose.IN_FLIGHT, Purpose.DEPARTED)
