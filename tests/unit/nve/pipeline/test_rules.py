"""Rules as values, and the change from one set of them to another."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.pipeline.rules import (
    FIRST_VM_PORT,
    LAST_VM_PORT,
    Output,
    PipelineTable,
    Purpose,
    Rule,
    RuleChange,
    difference,
    lane_port,
    match,
    together,
)
from tests.helpers.tenants import vm

RULE = Rule(
    PipelineTable.FORWARD, 10, match(eth_dst="02:00:00:00:00:01"), (Output(10),), Purpose.DELIVER
)

rules = st.builds(
    Rule,
    st.sampled_from(PipelineTable),
    st.integers(0, 2),
    st.sampled_from([match(), match(in_port=10)]),
    st.sampled_from([(), (Output(10),), (Output(11),)]),
    st.just(Purpose.DELIVER),
)
# A switch holds one rule for each key, so does every set of rules that is compiled.
tables = st.lists(rules, max_size=12, unique_by=lambda rule: rule.key).map(frozenset)


def test_a_match_is_the_same_in_any_order() -> None:
    assert match(eth_src="a", in_port=1) == match(in_port=1, eth_src="a")


def carried_out(
    before: frozenset[Rule], changes: Iterable[RuleChange]
) -> tuple[frozenset[Rule], Counter[Rule]]:
    """What a switch holds then, and whose ends it has reported."""
    held = {rule.key: rule for rule in before}
    reported: Counter[Rule] = Counter()
    for change in changes:
        held |= {rule.key: rule for rule in change.added}
        reported.update(held.pop(rule.key) for rule in change.removed)
    return frozenset(held.values()), reported


@pytest.mark.shows("R3.5")
@given(tables, tables)
def test_a_change_leads_from_one_set_to_the_other(
    before: frozenset[Rule], after: frozenset[Rule]
) -> None:
    """Carried out as a switch does it, additions first, exactly `after` is left."""
    left, _ = carried_out(before, [difference(before, after)])

    assert left == after


@given(tables, tables)
def test_a_change_says_nothing_twice(before: frozenset[Rule], after: frozenset[Rule]) -> None:
    change = difference(before, after)

    assert not before & frozenset(change.added)
    assert not after & frozenset(change.removed)
    assert bool(change) == (before != after)


@given(tables, tables)
def test_later_tables_are_changed_first(before: frozenset[Rule], after: frozenset[Rule]) -> None:
    """A frame is sent on to a table only while its rules are there."""
    change = difference(before, after)
    added, removed = ([(r.table, r.priority) for r in part] for part in vars(change).values())

    assert added == sorted(added, reverse=True)
    assert removed == sorted(removed)


@given(st.lists(tables, min_size=2, max_size=6))
def test_changes_together_do_what_they_do_one_by_one(states: list[frozenset[Rule]]) -> None:
    changes = [difference(before, after) for before, after in pairwise(states)]
    fewer = list(together(changes))

    assert carried_out(states[0], fewer) == carried_out(states[0], changes)
    assert len(fewer) <= len(changes)


def test_what_is_superseded_is_not_told() -> None:
    older, newer = replace(RULE, actions=(Output(11),)), replace(RULE, actions=(Output(12),))
    other = replace(RULE, priority=9)
    changes = [RuleChange((older,), ()), RuleChange((newer,), (other,))]

    assert list(together(changes)) == [RuleChange((newer,), (other,))]


def test_a_rule_that_comes_back_goes_in_between() -> None:
    """Else its switch would replace it, and not report its end."""
    changes = [RuleChange((), (RULE,)), RuleChange((RULE,), ())]

    assert list(together(changes)) == changes


def test_a_cookie_is_64_bits_of_the_identity_of_a_rule() -> None:
    """Any NVA process computes the same; what a rule does is not part of what it is."""
    assert RULE.cookie == replace(RULE).cookie == 0x9C87EC3BF7DA1C41
    assert RULE.cookie == replace(RULE, actions=(), idle_s=3, hard_s=4).cookie


def test_another_identity_is_another_cookie() -> None:
    """A rule replaced for another purpose does not inherit the counters of its predecessor."""
    others = [
        replace(RULE, table=PipelineTable.FLOOD),
        replace(RULE, priority=11),
        replace(RULE, match=match()),
        replace(RULE, purpose=Purpose.FORWARD),
        replace(RULE, about=vm("vm1", 1, "nve1").tenant_system),
    ]

    assert len({RULE.cookie, *(rule.cookie for rule in others)}) == 1 + len(others)
    assert all(0 <= rule.cookie < 2**64 for rule in others)


def test_a_lane_has_a_port_that_no_vm_can_have() -> None:
    lanes = {lane_port(port) for port in (FIRST_VM_PORT, LAST_VM_PORT)}
    assert min(lanes) > LAST_VM_PORT
    assert max(lanes) <= 0xFEFF
