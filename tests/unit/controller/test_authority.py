"""The NVA's decisions, one at a time, over the in-memory fabric."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.authority import Authority, Refused
from controller.dissemination import strategy
from controller.mobility import Phase
from controller.move import MoveRequest
from nve.messages import (
    ARP_REPLY,
    RARP_REQUEST,
    AnswerRarp,
    RarpSent,
    RuleEnded,
)
from nve.rules import Purpose, Rule
from nve.state import Role
from tests.helpers import frames, promises
from tests.helpers.authority import (
    NAMESAKE,
    VM1,
    VM2,
    fabric,
    phase_of,
    pull,
    push,
    redirected,
    rules_of,
    state_of,
)
from tests.helpers.fabric import SECOND_NS, Fabric, Remove
from tests.helpers.tenants import RED, vm, vteps

# -- callers' mistakes -----------------------------------------------------------------------------

ASSOCIATIONS = {
    "unknown NVE": (vm("vm9", 9, "nve9"), 40, "no NVE 'nve9' here; there are nve1, nve2, nve3"),
    "reserved port": (vm("vm9", 9, "nve1"), 1, "port 1 is none; VM ports are 10 to 32511"),
    "no port at all": (vm("vm9", 9, "nve1"), 32512, "port 32512 is none; VM ports are"),
    "port taken": (vm("vm9", 9, "nve1"), 10, "port 10 of nve1 belongs to vm1"),
    "associated": (VM1, 40, "vm1 is associated already; to bring it elsewhere, ask for a move"),
    "name taken": (vm("vm1", 9, "nve1"), 40, "names and MACs are unique"),
    "MAC taken": (vm("vm9", 1, "nve1"), 40, "names and MACs are unique"),
    "IP taken": (replace(vm("vm9", 9, "nve1"), ipv4=VM2.ipv4), 40, "192.168.0.2 in VNI 5000"),
}


@pytest.mark.parametrize(("newcomer", "port", "complaint"), ASSOCIATIONS.values(), ids=ASSOCIATIONS)
def test_an_association_that_cannot_be_is_refused_and_changes_nothing(
    pulling: Fabric, newcomer, port: int, complaint: str
) -> None:
    before = state_of(pulling)

    with pytest.raises(Refused, match=complaint):
        pulling.ask(
            pulling.authority.associate,
            newcomer.name,
            newcomer.tenant_system,
            newcomer.addresses,
            newcomer.nve,
            port,
        )

    assert state_of(pulling) == before


GOOD = MoveRequest("vm1", "nve3", 10, idle_s=2)
REQUESTS = {
    "unknown VM": (replace(GOOD, vm="vm9"), "no VM 'vm9' here; there are vm1, vm2"),
    "unknown NVE": (replace(GOOD, to="nve9"), "no NVE 'nve9' here"),
    "there already": (replace(GOOD, to="nve1"), "vm1 is at nve1 already; name another NVE"),
    "in flight": (replace(GOOD, in_flight="bounce"), "in_flight is 'bounce', not tunnel or drop"),
    "no end": (replace(GOOD, idle_s=0), "say either idle_s or timer_s"),
    "two ends": (replace(GOOD, timer_s=5), "say either idle_s or timer_s"),
    "port taken": (replace(GOOD, to="nve2", port=11), "port 11 of nve2 belongs to vm2"),
    "reserved port": (replace(GOOD, port=9), "port 9 is none"),
}


@pytest.mark.parametrize(("request_", "complaint"), REQUESTS.values(), ids=REQUESTS)
def test_a_move_that_cannot_be_is_refused_and_changes_nothing(
    pulling: Fabric, request_: MoveRequest, complaint: str
) -> None:
    before = state_of(pulling)

    with pytest.raises(Refused, match=complaint):
        pulling.ask(pulling.authority.request_move, request_)

    assert state_of(pulling) == before


def test_a_second_move_of_a_vm_waits_for_the_first(pulling: Fabric) -> None:
    redirected(pulling)

    with pytest.raises(Refused, match=r"still being moved to nve3 \(redirected\); wait until"):
        pulling.request_move("vm1", "nve2")


@pytest.mark.parametrize("nve", ["nve1", "nve3"])
def test_a_move_needs_both_of_its_nves(pulling: Fabric, nve: str) -> None:
    pulling.disconnect(nve)

    with pytest.raises(Refused, match=f"{nve} is not connected to the NVA"):
        pulling.request_move("vm1", "nve3")


def test_a_move_is_told_to_go_on_in_order(pulling: Fabric) -> None:
    move = pulling.request_move("vm1", "nve3")
    before = state_of(pulling)

    for out_of_turn in (pulling.depart, pulling.activate):
        with pytest.raises(Refused, match="move 1 of vm1: a move that is preparing cannot take"):
            out_of_turn(move)
    for number in (0, 2, -1):
        with pytest.raises(Refused, match=f"there is no move number {number}"):
            pulling.ask(pulling.authority.depart, number)

    assert state_of(pulling) == before


def test_only_a_place_that_a_vm_has_left_is_dissociated(pulling: Fabric) -> None:
    for vm_name, nve, complaint in (
        ("vm9", "nve1", "no VM 'vm9' here"),
        ("vm1", "nve9", "no NVE 'nve9' here"),
        ("vm1", "nve2", "vm1 has no port at nve2"),
        ("vm1", "nve1", "vm1 is active at nve1; move it away first"),
    ):
        with pytest.raises(Refused, match=complaint):
            pulling.ask(pulling.authority.dissociate, vm_name, nve)


def test_a_vm_that_may_come_back_keeps_its_place(pulling: Fabric) -> None:
    """A move that is redirected can still be rolled back: the source's port is needed."""
    move = redirected(pulling)

    with pytest.raises(Refused, match="has not arrived anywhere yet and may come back to nve1"):
        pulling.ask(pulling.authority.dissociate, "vm1", "nve1")

    pulling.ask(pulling.authority.cancel, move.number)
    pulling.settle()
    assert promises.unreached(pulling) == []


