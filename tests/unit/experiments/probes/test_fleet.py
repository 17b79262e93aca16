"""What makes measured packets unfit to be read as the network's doing."""

from array import array

import pytest

from experiments.probes import samples
from experiments.probes.fleet import problems


def summary(overflow=0, stopped_early=False):
    return {
        "receivers": {"vm1": {"overflow": overflow, "foreign": 0}},
        "senders": {"vm2": {"stopped_early": stopped_early, "flows": {}}},
    }


def test_a_good_run_has_no_problem():
    assert problems(summary(), unmatched=0) == []


def test_the_receivers_own_drops_are_not_the_networks():
    [problem] = problems(summary(overflow=3), unmatched=0)
    assert "receiver in vm1 dropped 3 packets itself" in problem


def test_a_sender_that_was_stopped_and_a_delivery_nobody_sent():
    found = problems(summary(stopped_early=True), unmatched=2)
    assert len(found) == 2


def test_samples_survive_their_file(tmp_path):
    values = array("q", [1, -2, 2**62])
    samples.write(tmp_path / "s", {"overflow": 0}, values)
    assert samples.read(tmp_path / "s") == ({"overflow": 0}, values)


def test_samples_that_are_not_written_to_the_end_do_not_appear(tmp_path):
    with pytest.raises(TypeError):
        samples.write(tmp_path / "s", {"not": {"JSON"}}, array("q"))
    assert not (tmp_path / "s").exists()
