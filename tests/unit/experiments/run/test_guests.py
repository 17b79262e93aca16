"""What is said of guests that do not write as fast as a scenario wants."""

from experiments.run.guests import shortfalls


def test_a_rate_that_was_not_reached_is_said() -> None:
    facts = {
        "vm1": {"writes_asked_mb_s": 500.0, "writes_reached_mb_s": 212.5},
        "vm2": {"writes_asked_mb_s": 20.0, "writes_reached_mb_s": 19.0},
        "vm3": {"writes_asked_mb_s": 0.0, "writes_reached_mb_s": 0.0},
    }
    (said,) = shortfalls(facts)
    assert said.startswith("the guest of vm1 has written 212.5 MB/s, and was to write 500: ")