def test_an_nve_of_somebody_else_is_refused() -> None:
    authority = Authority(vteps(), strategy("push", None))

    with pytest.raises(Refused, match="no NVE 'nve9' here; there are nve1, nve2, nve3"):
        authority.nve_connected("nve9", 0)


# -- a move ----------------------------------------------------------------------------------------


IN_ANY_ORDER = {"move-converged", "move-drained", "in-flight-before-arrival"}
"""A report of counters, and which of old entries and in-flight tunnel is first to be gone."""


@pytest.mark.shows("R3.5", "R4.1.2", "R5.1")
@pytest.mark.parametrize("at", [fabric, push])
def test_a_move_is_recorded_from_request_to_completion(at) -> None:
    """One record for every step, in this order."""
    moving = at()
    pull(moving, "vm2", "vm1")
    moving.move("vm1", "nve3")

    of_the_move = [line.event for line in moving.trace if line.details.get("move") == 1]
    events = [event for event in of_the_move if event not in IN_ANY_ORDER]
    assert events == [
        "move-accepted", "move-prepared", "move-redirecting", "move-redirected",
        "mapping-updated", "move-arrived", "mapping-confirmed", "in-flight-ended",
        "move-completed",
    ]  # fmt: skip
    always = {"move-converged", "in-flight-before-arrival"}
    assert always <= set(of_the_move) - set(events) <= IN_ANY_ORDER


@pytest.mark.shows("R5.2")
def test_the_vm_is_redirected_only_once_the_source_has_confirmed(pulling: Fabric) -> None:
    """The orchestrator may stop the VM only when its packets in flight are cared for."""
    move = pulling.request_move("vm1", "nve3")
    assert phase_of(move) is Phase.PREPARING
    pulling.settle()
    assert phase_of(move) is Phase.PREPARED
    pulling.depart(move)
    assert phase_of(move) is Phase.REDIRECTING
    from_vm2 = frames.ipv4(VM2, VM1.mac)
    in_flight = frames.encapsulated(from_vm2, RED, vteps()["nve2"])
    assert pulling.judge(in_flight, "nve1").ports == (10,)
    pulling.settle()
    assert phase_of(move) is Phase.REDIRECTED
    assert pulling.judge(in_flight, "nve1").tunnels == ((RED, vteps()["nve3"]),)


