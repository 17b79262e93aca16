"""The terminal itself: what it shows, that it fails when nothing comes, and its Ctrl-C."""

import sys

import pytest

from tests.helpers.terminal import CTRL_C, Terminal


def test_shows_what_a_command_prints_at_a_terminal() -> None:
    with Terminal([sys.executable, "-c", "print(open(0).isatty())"]) as terminal:
        assert terminal.await_end() == 0
        assert terminal.shown == "True\r\n"


def test_fails_with_the_screen_when_a_text_does_not_come() -> None:
    with Terminal(["sh", "-c", "echo here; exec cat"]) as terminal:
        terminal.await_text("here")
        with pytest.raises(AssertionError, match=r"'there' does not come; shown: here"):
            terminal.await_text("there", timeout_s=0.02)


def test_a_text_that_was_awaited_has_to_come_again() -> None:
    with Terminal(["sh", "-c", "echo once twice twice; exec cat"]) as terminal:
        terminal.await_text("twice")
        terminal.await_text("twice")
        with pytest.raises(AssertionError):
            terminal.await_text("once", timeout_s=0.02)


def test_fails_when_a_command_does_not_end() -> None:
    with (
        Terminal(["cat"]) as terminal,
        pytest.raises(AssertionError, match="'the end' does not come"),
    ):
        terminal.await_end(timeout_s=0.02)
    assert terminal.process.returncode != 0


def test_ctrl_c_is_a_signal() -> None:
    # A shell looks at its signals between two commands, and one may come just before the next.
    told = "trap 'echo told; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    with Terminal(["bash", "-c", told]) as terminal:
        terminal.await_text("ready")
        terminal.press(CTRL_C)
        assert terminal.await_end() == 7
        assert "told" in terminal.shown
