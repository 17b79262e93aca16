"""What NVEs have dropped: a count never falls, and says whose it is."""

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from controller.core.dissemination import strategy
from controller.core.drops import COUNTED, Drops, Reason
from nve.pipeline.compiler import compile_nve
from nve.pipeline.rules import Purpose, Rule
from nve.pipeline.state import Association, AssociationRole, NveState
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import vm, vteps

VM1 = vm("vm1", 1, "nve1")
PORT = 10
SPOOFED = Reason("nve1", PORT, None, "spoofed")


def rules(peer: str = "10.1.0.2") -> list[Rule]:
    peers = frozenset({IPv6Address(peer) if ":" in peer else IPv4Address(peer)})
    here = Association(VM1.tenant_system, VM1.addresses, PORT, AssociationRole.ACTIVE)
    state = NveState(IPv4Address("10.1.0.1"), peers, {VM1.tenant_system: here})
    return sorted(compile_nve(state), key=lambda rule: rule.cookie)


def of(purpose: Purpose, among: list[Rule]) -> list[Rule]:
    return [rule for rule in among if rule.purpose is purpose]


def total(drops: Drops, *standing: tuple[Rule, int]) -> dict[Reason, int]:
    return dict(drops.total({"nve1": standing}, {}))


@pytest.mark.shows("R9.2", "R9.4")
def test_what_a_port_dropped_outlives_the_port() -> None:
    drops = Drops()
    drops.watch("nve1", rules())
    anything, advertisements, *_ = of(Purpose.SPOOFED, rules())

    assert total(drops, (anything, 5), (advertisements, 2)) == {SPOOFED: 7}
    assert drops.rule_ended("nve1", anything.cookie, 6)
    assert drops.rule_ended("nve1", advertisements.cookie, 2)
    assert total(drops) == {SPOOFED: 8}
    assert drops.system(SPOOFED) == VM1.tenant_system

    # And the port comes again, with rules that begin at nothing.
    drops.watch("nve1", rules())
    assert total(drops, (anything, 1)) == {SPOOFED: 9}


def test_a_rule_that_forwards_is_none_of_these() -> None:
    drops = Drops()
    drops.watch("nve1", rules())
    (deliver, *_) = of(Purpose.DELIVER, rules())

    assert not drops.rule_ended("nve1", deliver.cookie, 1000)
    assert total(drops, (deliver, 1000)) == {}


def test_the_same_rule_of_another_nve_is_another() -> None:
    drops = Drops()
    drops.watch("nve1", rules())
    rule, *_ = of(Purpose.SPOOFED, rules())

    assert not drops.rule_ended("nve2", rule.cookie, 1)


@pytest.mark.shows("R9.1", "R9.3")
@pytest.mark.parametrize("peer", ["10.1.0.2", "fd00::2"])
def test_what_came_out_of_a_tunnel_is_counted_by_its_source(peer: str) -> None:
    found = rules(peer)
    counted = [(rule, 1) for rule in found if rule.purpose in COUNTED]
    whose = {
        (reason.what, reason.port, reason.tunnel_source) for reason in total(Drops(), *counted)
    }

    assert whose == {
        ("spoofed", PORT, None),
        ("vlan-tagged", PORT, None),
        ("vlan-tagged", None, None),
        ("unknown-vni", None, peer),
        ("unknown-destination", None, peer),
        ("unknown-vtep", None, None),
        ("unknown-port", None, None),
    }


def test_a_meter_counts_for_its_port_also_when_it_is_gone() -> None:
    drops = Drops()
    drops.meter_ended("nve1", 2 * PORT, 3)
    standing = {"nve1": [(2 * PORT, 4), (2 * PORT + 1, 5)]}

    assert dict(drops.total({}, standing)) == {
        Reason("nve1", PORT, None, "rate-limited-report"): 7,
        Reason("nve1", PORT, None, "rate-limited-miss"): 5,
    }


def test_what_was_never_dropped_has_no_row() -> None:
    assert list(Drops().total({"nve1": [(rule, 0) for rule in rules()]}, {"nve1": [(20, 0)]})) == []


def test_a_port_that_goes_leaves_its_counts_with_the_nva() -> None:
    """Fake switches say 7 packets for every rule that reports its end."""
    fabric = Fabric(vteps(), strategy("push", None))
    fabric.associate(VM1)
    fabric.settle()
    fabric.move("vm1", "nve3")
    gone = dict(fabric.authority.violations.drops.total({}, {}))

    watched = [rule for rule in rules() if rule.purpose in COUNTED and rule.reports_end]
    by_purpose = Counter(rule.purpose.value for rule in watched)
    assert gone == {replace(SPOOFED, what=what): 7 * rules for what, rules in by_purpose.items()}
    assert fabric.authority.name_at(SPOOFED) == "vm1"
