"""Standbys and modes of a scenario: what is refused before anything is built."""

from typing import Any

import pytest

from experiments.scenario.consistency import of_a_move
from experiments.scenario.moves import MoveSpec, StandbyRoom, contradictions
from nve.resources import Capacity, Resources
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved

GUEST = {"memory_mb": 8, "service": True}
STANDBY = {"at": "nve2", "interval_s": 1}
HOT = {"kind": "hot", "interval_s": None}
PLACE = "tenants.0.vms.vm1"
AT = f"{PLACE}.standby"
MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (changes of the standby and of others, the field that is named, what is wrong)
    "never": ({"interval_s": 0}, f"{AT}.interval_s", "greater than 0"),
    "no interval": ({"interval_s": None}, AT, "give the interval in seconds: interval_s"),
    "at once": ({"detect_s": 0}, f"{AT}.detect_s", "greater than 0"),
    "kind": ({"kind": "tepid"}, f"{AT}.kind", "'tepid'"),
    "nowhere": ({"at": "nve9"}, f"{AT}.at", "there are nve1, nve2, nve3"),
    "with its primary": ({"at": "nve1"}, f"{AT}.at", "vm1 is at nve1 itself; name another NVE"),
    "mirrors of a hot one": ({"kind": "hot"}, AT, "interval_s: a hot standby has no mirrors"),
    "limit of a hot one": (
        {**HOT, "bandwidth_mbit": 5},
        AT,
        "bandwidth_mbit: a hot standby has no mirrors",
    ),
    "hot with its primary": ({**HOT, "at": "nve1"}, f"{AT}.at", "vm1 is at nve1 itself"),
    "limit": ({"bandwidth_mbit": 0}, f"{AT}.bandwidth_mbit", "greater than 0"),
}


def test_a_move_that_is_asked_for_later_fits_what_is_there() -> None:
    """As at the prompt of `vmmlab shell`, when VMs have been moved."""
    scenario = resolved(**{"tenants.0.vms.vm1": {"nve": "nve1", "guest": GUEST}})

    def told(**move: Any) -> list[tuple[str, str]]:
        asked = MoveSpec.model_validate({"at_s": 0, "vm": "vm1", "to": "nve2", **move})
        return [*of_a_move(scenario, asked.with_state(), {"vm1": "nve3", "vm2": "nve2"})]

    assert told() == []
    assert told(to="nve3")[0] == ("to", "vm1 is at nve3 already; name another NVE")
    assert told(pause_ms=5)[0][0] == "pause_ms"
    assert told(transfer={"network": "migration"})[0][0] == "transfer.network"
    assert told(mode="cold", transfer="post-copy")[0][0] == "transfer.kind"
    assert told(vm="vm2")[0][0] == "transfer"


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


ASKED = {"kind": "service", "from": "vm2", "to": "vm1"}
TASK = {"on": "vm1", "program": "stream", "addresses": ["192.168.7.7"]}
NOT_HOT: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (changes of a scenario with a hot standby, the field that is named, what is wrong)
    "no service": (
        {f"{PLACE}.guest": {"memory_mb": 8}, "traffic": []},
        AT,
        "vm1 has no service that two instances could share",
    ),
    "nobody to tell": ({"overlay": {"kind": "flood-and-learn"}}, AT, "nobody who could be told"),
    "layer 3": ({"tenants.0.layer": 3}, AT, "layer 2 only; take a warm standby"),
    "a move": (
        {"moves": [{"at_s": 1, "vm": "vm1", "to": "nve3"}]},
        "moves.0.vm",
        "vm1 has a hot standby, and cannot be moved",
    ),
    "other traffic to it": (
        {"traffic": [{"kind": "udp-probe", "from": "vm2", "to": "vm1"}]},
        "traffic.0.to",
        "vm1 has two instances, and both have only its service",
    ),
    "traffic of its own": (
        {"traffic": [{"kind": "udp-probe", "from": "vm1", "to": "vm2"}]},
        "traffic.0.from",
        "vm1 has two instances",
    ),
    "a task": ({"tasks": {"t1": TASK}}, "tasks.t1.on", "vm1 has two instances"),
}