@pytest.mark.shows("R4.1.4", "R5.4")
@pytest.mark.parametrize("packet", [frames.ipv4, frames.ipv6])
def test_packets_in_flight_are_delivered_at_the_destination(pulling: Fabric, packet) -> None:
    pull(pulling, "vm2", "vm1")
    redirected(pulling)

    frame = frames.entering(packet(VM2, VM1.mac), pulling.port("vm2"))
    assert pulling.deliveries(frame, "nve2") == (("nve3", pulling.port("vm1")),)


@pytest.mark.shows("R4.1.4")
def test_packets_in_flight_are_dropped_at_the_source_where_the_must_is_left_out(
    pulling: Fabric,
) -> None:
    """The other reading: counted as departed, and not one is delivered."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling, how="drop")
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    for _ in ("redirected", "arrived"):
        way = promises.reasons(pulling, frame, "nve2")
        assert pulling.deliveries(frame, "nve2") == ()
        assert way[-1].last is not None
        assert way[-1].last.purpose is Purpose.DEPARTED
        pulling.activate(move)
        pulling.settle()


@pytest.mark.shows("R3.4", "R4.1.3")
def test_with_push_correspondents_are_told_at_once() -> None:
    """Converged before any time-out."""
    pushing = push()
    move = redirected(pushing)
    pushing.activate(move)
    assert phase_of(move) is Phase.ARRIVED
    pushing.settle()

    assert phase_of(move) is Phase.CONVERGED
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pushing.port("vm2"))
    assert pushing.judge(frame, "nve2").tunnels == ((RED, vteps()["nve3"]),)


@pytest.mark.shows("R4.1.3", "R4.1.4")
def test_with_pull_correspondents_keep_their_entry_until_it_times_out(pulling: Fabric) -> None:
    """Until then their frames take the way over the source NVE."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    pulling.activate(move)
    pulling.settle()
    assert phase_of(move) is Phase.ARRIVED
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), pulling.port("vm2"))
    assert pulling.judge(frame, "nve2").tunnels == ((RED, vteps()["nve1"]),)
    assert pulling.deliveries(frame, "nve2") == (("nve3", pulling.port("vm1")),)

    (expiring,) = (rule for nve, rule in pulling.mortal() if nve == "nve2")
    pulling.expire("nve2", expiring)
    pulling.settle()

    assert phase_of(move) is Phase.CONVERGED
    pull(pulling, "vm2", "vm1")
    assert pulling.judge(frame, "nve2").tunnels == ((RED, vteps()["nve3"]),)


