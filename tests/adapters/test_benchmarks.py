"""A benchmark that is told to end takes down what it has built."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pause, run_as_command

BENCHMARK = """
import signal
from contextlib import contextmanager
from benchmarks import run_as_command

@contextmanager
def lab():
    try:
        yield print("up", flush=True)
    finally:
        print("down", flush=True)

def main():
    with lab():
        signal.pause()

run_as_command(main)
"""


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_told_to_end_takes_down_what_it_has_built(told: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BENCHMARK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as benchmark:
        assert benchmark.stdout
        assert benchmark.stdout.readline() == "up\n"
        benchmark.send_signal(told)
        out, err = benchmark.communicate(timeout=30)

    assert out == "down\n"
    assert err == "interrupted; everything that was started is ended\n"
    assert benchmark.returncode == 130


def test_a_directory_that_is_no_result_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of the tests stay
    monkeypatch.setattr(sys, "argv", ["pause", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run_as_command(pause.main)

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"{tmp_path} is not a result directory: it has no manifest.json in it\n"
