"""The fuzzer's octets: different, repeatable, and near what they come from."""

from itertools import islice

from tests.helpers.mutation import garbage, mutations

ORIGINALS = [bytes(range(60)), b"another message, of which there are many"]


def test_a_seed_says_it_all() -> None:
    for make in (lambda seed: mutations(seed, ORIGINALS), garbage):
        once, again, other = (list(islice(make(seed), 50)) for seed in (1, 1, 2))
        assert once == again
        assert once != other


def test_most_are_different_from_each_other_and_from_what_they_come_from() -> None:
    made = set(islice(mutations(1, ORIGINALS), 500))

    assert len(made) > 400
    assert len(made - set(ORIGINALS)) >= len(made) - 2


def test_nothing_is_too_long_and_something_is_empty() -> None:
    made = [*islice(mutations(1, ORIGINALS), 2000), *islice(garbage(1, 50), 2000)]

    assert max(map(len, islice(mutations(1, ORIGINALS, longest=70), 2000))) == 70
    assert min(map(len, made)) == 0