@pytest.mark.shows("R5.5")
def test_the_tunnel_may_end_before_the_last_old_entry(pulling: Fabric) -> None:
    """The other order; a correspondent that is silent keeps its entry."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    pulling.activate(move)
    pulling.settle()
    (ending,) = (rule for _, rule in pulling.mortal() if rule.purpose is Purpose.IN_FLIGHT)
    pulling.expire("nve1", ending)
    pulling.settle()
    assert phase_of(move) is Phase.DRAINED

    pulling.expire_all()
    assert phase_of(move) is Phase.COMPLETED


@pytest.mark.shows("R5.5")
def test_what_was_in_flight_is_in_the_trace_twice(pulling: Fabric) -> None:
    """What the tunnel carried until the VM had arrived, and after."""
    pulling.move("vm1", "nve3")

    noted = {line.event: line.details for line in pulling.trace if line.event[:9] == "in-flight"}
    assert noted["in-flight-ended"] == {
        "move": 1, "nve": "nve1", "why": "idle", "purpose": "in-flight",
        "packets": 7, "bytes": 700, "lifetime_ms": 1.0,
    }  # fmt: skip
    assert noted["in-flight-before-arrival"] == {
        "move": 1, "nve": "nve1", "packets": 7, "bytes": 700,
    }  # fmt: skip


def in_flight_rules(at: Fabric) -> list[Rule]:
    """Of vm1 at its source, the one that decides last."""
    rules = [rule for rule in at.nves["nve1"].rules.values() if rule.purpose is Purpose.IN_FLIGHT]
    return sorted(rules, key=lambda rule: rule.mortal)


def take_away(at: Fabric, rule: Rule) -> None:
    """Somebody removes it at the NVE by hand."""
    at.nves["nve1"].carry_out(Remove(rule))
    at.settle()


@pytest.mark.shows("R4.1.4")
@pytest.mark.parametrize("when", ["before the arrival", "after it"])
@pytest.mark.parametrize("which", [0, -1], ids=["the one below", "the one that decides"])
def test_a_rule_for_packets_in_flight_that_somebody_removes_is_told_again(
    pulling: Fabric, when: str, which: int
) -> None:
    """Twice; and the move ends as any other, with all that was counted."""
    pull(pulling, "vm2", "vm1")
    move = redirected(pulling)
    if when == "after it":
        pulling.activate(move)
        pulling.settle()
    before = in_flight_rules(pulling)
    for _ in range(2):
        take_away(pulling, in_flight_rules(pulling)[which])
        assert in_flight_rules(pulling) == before

    if when == "before the arrival":
        pulling.activate(move)
        pulling.settle()
    pulling.expire_all()
    assert phase_of(move) is Phase.COMPLETED
    counted = [line for line in pulling.trace if line.event.startswith("in-flight")]
    assert [line.event for line in counted].count("in-flight-taken-away") == 2
    assert sum(int(str(line.details["packets"])) for line in counted) == 4 * 7
    assert in_flight_rules(pulling) == []


@pytest.mark.shows("R3.5")
def test_a_rule_that_we_remove_is_not_told_again(
    pulling: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open vSwitch reports it late: here, when the same rule stands there for another move."""
    first = redirected(pulling)
    pulling.activate(first)
    pulling.settle()
    late: list[RuleEnded] = []
    held = pulling.nves["nve1"]

    def say_later(rule: Rule, why: str) -> None:
        if rule.purpose is Purpose.IN_FLIGHT:
            late.append(RuleEnded(rule.cookie, why, 7, 700, 1.0))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(held, "_say", say_later)
        back = redirected(pulling, to="nve1")
        pulling.activate(back)
        pulling.settle()
        pulling.activate(redirected(pulling))
        pulling.settle()
    assert [report.why for report in late] == ["told", "told"]
    before = in_flight_rules(pulling)
    held.up.extend(late)
    pulling.settle()

    assert in_flight_rules(pulling) == before
    events = [line.event for line in pulling.trace]
    assert "in-flight-taken-away" not in events
    assert phase_of(first) is Phase.COMPLETED


@pytest.mark.shows("R4.1.2", "R4.1.5", "R4.1.6", "R8.1")
@pytest.mark.parametrize(
    "frame",
    [
        frames.arp(VM1, VM1.ipv4),
        frames.arp(VM1, VM1.ipv4, arp_op=ARP_REPLY),
        frames.rarp(VM1),
        frames.advertisement(VM1),
        frames.advertisement(VM1, ipv6_dst="ff02::1:ff00:1"),
    ],
    ids=["garp", "garp-reply", "rarp", "na", "na-solicited"],
)
def test_an_announcement_at_the_destination_moves_the_binding(pulling: Fabric, frame) -> None:
    """It takes no more of the VM than this."""
    move = redirected(pulling)
    pulling.where["vm1"] = "nve3"
    pulling.send("vm1", frame)
    pulling.settle()

    binding = pulling.authority.directory.find(VM1.tenant_system)
    assert binding is not None
    assert (binding.nve, binding.sequence) == ("nve3", 2)
    assert phase_of(move) in (Phase.ARRIVED, Phase.CONVERGED)


def told(at: Fabric) -> list[tuple[str, IPv4Address]]:
    """Which VMs' addresses were told, and where."""
    return [(each.nve, each.address) for each in at.answered if isinstance(each, AnswerRarp)]


