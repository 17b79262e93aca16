"""Amounts of resources: what nothing can have, what is left, and what is too much."""

from typing import Any

import pytest

from nve.resources import MOST, NO_RESOURCES, UNLIMITED, Capacity, Resources


@pytest.mark.parametrize("kind", [Resources, Capacity])
@pytest.mark.parametrize("key", MOST)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1 << 40])
def test_what_nothing_can_have_is_refused(kind: Any, key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} is .*; give a number from 0 to {MOST[key]}"):
        kind(**{key: value})


def test_what_is_left_is_what_nobody_has() -> None:
    server = Capacity(cpu=2, memory_mb=100)
    vms = [Resources(cpu=0.1, memory_mb=40, processes=7)] * 2

    assert server.without(vms) == Capacity(cpu=1.8, memory_mb=20)
    assert server.without([]) == server
    assert server.without(vms * 2) == Capacity(cpu=1.6, memory_mb=0), "less than nothing"
    assert UNLIMITED.without(vms) == UNLIMITED


@pytest.mark.parametrize(
    ("wanted", "shortage"),
    [
        (NO_RESOURCES, None),
        (Resources(cpu=2, memory_mb=100, storage_mb=10**6), None),
        (Resources(memory_mb=101), "101 MB of memory wanted, 100 free"),
        (
            Resources(cpu=2.5, processes=1),
            "2.5 CPUs wanted, 2 free; 1 processes wanted, 0 free",
        ),
    ],
)
def test_a_shortage_is_said(wanted: Resources, shortage: str | None) -> None:
    assert Capacity(cpu=2, memory_mb=100, processes=0).shortage(wanted) == shortage


def test_amounts_are_said_in_words() -> None:
    assert str(Resources(cpu=0.5, memory_mb=64)) == "0.5 CPUs, 64 MB of memory"
    assert str(NO_RESOURCES) == "nothing"
    assert not NO_RESOURCES
    assert str(Capacity(cpu=1, storage_mb=0)) == (
        "1 CPUs, any memory, 0 MB of storage, any processes"
    )
