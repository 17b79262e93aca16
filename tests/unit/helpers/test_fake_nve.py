"""The switch in memory: what it holds, what it reports, and that it judges by what it holds."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from nve.messages import RuleEnded
from nve.pipeline.rules import Output, PipelineTable, Purpose, Rule, match
from tests.helpers import frames
from tests.helpers.fake_nve import Add, FakeNve, Remove, RemoveOthers
from tests.helpers.tenants import vm, vteps

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
DROP = Rule(PipelineTable.FORWARD, 99, match(), (), Purpose.SPOOFED)
ACCEPT = Rule(PipelineTable.CLASSIFY, 99, match(), (Output(11),), Purpose.DELIVER, hard_s=1)


def test_a_rule_with_the_same_key_replaces_without_a_report() -> None:
    node = FakeNve("nve1", vteps()["nve1"], connected=True)
    node.carry_out(Add(replace(DROP, reports_end=True)))
    node.carry_out(Add(DROP))

    assert node.holds() == {DROP}
    assert not node.up


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (replace(DROP, reports_end=True, idle_s=1), "idle"),
        (replace(DROP, reports_end=True, hard_s=1), "timer"),
    ],
)
def test_a_time_out_is_reported_with_its_reason(rule: Rule, why: str) -> None:
    node = FakeNve("nve1", vteps()["nve1"], connected=True)
    node.carry_out(Add(rule))
    node.expire(rule)

    (report,) = node.up
    assert isinstance(report, RuleEnded)
    assert (report.cookie, report.why) == (rule.cookie, why)
    assert not node.holds()


def test_a_rule_removed_by_the_nva_reports_only_if_it_is_to() -> None:
    node = FakeNve("nve1", vteps()["nve1"], connected=True)
    told = replace(DROP, priority=1, reports_end=True)
    for rule in (DROP, told):
        node.carry_out(Add(rule))
    node.carry_out(RemoveOthers(frozenset({DROP.cookie})))
    node.carry_out(Remove(DROP))
    node.carry_out(Remove(DROP))

    assert not node.holds()
    (report,) = node.up
    assert isinstance(report, RuleEnded)
    assert report.why == "told"


@pytest.mark.parametrize(
    "undo",
    [
        lambda node: node.carry_out(Remove(ACCEPT)),
        lambda node: node.carry_out(RemoveOthers(frozenset())),
        lambda node: node.carry_out(Add(replace(ACCEPT, actions=()))),
        lambda node: node.expire(ACCEPT),
    ],
    ids=["removed", "reconciled", "replaced", "timed out"],
)
def test_a_verdict_is_that_of_the_rules_as_they_are(undo: Callable[[FakeNve], None]) -> None:
    """One that was kept from before a change would hide what the change has broken."""
    node, frame = FakeNve("nve1", vteps()["nve1"]), frames.entering(frames.ipv4(VM1, VM2.mac), 10)
    assert node.judge(frame).dropped
    node.carry_out(Add(ACCEPT))
    assert node.judge(frame).ports == (11,)
    node.carry_out(Add(ACCEPT))
    assert node.judge(frame).ports == (11,)
    undo(node)
    assert node.judge(frame).dropped
