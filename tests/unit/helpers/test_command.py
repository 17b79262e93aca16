"""The judge of complaints: it lets a sentence pass and nothing else."""

from subprocess import CompletedProcess

import pytest

from tests.helpers.command import complaint


def test_a_sentence_is_a_complaint() -> None:
    assert complaint(CompletedProcess([], 2, "", "vmmlab: no such thing\n")) == "no such thing"


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("", ""),
        ("", "Traceback (most recent call last):\n  File …\nKeyError: 'x'\n"),
        ("", "KeyError: 'x'\n"),
        ("half a table\n", "vmmlab: no such thing\n"),
    ],
)
def test_anything_else_is_none(output: str, errors: str) -> None:
    with pytest.raises(AssertionError):
        complaint(CompletedProcess([], 2, output, errors))
