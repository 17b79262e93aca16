"""Standbys and modes of a scenario: what is refused before anything is built."""

from typing import Any

import pytest

from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved

GUEST = {"memory_mb": 8, "service": True}
STANDBY = {"at": "nve2", "interval_s": 1}
PLACE = "tenants.0.vms.vm1"
AT = f"{PLACE}.standby"
MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (changes of the standby and of others, the field that is named, what is wrong)
    "never": ({"interval_s": 0}, f"{AT}.interval_s", "greater than 0"),
    "no interval": ({"interval_s": None}, f"{AT}.interval_s", "number"),
    "at once": ({"detect_s": 0}, f"{AT}.detect_s", "greater than 0"),
    "kind": ({"kind": "tepid"}, f"{AT}.kind", "'tepid'"),
    "nowhere": ({"at": "nve9"}, f"{AT}.at", "there are nve1, nve2, nve3"),
    "with its primary": ({"at": "nve1"}, f"{AT}.at", "vm1 is at nve1 itself; name another NVE"),
    "limit": ({"bandwidth_mbit": 0}, f"{AT}.bandwidth_mbit", "greater than 0"),
}


def with_standby(**changes: Any) -> dict[str, Any]:
    standby = {**STANDBY, **changes}
    vms = {"vm1": {"nve": "nve1", "guest": GUEST, "standby": standby}, "vm2": "nve2"}
    return {**GOOD, "tenants": [{"vni": 5000, "vms": vms}, GOOD["tenants"][1]]}


@pytest.mark.parametrize(("changes", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    changes: dict[str, Any], field: str, remedy: str
) -> None:
    assert_a_sentence(complaint(with_standby(**changes)), field, remedy)


def test_a_vm_without_state_has_no_standby() -> None:
    told = complaint(with_standby(), **{f"{PLACE}.guest": None})
    assert_a_sentence(told, AT, "vm1 has no state to mirror; give it a guest")


def test_where_nobody_can_be_told_nobody_takes_over() -> None:
    told = complaint(with_standby(), overlay={"kind": "flood-and-learn"})
    assert_a_sentence(told, AT, "nobody who could be told")


def test_a_cold_move_sends_all_while_the_vm_is_suspended() -> None:
    made = resolved(
        **{"tenants": with_standby()["tenants"], "moves": [{**GOOD["moves"][0], "mode": "cold"}]}
    ).moves[0]
    assert made.transfer
    assert made.transfer.kind == "stop-and-copy"
    given = {**GOOD["moves"][0], "mode": "cold", "transfer": {"kind": "pre-copy"}}
    told = complaint(with_standby(), moves=[given])
    assert_a_sentence(told, "moves.0.transfer.kind", "leave kind out")


@pytest.mark.parametrize("mode", ["lukewarm", "take-over"])
def test_a_mode_is_hot_or_cold(mode: str) -> None:
    """A take-over follows from a failure; nobody asks for one."""
    assert_a_sentence(complaint(GOOD, **{"moves.0.mode": mode}), "moves.0.mode", "'hot' or 'cold'")
