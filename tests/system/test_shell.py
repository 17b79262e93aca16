"""`vmmlab shell`: one session, typed beforehand, in which each line has to be answered as told."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.command import TIMEOUT_S, VMMLAB
from tests.helpers.footprint import footprint
from tests.helpers.lab import machine_interfaces
from tests.helpers.terminal import CTRL_C, CTRL_D, Terminal

PROMPT = "vmmlab> "
MAPPED = (
    r"{vm} +5000 +02:00:00:00:00:0{n} +192\.168\.0\.{n} fd77::{n} .* {nve} +10\.1\.0\.{m} +{s}\n"
)
NVES = "there are nve1, nve2, nve3"

DIALOGUE = (
    # line, what its answer has to hold (a pattern); in order, for it is one session
    ("where", r"^vm1  nve1\nvm2  nve1\nvm3  nve3\n$"),
    ("mapping", MAPPED.format(vm="vm1", n=1, nve="nve1", m=1, s=1)),
    ("flows nve1", r"(?s)guard .* drop +spoofed\n.*forward .* tunnel VNI 5000 to 10\.1\.0\.3"),
    ("vm1 ping -c1 -W2 vm3", r" 0% packet loss"),
    ("vm3 ping -6 -c1 -W2 fd77::1", r" 0% packet loss"),
    ("counters nve1", r"forward +deliver +vm1 +1 +\d+\n|from_tunnel +deliver +vm1 +\d+ +\d+\n"),
    ("move vm1 nve2 10 garp", r"^vm1 is at nve2; `trace` shows what happened\n$"),
    ("where", r"^vm1  nve2\nvm2  nve1\nvm3  nve3\n$"),
    ("mapping", MAPPED.format(vm="vm1", n=1, nve="nve2", m=2, s=2)),
    ("trace", r"(?s)move-requested +vm1 .*announced .*form=garp.*vm-resumed .*move-completed"),
    ("trace", r"^$"),
    ("vm1 ping -c1 -W2 vm3", r" 0% packet loss"),
    ("flows nve2", r"forward .* port 10 +deliver\n"),
    ("refused", r"^NVE +port +VM +tunnel from +what +counted by +packets\n"),
    # what Mininet offers
    ("nodes", r"core ctl nva nve1 nve2 nve3 vm1 vm2 vm3 wire\n"),
    ("net", r"vm1 eth0: .*p-nve2:p-vm1"),
    ("pingall", r"Results: 0% dropped \(6/6 received\)\n"),
    ("nve3 ovs-vsctl get bridge br-int datapath_id", r'^"0000000000000003"\n$'),
    ("sh echo hello", r"^hello\n$"),
    ("help move", r"move VM NVE \[PAUSE_MS \[ANNOUNCE\]\]: (?s:.*)is garp, garp-reply, na,"),
    ("northbound", r"^curl --unix-socket /run/vmmlab/\S+/nva\.sock -H .* http://nva/v1/mapping\n$"),
    # mistakes
    ("move", r"^usage: move VM NVE \[PAUSE_MS \[ANNOUNCE\]\]\n$"),
    ("move vm9 nve1", r"^no VM 'vm9'; there are vm1, vm2, vm3\n$"),
    ("move vm1 nve9", rf"^no NVE 'nve9'; {NVES}\n$"),
    ("move vm1 nve2", r"^vm1 is at nve2 already\n$"),
    ("move vm1 nve1 soon", r"^pause_ms: .*number.*\n$"),
    ("move vm1 nve1 -1", r"^pause_ms: .*greater than or equal to 0\n$"),
    (
        "move vm1 nve1 10 [bold]",
        r"^announce: .*'garp', 'garp-reply', .* 'rarp' or 'none', not '\[bold\]'\n$",
    ),
    ('move vm1 "nve1', r"^to: '\"nve1' is no name here.*\n$"),
    ("flows nve9", rf"^no NVE 'nve9'; {NVES}\n$"),
    ("flows", rf"^no NVE ''; {NVES}\n$"),
    ("counters ../../health", rf"^no NVE '\.\./\.\./health'; {NVES}\n$"),
    ("dance", r"Unknown command: dance\n"),
    ("vm9 ping -c1 vm1", r"Unknown command: vm9"),
    ("vm1 dance", r"dance: command not found\n"),
    ("source nowhere", r"error reading file nowhere\n"),
    ("switch nve1 start", r"^that did not work: .*\n$"),
    ("", r"^$"),
    # the NVA dies; its process is a child of the shell's
    ("sh pkill -9 -P $PPID -f -- '-m controller /run/vmmlab'", r"^$"),
    ("mapping", r"^the NVA does not answer .*\n$"),
    ("trace", r"^( *[0-9.]+ s  .*\n)*$"),  # it is on the disk
    ("move vm1 nve1", r"^the move failed: the NVA does not answer .*\n$"),
    ("where", r"^vm1  nve2\nvm2  nve1\nvm3  nve3\n$"),
    ("vm1 ping -c1 -W2 vm1", r" 0% packet loss"),
)


@pytest.fixture(scope="module")
def answers() -> Iterator[list[str]]:
    """What the shell answered to each line; afterwards, nothing may be left of it."""
    interfaces = machine_interfaces()
    shell = subprocess.Popen(
        [*VMMLAB, "shell", "star"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "160"},
    )
    typed = "".join(f"{line}\n" for line, _ in DIALOGUE) + "exit\n"
    said, _ = shell.communicate(typed, timeout=TIMEOUT_S)
    _, *answered = said.split(PROMPT)
    yield [re.sub(r" +\n", "\n", answer) for answer in answered]
    assert shell.returncode == 0
    assert footprint(shell.pid).remains() is None
    assert machine_interfaces() == interfaces


@pytest.mark.shows("T4")
@pytest.mark.parametrize(
    "number", range(len(DIALOGUE)), ids=[f"{n}:{line}" for n, (line, _) in enumerate(DIALOGUE)]
)
def test_a_line_is_answered(answers: list[str], number: int) -> None:
    _, expected = DIALOGUE[number]
    assert re.search(expected, answers[number]), answers[number]


def test_every_line_was_reached(answers: list[str]) -> None:
    assert len(answers) == len(DIALOGUE) + 1  # and `exit`


def test_ctrl_c_ends_a_command_and_not_the_data_centre() -> None:
    with Terminal([*VMMLAB, "shell", "star"]) as shell:
        shell.await_text(PROMPT)
        shell.press(b"vm1 ping vm3\n")
        shell.await_text("icmp_seq=2")
        shell.press(CTRL_C)
        shell.await_text("packet loss")
        shell.await_text(PROMPT)  # until then, what is typed is for the command
        shell.press(b"where\n")
        shell.await_text("vm3  nve3")
        had = footprint(shell.process.pid)
        shell.press(CTRL_D)
        assert shell.await_end() == 0

    assert had.remains() is None


def test_a_closed_window_leaves_nothing() -> None:
    with Terminal([*VMMLAB, "shell", "star"]) as shell:
        shell.await_text(PROMPT)
        had = footprint(shell.process.pid)
        assert had.remains() is not None
        shell.hang_up()
        shell.await_end()

    assert had.remains() is None
