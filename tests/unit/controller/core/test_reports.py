"""What the NVA makes of its NVEs' reports, one at a time, over the in-memory fabric."""

import pytest

from controller.core.move import InFlight
from nve.messages import AnswerArp, AnswerSolicitation, Malformed, Missed, RarpSent, RuleEnded
from nve.model import BROADCAST, Mac
from nve.pipeline.rules import Output, Purpose, Tunnel, Way
from nve.wire.frames import ARP_REPLY, ICMPV6, NEIGHBOUR_SOLICITATION
from tests.helpers import frames, promises
from tests.helpers.authority import (
    GHOST,
    NAMESAKE,
    VM1,
    VM2,
    VM3,
    pull,
    push,
    redirected,
    state_of,
)
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.fake_nve import Remove
from tests.helpers.tenants import RED, vteps

# -- finding each other ----------------------------------------------------------------------------


@pytest.mark.shows("R4.1.3", "R4.1.8")
def test_arp_is_answered_by_the_nva_alone(pulling: Fabric) -> None:
    """The namesake in the other network asks for the same address and finds nobody."""
    pulling.send("vm1", frames.arp(VM1, VM2.ipv4))
    pulling.send("blue", frames.arp(NAMESAKE, VM2.ipv4))
    pulling.settle()

    (answer,) = pulling.answered
    assert isinstance(answer, AnswerArp)
    assert (answer.nve, answer.request.port, answer.mac) == ("nve1", 10, VM2.mac)
    assert pulling.refused() == {"nobody-has": 1}


def test_neighbour_solicitations_are_answered_by_the_nva_alone(pulling: Fabric) -> None:
    """Multicast is not needed to find a neighbour."""
    solicitation = frames.ipv6(
        VM1,
        Mac("33:33:ff:00:00:02"),
        ip_proto=ICMPV6,
        icmpv6_type=NEIGHBOUR_SOLICITATION,
        ipv6_nd_target=str(VM2.ipv6),
    )
    pulling.send("vm1", solicitation)
    pulling.settle()

    (answer,) = pulling.answered
    assert isinstance(answer, AnswerSolicitation)
    assert (answer.nve, answer.mac) == ("nve1", VM2.mac)


def test_a_vm_that_checks_its_own_address_hears_nothing(pulling: Fabric) -> None:
    """RFC 5227 probe, RFC 4862 duplicate address detection: an answer would mean a duplicate."""
    pulling.send("vm1", frames.arp(VM1, VM1.ipv4, arp_spa="0.0.0.0"))
    detection = frames.ipv6(
        VM1, BROADCAST, ipv6_src="::", ip_proto=ICMPV6, icmpv6_type=NEIGHBOUR_SOLICITATION
    )
    pulling.send("vm1", {**detection, "ipv6_nd_target": str(VM1.ipv6)})
    pulling.settle()

    assert pulling.answered == []


def test_a_vm_that_checks_an_address_of_another_is_told(pulling: Fabric) -> None:
    pulling.send("vm1", frames.arp(VM1, VM2.ipv4, arp_spa="0.0.0.0"))
    pulling.settle()

    (answer,) = pulling.answered
    assert isinstance(answer, AnswerArp)
    assert answer.mac == VM2.mac


@pytest.mark.shows("R4.1.3")
def test_a_miss_pulls_an_entry_and_sends_the_frame_on(pulling: Fabric) -> None:
    assert pulling.send("vm1", frames.ipv4(VM1, VM2.mac)).reported
    pulling.settle()

    (again,) = pulling.emitted
    assert (again.nve, again.way) == ("nve1", Tunnel(RED, vteps()["nve2"]))
    (entry,) = promises.about(pulling, "nve1", VM2)
    assert (entry.purpose, entry.hard_s) == (Purpose.FORWARD, 2)
    assert "entry-pulled" in pulling.events("vm2")


def test_frames_that_miss_before_the_entry_is_there_are_all_sent_on(pulling: Fabric) -> None:
    for _ in range(3):
        pulling.send("vm1", frames.ipv4(VM1, VM2.mac))
    pulling.settle()

    assert [each.way for each in pulling.emitted] == [Tunnel(RED, vteps()["nve2"])] * 3
    assert pulling.events().count("entry-pulled") == 1


