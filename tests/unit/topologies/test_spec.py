"""What a link or a topology refuses, and that it says what to do instead."""

import pytest
from pydantic import ValidationError

from topologies.spec import LinkSpec
from topologies.star import Parameters


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"delay_ms": -1}, "give milliseconds from 0 to 10000"),
        ({"delay_ms": float("nan")}, "give milliseconds from 0 to 10000"),
        ({"delay_ms": 5, "jitter_ms": -1}, "give milliseconds from 0 to 10000"),
        ({"loss_pct": 101}, "give a percentage from 0 to 100"),
        ({"loss_pct": -0.1}, "give a percentage from 0 to 100"),
        ({"rate_mbit": 0}, "leave it out for a link without a limit"),
        ({"rate_mbit": -5}, "leave it out for a link without a limit"),
        ({"delay_ms": 1, "jitter_ms": 2}, "raise delay_ms or lower jitter_ms"),
        ({"jitter_ms": 2}, "raise delay_ms or lower jitter_ms"),
        ({"delay": 1}, "delay\n  Extra inputs are not permitted"),
    ],
)
def test_a_link_refuses_and_says_the_remedy(given: dict[str, float], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        LinkSpec.model_validate(given)


def test_a_topology_names_the_place_inside_it() -> None:
    with pytest.raises(ValidationError) as refusal:
        Parameters.model_validate({"link": {"rate_mbit": 0}})

    assert refusal.value.errors()[0]["loc"] == ("link", "rate_mbit")


def test_a_topology_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="spines\n  Extra inputs are not permitted"):
        Parameters.model_validate({"spines": 2})


def test_a_plain_link_has_no_effect() -> None:
    assert not LinkSpec().delays
    assert LinkSpec().rate_mbit is None


def test_an_nves_own_link_differs_only_in_what_is_said() -> None:
    parameters = Parameters.model_validate(
        {"link": {"delay_ms": 1, "rate_mbit": 100}, "links": {"nve3": {"delay_ms": 5}}}
    )

    assert parameters.link_of("nve3") == LinkSpec(delay_ms=5, rate_mbit=100)
    assert parameters.link_of("nve1") == parameters.link
    assert Parameters.model_validate(parameters.model_dump()) == parameters


def test_an_nves_own_link_may_be_without_a_limit_that_the_others_have() -> None:
    given = {"link": LinkSpec(rate_mbit=100), "links": {"nve3": {"rate_mbit": None}}}

    assert Parameters.model_validate(given).link_of("nve3").rate_mbit is None


def test_a_mistake_in_an_nves_own_link_names_it() -> None:
    with pytest.raises(ValidationError) as refusal:
        Parameters.model_validate({"links": {"nve3": {"rate_mbit": 0}}})

    assert refusal.value.errors()[0]["loc"] == ("links", "nve3", "rate_mbit")