@pytest.mark.shows("R4.1.5")
def test_a_reverse_arp_is_answered_where_it_was_asked(pulling: Fabric) -> None:
    pulling.send("vm1", frames.rarp(VM1))
    pulling.settle()

    asked = RarpSent(pulling.port("vm1"), RARP_REQUEST, VM1.mac)
    assert pulling.answered == [AnswerRarp("nve1", asked, VM1.ipv4)]
    assert pulling.events("vm1")[-2:] == ["announcement-received", "rarp-answered"]


@pytest.mark.shows("R4.1.5")
def test_at_the_destination_the_question_is_the_announcement_as_well(pulling: Fabric) -> None:
    redirected(pulling)
    pulling.where["vm1"] = "nve3"
    pulling.send("vm1", frames.rarp(VM1))
    pulling.settle()

    binding = pulling.authority.directory.find(VM1.tenant_system)
    assert binding is not None
    assert binding.nve == "nve3"
    assert told(pulling) == [("nve3", VM1.ipv4)]


@pytest.mark.shows("R4.1.5", "R4.1.8")
def test_namesakes_are_told_the_addresses_of_their_own_networks() -> None:
    far = replace(NAMESAKE, ipv4=IPv4Address("192.168.7.7"))
    apart = Fabric(vteps(), strategy("push", None))
    for each in (VM1, far):
        apart.associate(each)
    apart.settle()
    for each in (VM1, far):
        apart.send(each.name, frames.rarp(each))
        apart.settle()

    assert VM1.mac == far.mac
    assert told(apart) == [("nve1", VM1.ipv4), ("nve2", far.ipv4)]


