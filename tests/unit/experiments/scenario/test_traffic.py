"""Traffic of a scenario: what is refused before anything is started."""

from typing import Any

import pytest

from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint

CLIENT = {"kind": "diskless-client", "vm": "vm1"}
MISTAKES: dict[str, tuple[str, Any, str, str]] = {
    # what: (key, value, the field that is named, the remedy or what is wrong)
    "traffic kind": ("traffic.0.kind", "ping", "traffic.0: there is", "udp-probe"),
    "no kind": (
        "traffic.0",
        {"from": "vm1"},
        "traffic.0",
        "give the kind of traffic: kind: ask | diskless-c",
    ),
    "unknown key": ("traffic.0.rate", 5, "traffic.0.rate", "there is no such key here"),
    "family": ("traffic.0.family", "ipv5", "traffic.0.family", "'ipv4' or 'ipv6'"),
    "rate": ("traffic.0.rate_pps", 0, "traffic.0.rate_pps", "greater than 0"),
    "rate in words": ("traffic.0.rate_pps", "fast", "traffic.0.rate_pps", "valid number"),
    "size": ("traffic.0.size_bytes", 9000, "traffic.0.size_bytes", "less than or equal to 1400"),
    "from nobody": ("traffic.0.from", "vm9", "traffic.0.from", "there are vm1, vm2, other1"),
    "to nobody": ("traffic.0.to", "vm9", "traffic.0.to", "there are vm1, vm2, other1"),
    "to itself": ("traffic.0.to", "vm2", "traffic.0", "vm2 would talk to itself"),
    "other tenant": ("traffic.0.to", "other1", "traffic.0", "in different virtual networks"),
    "flow without ends": ("traffic.0", {"kind": "udp-probe"}, "traffic.0.from", "add it"),
    "client nowhere": ("traffic.0", {**CLIENT, "vm": "vm9"}, "traffic.0.vm", "there are vm1"),
    "client without VM": ("traffic.0", {"kind": "diskless-client"}, "traffic.0.vm", "add it"),
    "two clients": ("traffic", [CLIENT] * 2, "traffic.1.vm", "has a diskless client already"),
}


@pytest.mark.parametrize(("key", "value", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    key: str, value: Any, field: str, remedy: str
) -> None:
    assert_a_sentence(complaint(GOOD, **{key: value}), field, remedy)


def test_an_endless_rate_is_seen_before_anything_is_started() -> None:
    assert complaint(GOOD, **{"traffic.1.rate_mbit": float("inf")})
