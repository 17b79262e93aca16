"""The lab's own eyes: what runs is seen, what has ended is not."""

import os
import subprocess

from tests.helpers.lab import running_processes


def test_a_running_process_is_seen_and_one_that_nobody_reaped_is_not() -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)

    assert running_processes([os.getpid(), ended.pid]) == {os.getpid()}

    ended.wait()
    assert running_processes([ended.pid]) == set()
