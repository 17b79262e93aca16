"""How much a VM may have its NVE tell the NVA."""

from ipaddress import IPv4Address

import pytest

from nve.pipeline.compiler import compile_nve
from nve.pipeline.limits import Limits, metered
from nve.pipeline.rules import FIRST_VM_PORT, LAST_VM_PORT, Meter, Purpose, ReportAction, Rule
from nve.pipeline.state import Association, AssociationRole, NveState
from tests.helpers.tenants import vm

LIMITS = Limits(report_rate_pps=10, report_burst=20, miss_rate_pps=30, miss_burst=40)
VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1")


def reporting(role: AssociationRole = AssociationRole.ACTIVE) -> list[Rule]:
    """The rules by which the VMs of an NVE reach the NVA."""
    associations = {
        each.tenant_system: Association(each.tenant_system, each.addresses, port, role)
        for each, port in ((VM1, 10), (VM2, 11))
    }
    state = NveState(IPv4Address("10.1.0.1"), associations=associations, limits=LIMITS)
    return [
        rule
        for rule in compile_nve(state)
        if rule.about and any(isinstance(action, ReportAction) for action in rule.actions)
    ]


@pytest.mark.shows("R4.1.8")
@pytest.mark.parametrize(
    "role", [role for role in AssociationRole if role is not AssociationRole.SUSPENDED]
)
def test_whatever_a_vm_makes_its_nve_report_goes_through_a_meter_of_its_own_port(
    role: AssociationRole,
) -> None:
    """So no VM can spend what is another's."""
    found = reporting(role)

    assert {rule.purpose for rule in found} == {Purpose.REPORT, Purpose.MISS}
    for rule in found:
        (meter,) = rule.meters
        assert metered(meter.number)[0] == dict(rule.match)["in_port"]


def test_a_vm_that_must_not_run_makes_its_nve_report_nothing() -> None:
    assert reporting(AssociationRole.SUSPENDED) == []


def test_reports_and_misses_do_not_share_a_meter() -> None:
    """Packets that wait for an answer must not be what keeps a VM from asking."""
    of_vm1 = [rule for rule in reporting() if dict(rule.match)["in_port"] == 10]

    assert {(rule.purpose, *rule.meters) for rule in of_vm1} == {
        (Purpose.REPORT, Meter(20, rate_pps=10, burst=20)),
        (Purpose.MISS, Meter(21, rate_pps=30, burst=40)),
    }


@pytest.mark.parametrize("port", [FIRST_VM_PORT, FIRST_VM_PORT + 1, LAST_VM_PORT])
def test_a_meter_says_whose_it_is(port: int) -> None:
    assert metered(LIMITS.reports(port).number) == (port, "rate-limited-report")
    assert metered(LIMITS.misses(port).number) == (port, "rate-limited-miss")


def test_a_rule_shows_its_limit() -> None:
    assert str(ReportAction(meter=LIMITS.reports(10))) == "report to the NVA, 10 a second"
    assert str(ReportAction()) == "report to the NVA"
