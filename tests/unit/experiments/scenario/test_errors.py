"""Mistakes in a scenario as sentences: what pydantic alone would not say well."""

import pytest

from tests.helpers.scenarios import GOOD, complaint

OF_A_TASK = "tasks.web.addresses"
WRONG_FORMS = {
    # what: (key, value, the whole complaint)
    "a number for keys": ("tenants.0.vms.vm1", 7, "tenants.0.vms.vm1: this is 7; give keys"),
    "a text for a list": ("traffic", "all", "traffic: this is 'all'; give a list, as in [a, b]"),
    "no address in a list": (OF_A_TASK, ["fd77"], f"{OF_A_TASK}.0: 'fd77' is not an IPv4 or IPv6"),
    "no address in a VM": (
        OF_A_TASK,
        {"vm1": ["x"]},
        f"{OF_A_TASK}.vm1.0: 'x' is not an IPv4 or IPv6 address",
    ),
    "a text for addresses": (OF_A_TASK, "fd77::9", f"{OF_A_TASK}: this is 'fd77::9'; give a list"),
    "no addresses": (OF_A_TASK, [], f"{OF_A_TASK}: this is empty; give at least one"),
    "no address that is shared": (
        "tenants.0.shared",
        {"x": ["vm1"]},
        "tenants.0.shared.x: 'x' is not an IPv4 or IPv6 address",
    ),
}


@pytest.mark.parametrize("key", ["name", "topology", "tenants", "duration_s"])
def test_what_is_missing_is_named(key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}

    assert complaint(content) == f"my.yaml: {key}: this is missing; add it"


@pytest.mark.parametrize(("key", "value", "said"), WRONG_FORMS.values(), ids=WRONG_FORMS)
def test_a_value_of_another_form_is_shown(key: str, value: object, said: str) -> None:
    content = {**GOOD, "tasks": {"web": {"on": "vm1", "program": "stream", "addresses": ["::1"]}}}
    sentence = complaint(content, **{key: value})

    assert sentence.startswith(f"my.yaml: {said}")
    assert ";" not in sentence.partition("; give")[2]


def test_a_long_value_is_cut() -> None:
    assert len(complaint(GOOD, traffic="x" * 500)) < 150


def test_several_mistakes_are_told_at_once() -> None:
    sentence = complaint(GOOD, seed=-1, speed=3)

    assert "seed: " in sentence
    assert "speed: " in sentence