def with_hot_standby() -> dict[str, Any]:
    return {**with_standby(**HOT), "traffic": [ASKED], "moves": []}


def test_a_hot_standby_needs_no_more_than_its_place() -> None:
    made = resolved(**with_hot_standby()).standbys["vm1"]
    assert (made.kind, made.mirrored_every_s, made.detect_s) == ("hot", 0.0, 0.5)


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize(("changes", "field", "remedy"), NOT_HOT.values(), ids=NOT_HOT)
def test_what_does_not_go_with_a_hot_standby(
    changes: dict[str, Any], field: str, remedy: str
) -> None:
    assert_a_sentence(complaint(with_hot_standby(), **changes), field, remedy)


@pytest.mark.parametrize(
    ("standby", "server"),
    [
        (HOT, {"memory_mb": 4}),
        ({"kind": "warm"}, {"memory_mb": 4}),
        ({"kind": "cold"}, {"storage_mb": 4}),
    ],
    ids=["hot", "warm", "cold"],
)
def test_the_server_of_a_standby_has_room_for_it(
    standby: dict[str, Any], server: dict[str, int]
) -> None:
    """A cold one keeps the memory in a file."""
    asked = {**with_standby(**standby), "traffic": [ASKED], "moves": []}
    told = complaint(asked, **{"topology.servers": {"nve2": server}})
    assert_a_sentence(told, "topology.servers.nve2", "no room for the standby of vm1")
    assert resolved(**{**asked, "topology.servers": {"nve2": dict.fromkeys(server, 8)}})


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


WARM = Resources(memory_mb=64)
COLD = Resources(storage_mb=64)
MOVES: dict[str, tuple[StandbyRoom, list[tuple[str, str]], str | None]] = {
    # what: (the standby of vm1, moves in a row, what is refused); each server has room for two VMs
    "to its place": (StandbyRoom("nve2", WARM), [("vm1", "nve2")], None),
    "beside a standby": (StandbyRoom("nve2", WARM), [("vm2", "nve2")], None),
    "too many": (
        StandbyRoom("nve2", WARM),
        [("vm2", "nve2"), ("vm3", "nve2")],
        "nve2 has no room for vm3: 64 MB of memory wanted, 0 free",
    ),
    "given up": (
        StandbyRoom("nve2", WARM),
        [("vm1", "nve2"), ("vm1", "nve3"), ("vm2", "nve2"), ("vm3", "nve2")],
        None,
    ),
    "reversed": (
        StandbyRoom("nve2", WARM, reverse=True),
        [("vm2", "nve3"), ("vm3", "nve3"), ("vm1", "nve2"), ("vm2", "nve1"), ("vm3", "nve1")],
        "nve1 has no room for vm3",
    ),
    "files beside": (
        StandbyRoom("nve2", COLD),
        [("vm1", "nve2")],
        "nve2 has no room for vm1: 64 MB of storage wanted, 32 free",
    ),
}


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize(("standby", "asked", "complaint"), MOVES.values(), ids=MOVES)
def test_a_move_needs_room_beside_standbys(
    standby: StandbyRoom, asked: list[tuple[str, str]], complaint: str | None
) -> None:
    nves = ["nve1", "nve2", "nve3"]
    server = Capacity(memory_mb=128, storage_mb=96)
    takes = dict.fromkeys(("vm2", "vm3"), Resources(memory_mb=64))
    takes["vm1"] = Resources(memory_mb=64, storage_mb=64)
    found = [
        said
        for _, said in contradictions(
            [
                MoveSpec.model_validate({"at_s": 1 + number, "vm": vm, "to": to})
                for number, (vm, to) in enumerate(asked)
            ],
            {"vm1": "nve1", "vm2": "nve1", "vm3": "nve1"},
            nves,
            duration_s=60,
            takes=takes,
            capacities={"nve1": Capacity(memory_mb=128), "nve2": server, "nve3": server},
            standbys={"vm1": standby},
        )
    ]
    if complaint is None:
        assert found == []
    else:
        (said,) = found
        assert complaint in said
