"""What is asked of a mistake's sentence: fails where something is not said, or nothing at all."""

import pytest

from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved


def test_the_good_scenario_is_good() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        complaint(GOOD)


def test_changes_are_dotted_keys() -> None:
    assert resolved(control__delay_ms=7).control.delay_ms == 7


@pytest.mark.parametrize(
    "told",
    [
        "your.yaml: moves.0.to: name another NVE",
        "my.yaml: moves.0.vm: name another NVE",
        "my.yaml: moves.0.to: vm1 is there already",
        "my.yaml: moves.0.to:\nname another NVE",
        "my.yaml: moves.0.to: name another NVE (see https://errors.pydantic.dev)",
    ],
    ids=["no file", "no field", "no remedy", "two lines", "not our words"],
)
def test_what_a_sentence_lacks_is_seen(told: str) -> None:
    with pytest.raises(AssertionError):
        assert_a_sentence(told, "moves.0.to", "name another NVE")


def test_a_whole_sentence_passes() -> None:
    assert_a_sentence(
        "my.yaml: moves.0.to: vm1 is at nve1 already; name another NVE",
        "moves.0.to",
        "name another NVE",
    )
