"""What an NVE does with frames that a tunnel does not carry, judged by its compiled rules."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from nve.model import BROADCAST, VmSpec
from nve.pipeline.compiler import compile_nve
from nve.pipeline.evaluator import Frame, PacketVerdict, evaluate
from nve.pipeline.mtu_check import REPORTED_OCTETS
from nve.pipeline.rules import Aim, CheckLarger, PipelineTable, Purpose, ReportAction, Rule
from nve.pipeline.state import Association, AssociationRole, NveState, Redirect, RemoteEntry
from tests.helpers import frames
from tests.helpers.frames import encapsulated, entering
from tests.helpers.tenants import BLUE, RED, vm

HERE, WIDE, NARROW = (IPv4Address("10.1.0.0") + number for number in (1, 2, 3))
VM1, NEAR, FAR, GONE = (vm(f"vm{n}", n, "nve1") for n in (1, 2, 3, 4))
OTHER = vm("blue", 1, "nve1", BLUE)
WIDE_MTU, NARROW_MTU = 1450, 1350


def attached(of: VmSpec, port: int) -> Association:
    return Association(of.tenant_system, of.addresses, port, AssociationRole.ACTIVE)


STATE = NveState(
    vtep=HERE,
    peers=frozenset({WIDE, NARROW}),
    associations={VM1.tenant_system: attached(VM1, 10), OTHER.tenant_system: attached(OTHER, 11)},
    remotes={NEAR.tenant_system: RemoteEntry(WIDE), FAR.tenant_system: RemoteEntry(NARROW, 5)},
    redirects={GONE.tenant_system: Redirect(NARROW)},
    flooded={RED: frozenset({WIDE, NARROW})},
    tunnel_mtus={WIDE: WIDE_MTU, NARROW: NARROW_MTU},
    vm_mtus={RED: 1450, BLUE: 1300},
)


def sent(octets: int, to: VmSpec = FAR, state: NveState = STATE) -> PacketVerdict:
    frame: Frame = {**frames.ipv4(VM1, to.mac), "length": octets}
    return evaluate(compile_nve(state), entering(frame, 10))


def in_flight(octets: int, to: VmSpec = GONE) -> PacketVerdict:
    frame: Frame = {**frames.ipv4(NEAR, to.mac), "length": octets}
    return evaluate(compile_nve(STATE), encapsulated(frame, RED, WIDE))


def purpose(verdict: PacketVerdict) -> Purpose | None:
    return verdict.last.purpose if verdict.last else None


@pytest.mark.shows("R5.3")
def test_what_just_fits_is_tunnelled_and_an_octet_more_is_reported() -> None:
    assert sent(NARROW_MTU).tunnels == ((RED, NARROW),)
    assert not sent(NARROW_MTU).reported

    assert sent(NARROW_MTU + 1).tunnels == ()
    assert sent(NARROW_MTU + 1).reported
    assert purpose(sent(NARROW_MTU + 1)) is Purpose.TOO_BIG


@pytest.mark.shows("R5.3")
def test_what_is_too_big_for_one_tunnel_fits_into_another() -> None:
    assert sent(1450, to=NEAR).tunnels == ((RED, WIDE),)


@pytest.mark.shows("R5.3", "R4.1.4")
def test_a_packet_in_flight_fits_or_is_reported() -> None:
    assert in_flight(NARROW_MTU).tunnels == ((RED, NARROW),)
    assert in_flight(NARROW_MTU + 1).tunnels == ()
    assert in_flight(NARROW_MTU + 1).reported


def test_a_neighbours_packet_to_a_vm_that_left_fits_or_is_reported() -> None:
    assert sent(NARROW_MTU, to=GONE).tunnels == ((RED, NARROW),)
    assert sent(NARROW_MTU + 1, to=GONE).reported


def test_a_frame_to_a_group_goes_where_it_fits_and_is_reported() -> None:
    frame: Frame = {**frames.ipv4(VM1, BROADCAST), "length": NARROW_MTU + 1}
    verdict = evaluate(compile_nve(STATE), entering(frame, 10))

    assert set(verdict.tunnels) == {(RED, WIDE), (RED, NARROW)}
    assert verdict.reported
    fits: Frame = {**frame, "length": NARROW_MTU}
    assert purpose(evaluate(compile_nve(STATE), entering(fits, 10))) is Purpose.FLOOD


def checks(state: NveState) -> list[Rule]:
    return [
        rule
        for rule in compile_nve(state)
        if rule.table is PipelineTable.FIT
        or any(isinstance(action, CheckLarger | Aim) for action in rule.actions)
    ]


@pytest.mark.parametrize(
    "ordinary",
    [
        {"vm_mtus": {RED: NARROW_MTU, BLUE: NARROW_MTU}},
        {"vm_mtus": {}},
        {"tunnel_mtus": {}},
    ],
)
def test_where_every_packet_fits_there_is_nothing_to_check(ordinary: Any) -> None:
    assert checks(STATE)
    assert checks(replace(STATE, **ordinary)) == []


def test_a_network_of_modest_vms_is_not_checked_beside_another_that_is() -> None:
    assert not any(("metadata", BLUE) in rule.match for rule in checks(STATE))
    assert not any(rule.about == OTHER.tenant_system for rule in checks(STATE))


def test_an_entry_keeps_its_lifetime_when_it_is_checked() -> None:
    checked, plain = (
        next(rule for rule in compile_nve(state) if rule.about == FAR.tenant_system)
        for state in (STATE, replace(STATE, vm_mtus={}))
    )

    assert (checked.key, checked.cookie, checked.hard_s) == (plain.key, plain.cookie, 5)
    assert checked.actions != plain.actions


def test_no_more_of_a_frame_is_reported_than_an_answer_quotes() -> None:
    reports = {
        action.octets
        for rule in compile_nve(STATE)
        if rule.purpose is Purpose.TOO_BIG
        for action in rule.actions
        if isinstance(action, ReportAction)
    }
    assert reports == {REPORTED_OCTETS}


def test_reports_of_big_frames_are_metered_by_port() -> None:
    too_big = [rule for rule in compile_nve(STATE) if rule.purpose is Purpose.TOO_BIG]

    assert {dict(rule.match)["in_port"] for rule in too_big} == {1, 10}
    assert all(rule.meters for rule in too_big)