def test_announcing_twice_and_activating_as_well_changes_nothing_more(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.where["vm1"] = "nve3"
    for _ in range(2):
        pulling.send("vm1", frames.arp(VM1, VM1.ipv4))
        pulling.send("vm1", frames.advertisement(VM1))
    pulling.settle()
    pulling.activate(move)
    pulling.settle()

    assert pulling.events("vm1").count("mapping-updated") == 1
    assert pulling.events("vm1").count("announcement-received") == 4
    assert pulling.refused() == {}


def test_an_announcement_before_its_time_is_counted(pulling: Fabric) -> None:
    """Somebody sends out of the destination's port while the VM still runs at the source."""
    move = pulling.request_move("vm1", "nve3")
    pulling.settle()
    pulling.send_from("nve3", pulling.port("vm1"), frames.arp(VM1, VM1.ipv4))
    pulling.settle()

    assert phase_of(move) is Phase.PREPARED
    assert pulling.refused() == {"early-announcement": 1}


def test_an_announcement_where_the_vm_is_anyway_is_only_recorded(pulling: Fabric) -> None:
    before = state_of(pulling)
    pulling.send("vm1", frames.arp(VM1, VM1.ipv4))
    pulling.settle()

    assert state_of(pulling) == before
    assert pulling.events("vm1")[-1] == "announcement-received"


def test_a_move_back_finds_its_old_place(pulling: Fabric) -> None:
    pulling.move("vm1", "nve3")
    pulling.move("vm1", "nve1")
    pulling.expire_all()

    assert promises.disagreeing(pulling) == []
    assert promises.unreached(pulling) == []
    assert promises.strayed(pulling, pulling.vms.values()) == []


@pytest.mark.shows("R4.1.8")
def test_the_namesake_in_the_other_network_notices_nothing(pulling: Fabric) -> None:
    before = promises.about(pulling, "nve2", NAMESAKE)
    pulling.move("vm1", "nve2")

    assert promises.about(pulling, "nve2", NAMESAKE) == before
    assert pulling.where["blue"] == "nve2"
    assert promises.strayed(pulling, pulling.vms.values()) == []


# -- giving up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PREPARED, Phase.REDIRECTED])
@pytest.mark.parametrize("at", [fabric, push])
def test_a_move_that_is_given_up_was_never_asked(at, phase: Phase) -> None:
    giving_up = at()
    pull(giving_up, "vm2", "vm1")
    before = rules_of(giving_up)
    move = giving_up.request_move("vm1", "nve3")
    if phase is not Phase.PREPARING:
        giving_up.settle()
    if phase is Phase.REDIRECTED:
        giving_up.depart(move)
        giving_up.settle()
    assert phase_of(move) is phase

    giving_up.ask(giving_up.authority.cancel, move.number)
    giving_up.settle()

    assert phase_of(move) is Phase.ROLLED_BACK
    assert rules_of(giving_up) == before
    assert promises.disagreeing(giving_up) == []


def test_after_arrival_a_move_cannot_be_given_up(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.activate(move)

    with pytest.raises(Refused, match="cannot take the event cancelled"):
        pulling.ask(pulling.authority.cancel, move.number)


@pytest.mark.parametrize(("passed_s", "phase"), [(60, Phase.REDIRECTED), (61, Phase.ROLLED_BACK)])
def test_a_move_over_its_deadline_is_rolled_back(
    pulling: Fabric, passed_s: int, phase: Phase
) -> None:
    move = redirected(pulling)
    pulling.now_ns += passed_s * SECOND_NS
    pulling.ask(pulling.authority.tick)
    pulling.settle()

    assert phase_of(move) is phase
    role = pulling.authority.book.state("nve1").attachments[VM1.tenant_system].role
    assert role is (Role.ACTIVE if phase is Phase.ROLLED_BACK else Role.DEPARTING)


def test_after_arrival_the_deadline_is_of_no_concern(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.activate(move)
    pulling.now_ns += 1000 * SECOND_NS
    pulling.ask(pulling.authority.tick)

    assert phase_of(move) is Phase.ARRIVED


@pytest.mark.shows("R3.4")
def test_an_nve_that_its_last_vm_has_left_holds_no_entry_that_could_grow_old() -> None:
    """With push: nobody tells it any more, so a later move would wait for it in vain."""
    pushing = Fabric(vteps(), strategy("push", None))
    for each in (VM1, VM2):
        pushing.associate(each)
    pushing.settle()

    assert pushing.move("vm1", "nve2").phase is Phase.COMPLETED
    assert pushing.move("vm2", "nve3").phase is Phase.COMPLETED
    assert promises.about(pushing, "nve1", VM2) == set()


@pytest.mark.shows("R3.4")
def test_a_move_that_was_given_up_leaves_no_entry_that_could_grow_old() -> None:
    """With push: the destination had learned the network's VMs for a VM that never came."""
    pushing = push()
    move = pushing.request_move("vm1", "nve3")
    pushing.settle()
    assert promises.about(pushing, "nve3", VM2) != set()
    pushing.ask(pushing.authority.cancel, move.number)
    pushing.settle()

    assert promises.about(pushing, "nve3", VM2) == set()
    assert pushing.move("vm2", "nve1").phase is Phase.COMPLETED


# -- connections that break ------------------------------------------------------------------------


def test_an_nve_that_was_away_during_a_move_holds_the_new_rules_when_it_is_back() -> None:
    pushing = push()
    pushing.disconnect("nve2")
    move = redirected(pushing)
    pushing.activate(move)
    pushing.settle()
    assert promises.disagreeing(pushing) != []

    pushing.connect("nve2")
    pushing.settle()

    assert promises.disagreeing(pushing) == []
    assert promises.unreached(pushing) == []


def test_a_confirmation_that_was_lost_comes_with_the_next_connection(pulling: Fabric) -> None:
    move = pulling.request_move("vm1", "nve3")
    pulling.disconnect("nve3")
    pulling.settle()
    assert phase_of(move) is Phase.PREPARING

    pulling.connect("nve3")
    pulling.settle()

    assert phase_of(move) is Phase.PREPARED


@pytest.mark.shows("R3.4")
def test_a_move_does_not_converge_while_an_nve_out_of_reach_holds_an_old_entry() -> None:
    """After convergence not one packet crosses the source NVE."""
    pushing = push()
    pushing.disconnect("nve2")
    move = redirected(pushing)
    pushing.activate(move)
    pushing.settle()

    assert phase_of(move) is Phase.ARRIVED
