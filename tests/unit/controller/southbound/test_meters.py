"""Meters come before the rules that use them, and go with the last of those."""

from collections.abc import Iterable

import pytest

from controller.southbound.meters import Meters, numbers
from nve.pipeline.rules import Meter, PipelineTable, Purpose, ReportAction, Rule, match


def rule(port: int, *meters: Meter) -> Rule:
    actions = tuple(ReportAction(meter=meter) for meter in meters)
    return Rule(PipelineTable.FROM_VM, 20, match(in_port=port), actions, Purpose.REPORT)


M20, M22 = Meter(20, 100, 100), Meter(22, 100, 100)
A, B, OTHER, PLAIN = rule(10, M20), rule(11, M20), rule(12, M22), rule(13)


@pytest.fixture
def meters() -> Meters:
    given = Meters()
    given.connected("nve1")
    return given


def never() -> Iterable[Rule]:
    raise AssertionError("there is no need to compile all rules of an NVE")


def test_a_meter_is_given_once(meters: Meters) -> None:
    assert meters.lacking("nve1", [OTHER, A, PLAIN]) == [M20, M22]
    assert meters.lacking("nve1", [A, B]) == []


def test_an_nve_that_comes_back_is_given_everything_again(meters: Meters) -> None:
    meters.lacking("nve1", [A])
    meters.connected("nve1")

    assert meters.lacking("nve1", [A]) == [M20]


def test_another_rate_is_another_meter_of_that_number(meters: Meters) -> None:
    faster = Meter(20, 500, 500)
    meters.lacking("nve1", [A])

    assert meters.lacking("nve1", [rule(10, faster)]) == [faster]


def test_a_meter_goes_with_the_last_rule_that_uses_it(meters: Meters) -> None:
    meters.lacking("nve1", [A, B, OTHER])

    assert meters.idle("nve1", [A], lambda: [B, OTHER]) == set()
    assert meters.idle("nve1", [B], lambda: [OTHER]) == {20}
    assert meters.lacking("nve1", [A]) == [M20]


def test_rules_without_meters_cost_nothing(meters: Meters) -> None:
    assert meters.idle("nve1", [PLAIN], never) == set()


def test_the_numbers_of_all_meters() -> None:
    assert numbers([A, B, OTHER, PLAIN]) == {20, 22}