def test_a_rule_that_somebody_else_has_removed_is_told_again() -> None:
    """The frame that finds it gone is sent on, once, and past the tables."""
    pushing = push()
    (entry,) = promises.about(pushing, "nve1", VM2)
    pushing.nves["nve1"].carry_out(Remove(entry))
    pushing.send("vm1", frames.ipv4(VM1, VM2.mac))
    pushing.settle()

    assert [each.way for each in pushing.emitted] == [Tunnel(RED, vteps()["nve2"])]
    assert promises.about(pushing, "nve1", VM2) == {entry}
    assert pushing.events("vm2")[-1] == "entry-told-again"


def test_a_miss_that_was_on_its_way_tells_nothing_again(pulling: Fabric) -> None:
    """It is reported behind the confirmation of the entry that it has led to."""
    pulling.send("vm1", frames.ipv4(VM1, VM2.mac))
    pulling.settle()
    late = Missed(pulling.port("vm1"), VM2.mac, b"frame")
    pulling.now_ns += SECOND_NS // 2
    pulling.ask(pulling.authority.reported, "nve1", late)
    pulling.settle()
    assert "entry-told-again" not in pulling.events("vm2")

    pulling.now_ns += SECOND_NS
    pulling.ask(pulling.authority.reported, "nve1", late)
    pulling.settle()
    assert pulling.events("vm2")[-1] == "entry-told-again"


@pytest.mark.shows("R4.1.3")
def test_a_miss_after_the_lifetime_pulls_though_the_end_was_not_reported_yet(
    pulling: Fabric,
) -> None:
    """A switch may report the miss before it reports that the entry has expired."""
    pulling.send("vm1", frames.ipv4(VM1, VM2.mac))
    pulling.settle()
    pulling.now_ns += 2 * SECOND_NS
    pulling.ask(pulling.authority.reported, "nve1", Missed(pulling.port("vm1"), VM2.mac, b"frame"))
    pulling.settle()

    assert pulling.events("vm2").count("entry-pulled") == 2
    assert "entry-told-again" not in pulling.events("vm2")


@pytest.mark.parametrize("how", ["tunnel", "drop"])
def test_a_frame_that_misses_goes_where_its_vm_is(how: InFlight) -> None:
    """Reported before the rule for it was there: by now the VM is here, leaving, or gone."""
    pushing = push()
    late = Missed(pushing.port("vm3"), VM1.mac, b"frame")
    onward = [Tunnel(RED, vteps()["nve3"])]

    def ways() -> list[Way]:
        pushing.emitted.clear()
        pushing.ask(pushing.authority.reported, "nve1", late)
        pushing.settle()
        return [each.way for each in pushing.emitted]

    assert ways() == [Output(pushing.port("vm1"))]
    move = redirected(pushing, how=how)
    assert ways() == (onward if how == "tunnel" else [])
    pushing.activate(move)
    pushing.settle()
    assert ways() == onward


def test_a_frame_to_nobody_is_counted_and_not_sent_again(pulling: Fabric) -> None:
    pulling.send("vm1", frames.ipv4(VM1, GHOST))
    pulling.settle()

    assert pulling.emitted == []
    assert pulling.authority.counted == {("nve1", 10, "unknown-destination"): 1}


@pytest.mark.shows("R4.1.3")
def test_an_entry_that_has_expired_is_pulled_again(pulling: Fabric) -> None:
    """The NVE keeps an entry until it times out, and then asks."""
    pull(pulling, "vm1", "vm2")
    pulling.expire_all()
    assert promises.about(pulling, "nve1", VM2) == set()

    pull(pulling, "vm1", "vm2")

    assert pulling.events("vm2").count("entry-pulled") == 2
    assert pulling.events("vm2").count("entry-expired") == 1


@pytest.mark.shows("R4.1.3")
def test_with_push_everybody_in_the_network_knows_from_the_start() -> None:
    """But nve3 has no VM of the network and learns nothing."""
    pushing = push()

    assert not pushing.send("vm1", frames.ipv4(VM1, VM2.mac)).reported
    assert promises.about(pushing, "nve3", VM1) == set()


def test_entries_with_a_lifetime_can_all_be_taken_back(pulling: Fabric) -> None:
    pull(pulling, "vm1", "vm2")
    pulling.ask(pulling.authority.forget_entries)
    pulling.settle()

    assert pulling.has_timeout() == []
    assert promises.disagreeing(pulling) == []


