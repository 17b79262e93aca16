"""Guests of a scenario: what is refused, and what they come to."""

from typing import Any

import pytest

from experiments import doctor, needs
from experiments.scenario import load
from experiments.scenario.load import as_mapping
from nve.linux import capabilities
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved


def tenants(guest: dict[str, Any]) -> list[dict[str, Any]]:
    vms = {"vm1": {"nve": "nve1", "guest": guest}, "vm2": "nve2"}
    return [{"vni": 5000, "vms": vms}]


@pytest.mark.parametrize(
    ("guest", "field", "remedy"),
    [
        ({}, "tenants.0.vms.vm1.guest.memory_mb", "memory_mb"),
        ({"memory_mb": 0}, "tenants.0.vms.vm1.guest.memory_mb", "1"),
        ({"memory_mb": 64, "writes": {"rate_mb_s": 0}}, "writes.rate_mb_s", "0"),
        ({"memory_mb": 64, "writes": {"rate_mb_s": 1, "pattern": "odd"}}, "pattern", "uniform"),
        (
            {"memory_mb": 64, "writes": {"rate_mb_s": 1, "working_set_mb": 65}},
            "working set",
            "lower writes.working_set_mb",
        ),
        ({"memory_mb": 64, "disk_writes_mb_s": 1}, "disk_writes_mb_s", "disk_mb"),
        ({"memory_mb": 64, "swap_mb": 1}, "swap_mb", "remove"),
        ({"memory_mb": 64, "filled_mb": 65}, "filled_mb", "64 MB"),
        ({"memory_mb": 64, "zeros_pct": 100}, "zeros_pct", "90"),
        (
            {"memory_mb": 64, "filled_mb": 8, "writes": {"rate_mb_s": 1, "working_set_mb": 9}},
            "working set",
            "raise filled_mb",
        ),
    ],
)
def test_a_guest_that_cannot_be_is_refused(guest: dict[str, Any], field: str, remedy: str) -> None:
    assert_a_sentence(complaint(GOOD, tenants=tenants(guest)), field, remedy)


@pytest.mark.parametrize(
    ("move", "field", "remedy"),
    [
        ({"vm": "vm2", "to": "nve3", "transfer": "pre-copy"}, "moves.0.transfer", "give it a"),
        ({"pause_ms": 20}, "moves.0.pause_ms", "say transfer.downtime_limit_ms"),
        ({"transfer": "by-post"}, "moves.0.transfer", "pre-copy"),
        ({"transfer": {"bandwidth_mbit": 0}}, "moves.0.transfer.bandwidth_mbit", "0"),
        ({"transfer": {"downtime_limit_ms": 0}}, "moves.0.transfer.downtime_limit_ms", "0"),
        ({"transfer": {"max_iterations": 0}}, "moves.0.transfer.max_iterations", "1"),
        ({"transfer": {"max_time_s": 0}}, "moves.0.transfer.max_time_s", "0"),
        ({"transfer": {"patience_s": 0}}, "moves.0.transfer.patience_s", "0.5"),
        ({"transfer": {"network": "post"}}, "moves.0.transfer.network", "migration"),
        (
            {"transfer": {"network": "migration"}},
            "moves.0.transfer.network",
            "say what each server's link to it is, topology.migration_network",
        ),
        ({"transfer": {"channels": 0}}, "moves.0.transfer.channels", "1"),
        ({"transfer": {"compression": "lzw"}}, "moves.0.transfer.compression", "zstd"),
        ({"transfer": {"lanes": 2}}, "moves.0.transfer.lanes", "remove"),
        ({"transfer": {"post_copy_after": 2}}, "moves.0.transfer", "say kind: hybrid"),
        (
            {"transfer": {"kind": "post-copy", "auto_converge": True}},
            "moves.0.transfer",
            "leave auto_converge out",
        ),
        (
            {"transfer": {"kind": "stop-and-copy", "auto_converge": True}},
            "moves.0.transfer",
            "leave auto_converge out",
        ),
    ],
)
def test_a_transfer_that_cannot_be_is_refused(
    move: dict[str, Any], field: str, remedy: str
) -> None:
    moves = [{"at_s": 1, "vm": "vm1", "to": "nve2", **move}]
    told = complaint(GOOD, tenants=tenants({"memory_mb": 1}), traffic=[], moves=moves)
    assert_a_sentence(told, field, remedy)


def test_a_vm_with_a_guest_has_a_transfer_and_reads_back_as_it_was_resolved() -> None:
    wanted = resolved(
        tenants=tenants({"memory_mb": 1}),
        traffic=[],
        moves=[{"at_s": 1, "vm": "vm1", "to": "nve2"}, {"at_s": 1, "vm": "vm2", "to": "nve3"}],
        variants={},
    )
    assert [move.transfer and move.transfer.kind for move in wanted.moves] == ["pre-copy", None]
    assert load.resolve(as_mapping(wanted), "again", {}) == wanted


def test_only_a_guest_with_a_service_can_be_asked() -> None:
    asking = [{"kind": "service", "from": "vm2", "to": "vm1"}]
    told = complaint(GOOD, tenants=tenants({"memory_mb": 1}), traffic=asking)
    assert_a_sentence(told, "traffic.0.to", "service: true")
    wanted = resolved(tenants=tenants({"memory_mb": 1, "service": True}), traffic=asking)
    assert wanted.serving == {"vm1"}


def test_a_guest_that_moves_is_there_twice_and_has_to_find_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = resolved(tenants=tenants({"memory_mb": 64, "disk_mb": 16}), traffic=[])
    assert needs.guest_memory_mb(wanted) == 160
    for available_mb in (160, 159):
        monkeypatch.setattr(capabilities, "available_memory_mb", lambda mb=available_mb: mb)
        refused = [said for said in doctor.lacking([wanted]) if "160 MB" in said]
        assert len(refused) == (available_mb < 160)
