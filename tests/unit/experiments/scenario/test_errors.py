"""Mistakes in a scenario as sentences: what pydantic alone would not say well."""

import pytest

from tests.helpers.scenarios import GOOD, complaint


@pytest.mark.parametrize("key", ["name", "topology", "tenants", "duration_s"])
def test_what_is_missing_is_named(key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}

    assert complaint(content) == f"my.yaml: {key}: this is missing; add it"


def test_several_mistakes_are_told_at_once() -> None:
    sentence = complaint(GOOD, seed=-1, speed=3)

    assert "seed: " in sentence
    assert "speed: " in sentence