def test_entries_without_a_lifetime_are_not_taken_back() -> None:
    pushing = push()
    before = state_of(pushing)
    pushing.ask(pushing.authority.forget_entries)

    assert state_of(pushing) == before


# -- peers' mistakes (R9.2) ------------------------------------------------------------------------

FORGED = {
    "garp of another MAC": frames.arp(VM3, VM3.ipv4, arp_sha=VM2.mac),
    "garp of another IP": frames.arp(VM3, VM2.ipv4, arp_spa=str(VM2.ipv4)),
    "garp of vm2": frames.arp(VM2, VM2.ipv4),
    "garp-reply of another MAC": frames.arp(VM3, VM3.ipv4, arp_op=ARP_REPLY, arp_sha=VM2.mac),
    "garp-reply of vm2": frames.arp(VM2, VM2.ipv4, arp_op=ARP_REPLY),
    "rarp of vm2": frames.rarp(VM2),
    "na of vm2": frames.advertisement(VM2),
    "na-solicited of vm2": frames.advertisement(VM2, ipv6_dst="ff02::1:ff00:2"),
    "na of another target": frames.advertisement(VM3, ipv6_nd_target=str(VM2.ipv6)),
    "na of another MAC": frames.advertisement(VM3, eth_src=VM2.mac),
}


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize("frame", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("guarded", [True, False])
def test_a_forged_announcement_changes_no_binding_and_is_counted(
    pulling: Fabric, frame, guarded: bool
) -> None:
    """vm3's port forges, while vm2 is being moved to its NVE, the worst moment.

    The NVE's guard drops it already; the NVA does not rely on that.
    """
    redirected(pulling, "vm2", "nve1")
    forger = pulling.port("vm3")
    before = state_of(pulling)
    if guarded:
        verdict = pulling.send_from("nve1", forger, frame)
        assert verdict.last is not None
        assert verdict.last.purpose is Purpose.SPOOFED
        assert verdict.dropped
    else:
        report = pulling._report(frames.entering(frame, forger), next(iter(_reporting(pulling))))
        pulling.ask(pulling.authority.reported, "nve1", report)
        assert pulling.refused() == {"forged": 1}

    assert state_of(pulling) == before


def _reporting(at: Fabric):
    return (rule for rule in at.nves["nve1"].holds() if rule.purpose is Purpose.REPORT)


@pytest.mark.shows("R9.2")
def test_a_reverse_arp_for_another_mac_is_counted(pulling: Fabric) -> None:
    """The guard looks at the sender's MAC, the NVA at the one that is asked for."""
    redirected(pulling, "vm2", "nve1")
    before = list(pulling.authority.directory)
    pulling.send_from("nve1", pulling.port("vm3"), frames.rarp(VM3, arp_tha=VM2.mac))
    pulling.settle()

    assert list(pulling.authority.directory) == before
    assert pulling.answered == []
    assert pulling.refused() == {"forged": 1}


@pytest.mark.parametrize(
    ("report", "what"),
    [
        (RarpSent(77, 3, VM1.mac), "unknown-port"),
        (Malformed(10, "too short"), "malformed"),
    ],
)
def test_a_report_that_makes_no_sense_is_counted(pulling: Fabric, report, what: str) -> None:
    before = state_of(pulling)
    pulling.ask(pulling.authority.reported, "nve1", report)

    assert pulling.authority.counted == {("nve1", report.port, what): 1}
    assert state_of(pulling) == before


@pytest.mark.parametrize("why", ["idle", "timer", "told"])
def test_a_report_about_a_rule_that_nobody_wants_is_nothing(pulling: Fabric, why: str) -> None:
    before = state_of(pulling)
    ended = RuleEnded(cookie=4711, why=why, packets=0, octets=0, lifetime_ms=0.0)
    pulling.ask(pulling.authority.reported, "nve1", ended)

    assert state_of(pulling) == before


def test_a_refused_instruction_is_in_the_trace(pulling: Fabric) -> None:
    pulling.ask(pulling.authority.refused_by, "nve1", 5, 1)

    assert pulling.trace[-1].event == "instruction-refused"
    assert pulling.trace[-1].details == {"type": 5, "code": 1}
