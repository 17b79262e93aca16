"""`vmmlab shell`: one session, typed beforehand, in which each line has to be answered as told; and
the exercise's own lines, read out of its page, pasted into a terminal or run as a script.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.machine import ROOT
from tests.helpers.command import TIMEOUT_S, VMMLAB, vmmlab
from tests.helpers.footprint import footprint
from tests.helpers.lab import machine_interfaces
from tests.helpers.terminal import CTRL_C, CTRL_D, Terminal
from topologies.emulation.command_line import CommandLine

PROMPT = "vmmlab> "
MAPPED = (
    r"{vm} +5000 +02:00:00:00:00:0{n} +192\.168\.0\.{n} fd77::{n} .* {nve} +10\.1\.0\.{m} +{s}\n"
)
NVES = "there are nve1, nve2, nve3"

SHELL_AT_VM1 = r"DISPLAY is not set.*`mnexec -a \d+ bash` is a shell at vm1\n$"
ENDINGS = {
    # what ends a session: where it is tried
    "exit": "the session",
    "quit": "a script",
    "EOF": "a closed terminal",
}

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
    # a VM comes and goes
    ("capacity", r"(?s)nve1 +has +any +any.*nve3 +free +any +any"),
    (
        "onboard vm4 nve2 memory_mb=64 cpu=0.5",
        r"^vm4 is at nve2, with 192\.168\.0\.4 and fd77::4\n",
    ),
    ("capacity", r"nve2 +vm4 takes +0\.5 +64 +0 +0 *\n"),
    ("vm4 ping -c1 -W2 vm1", r" 0% packet loss"),
    ("adjust vm4 cpu=1", r"^vm4 has 1 CPUs, 64 MB of memory\n$"),
    ("onboard vm4 nve2", r"^VM vm4: a node of the data centre has this name already\n$"),
    ("onboard vm5 nve9", rf"^no NVE 'nve9'; {NVES}\n$"),
    ("onboard vm5 gpu=1", r"^there is no resource 'gpu'; there are cpu, memory_mb, .*\n$"),
    ("onboard vm5 cpu=much", r"^cpu: .*number.*\n$"),
    ("onboard", r"^usage: onboard VM "),
    ("adjust vm4", r"^usage: adjust VM "),
    ("adjust vm1 cpu=1", r"^vm1 was not on-boarded: it has no resources to adjust\n$"),
    ("offboard vm9", r"^no VM 'vm9'; there are vm1, vm2, vm3, vm4\n$"),
    ("offboard vm4", r"^vm4 is gone\n$"),
    ("where", r"^vm1  nve2\nvm2  nve1\nvm3  nve3\n$"),
    # what Mininet offers
    ("flows nve1 forward", r"^table .*\n(forward .*\n)+$"),
    ("flows nve1 ice", r"^nve1 has no rules in table 'ice'; it has some in .*guard.*\n$"),
    ("trace all", r"(?s)^ +-\d.* +0\.0000 s  runner +move-requested +vm1 .*move-completed"),
    ("trace all --json", r'(?s)^\[\n.*"since_move_s": 0\.0,\n.*"event": "move-completed"'),
    ("trace all /proc/none", r"^/proc/none: .*\n$"),
    ("trace --xml", r"^usage: trace \[all\] \[--json\] \[FILE\]\n$"),
    ("nodes", r"core ctl nva nve1 nve2 nve3 vm1 vm2 vm3 wire\n"),
    ("net", r"vm1 eth0: .*p-nve2:p-vm1"),
    ("pingall", r"Results: 0% dropped \(6/6 received\)\n"),
    ("nve3 ovs-vsctl get bridge br-int datapath_id", r'^"0000000000000003"\n$'),
    ("sh echo hello", r"^hello\n$"),
    ("help", r"(?s)^  move VM NVE .*  trace .*  mapping: .*\nMininet's: .*iperf.*xterm"),
    ("ports", r"nve1 .*to-core:\d+"),
    ("intfs", r"vm1: .*eth0"),
    ("dump", r"<VmNode vm1: .*eth0:192\.168\.0\.1"),
    ("links", r"to-core<->to-nve1"),
    ("pingpair", r"Results: 0% dropped \(2/2 received\)\n"),
    ("pingallfull", r"vm1->vm2: 1/1, rtt"),
    ("pingpairfull", r"vm1->vm2: 1/1, rtt"),
    ("iperf vm1 vm3", r"^vm1 to vm3: [\d.]+ Mbit/s\n$"),
    ("iperfudp 5M vm1 vm3", r"^vm1 to vm3: [\d.]+ Mbit/s, [\d.]+ % lost\n$"),
    ("iperf vm1 vm9", r"^no VM 'vm9'; there are vm1, vm2, vm3\n$"),
    ("iperf vm1", r"^usage: iperf VM VM\n$"),
    ("xterm vm1", SHELL_AT_VM1),
    ("gterm vm1", SHELL_AT_VM1),
    ("x vm1 xclock", SHELL_AT_VM1),
    ("x", r"^usage: x NODE"),
    ("xterm vm9", r"^no node 'vm9'; `nodes` names them\n$"),
    ("py vm1.IP()", r"^192\.168\.0\.1\n$"),
    ("py 1 / 0", r"^ZeroDivisionError: .*\n$"),
    ("px print(nve1.name)", r"^nve1\n$"),
    ("px no", r"^NameError: .*\n$"),
    ("dpctl dump-flows", r"(?s)\*\*\* nve1 -+\n.*cookie=.*\*\*\* nve3 -+\n.*actions="),
    ("dpctl", r"^usage: dpctl COMMAND"),
    ("nve1 ovs-ofctl dump-flows br-int", r"cookie=.*actions="),
    ("noecho vm1 echo quiet", r"^quiet\n$"),
    ("time where", r"^vm1 .*\n(.*\n)*\*\*\* Elapsed time: [\d.]+ secs\n$"),
    ("wait", r"^every NVE runs\n$"),
    # a switch and a link that go and come back; what does not get through, does again
    ("switch nve3 stop", r"^$"),
    ("wait", r"^nve3 is stopped; `switch nve3 start`\n$"),
    ("switch nve3 stop", r"^nve3 is stopped already; `switch nve3 start`\n$"),
    ("vm1 ping -c1 -W1 vm3", r" 100% packet loss"),
    ("switch nve3 start", r"^$"),
    ("vm1 ping -c1 -w30 vm3", r" 1 received"),
    ("switch nve3 start", r"^nve3 runs already\n$"),
    ("switch core stop", r"^no NVE 'core'; there are nve1, nve2, nve3; .*\n$"),
    ("switch nve3", r"^usage: switch NVE stop\|start\n$"),
    ("link nve3 core down", r"^$"),
    ("vm1 ping -c1 -W1 vm3", r" 100% packet loss"),
    ("link nve3 core up", r"^$"),
    ("vm1 ping -c1 -w30 vm3", r" 1 received"),
    ("link vm1 nve3 down", r"^$"),
    ("link vm1 nve3 up", r"^$"),
    ("vm3 ping -c3 -i0.2 -W2 vm1", r"3 received, 0% packet loss"),  # none of them twice
    ("link vm1 vm2 up", r"not connected"),
    (
        "help move",
        r"move VM NVE \[PAUSE_MS \[ANNOUNCE\]\] \[KEY=VALUE …\]: (?s:.*)is garp, garp-reply, na,",
    ),
    ("northbound", r"^curl --unix-socket /run/vmmlab/\S+/nva\.sock -H .* http://nva/v1/mapping\n$"),
    # mistakes
    ("move", r"^usage: move VM NVE \[PAUSE_MS \[ANNOUNCE\]\] \[KEY=VALUE …\]\n$"),
    ("move vm9 nve1", r"^no VM 'vm9'; there are vm1, vm2, vm3\n$"),
    ("move vm1 nve9", rf"^no NVE 'nve9'; {NVES}\n$"),
    ("move vm1 nve2", r"^vm1 is at nve2 already\n$"),
    ("move vm1 nve1 soon", r"^pause_ms: .*number.*\n$"),
    ("move vm1 nve1 -1", r"^pause_ms: .*greater than or equal to 0\n$"),
    (
        "move vm1 nve1 10 [bold]",
        r"^announce: .*'garp', 'garp-reply', .* 'rarp' or 'none', not '\[bold\]'\n$",
    ),
    ('move vm1 "nve1', r"^to: '\"nve1' is not a valid name here.*\n$"),
    ("route", r"^say which and whose: route ADDRESS VM\n$"),
    ("route 192.168.0.1 vm3", r"^vm3 is in a network of layer 2, which has no host routes; .*\n$"),
    ("flows nve9", rf"^no NVE 'nve9'; {NVES}\n$"),
    ("flows", rf"^no NVE ''; {NVES}\n$"),
    ("counters ../../health", rf"^no NVE '\.\./\.\./health'; {NVES}\n$"),
    ("dance", r"Unknown command: dance\n"),
    ("vm9 ping -c1 vm1", r"Unknown command: vm9"),
    ("vm1 dance", r"dance: command not found\n"),
    ("source nowhere", r"^error reading file nowhere: .*\n$"),
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
        env={k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"COLUMNS": "160"},
    )
    typed = "".join(f"{line}\n" for line, _ in DIALOGUE) + "exit\n"
    said, _ = shell.communicate(typed, timeout=TIMEOUT_S)
    _, *answered = said.split(PROMPT)
    yield [re.sub(r" +\n", "\n", answer) for answer in answered]
    assert shell.returncode == 1  # there were mistakes
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


def test_no_command_of_mininet_is_left_out() -> None:
    (mininets,) = CommandLine.__bases__
    commands = {name.removeprefix("do_") for name in dir(mininets) if name.startswith("do_")}
    assert commands - ENDINGS.keys() == commands & {line.partition(" ")[0] for line, _ in DIALOGUE}


WITH_STATE = """
name: with-state
topology: {kind: star, nves: 3}
tenants:
  - vni: 5000
    layer: 3
    vms:
      vm1:
        nve: nve1
        guest: {memory_mb: 4, writes: {rate_mb_s: 1}}
        standby: {at: nve3, interval_s: 0.2, detect_s: 0.3}
      vm2: nve2
      vm3: nve3
overlay: {hold: true, idle_s: 1}
duration_s: 5
"""
OF_STATE = (
    # line, what its answer has to hold
    ("move vm1 nve2 20", r"^pause_ms: vm1 stands still for as long as its state needs; "),
    ("move vm1 nve2 transfer=post-copy", r"^transfer.kind: vm1 has a standby, "),
    ("move vm2 nve1 transfer=pre-copy", r"^transfer: vm2 has no state to bring over; "),
    ("move vm1 nve2 mode=tepid", r"^mode: .*'hot' or 'cold', not 'tepid'\n$"),
    ("move vm1 nve2 speed=3", r"^speed: there is no such key here; "),
    ("move vm2 nve1 5 garp", r"^announce: a network of layer 3 carries no announcement \(garp\); "),
    ("move vm1 nve2 mode=cold transfer.bandwidth_mbit=400", r"^vm1 is at nve2; "),
    ("trace", r"announce=none mode=cold\n(?s:.*)state-verified +vm1 .*equal=True"),
    ("switch nve2 stop", r"^$"),
    ("vm3 ping -c1 -w60 vm1", r" 1 received"),
    ("where", r"^vm1  nve3\nvm2  nve2\nvm3  nve3\n$"),
    ("trace", r"server-lost(?s:.*)mode=take-over\n(?s:.*)vm-resumed +vm1 +nve=nve3"),
)


@pytest.mark.shows("R7.1", "R7.3")
def test_a_vm_with_state_is_moved_at_the_prompt_and_its_standby_takes_over(tmp_path: Path) -> None:
    file = tmp_path / "with-state.yaml"
    file.write_text(WITH_STATE, encoding="utf-8")
    done = vmmlab("shell", file, input="".join(f"{line}\n" for line, _ in OF_STATE))

    _, *answered, _ = done.stdout.split(PROMPT)
    for (line, expected), said in zip(OF_STATE, answered, strict=True):
        assert re.search(expected, re.sub(r" +\n", "\n", said)), (line, said)


def test_a_script_ends_at_the_first_command_that_fails(tmp_path: Path) -> None:
    script = tmp_path / "commands"
    script.write_text("# at once\nvm1 true\n\nvm1 false # fails\nwhere\n", encoding="utf-8")
    done = vmmlab("shell", "star", "--script", script)

    assert done.returncode == 1
    assert f"{script}:4: this failed: vm1 false\n" in done.stdout + done.stderr
    assert "vmmlab> where" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


EXERCISE = (ROOT / "docs/labs/01-a-move.md").read_text(encoding="utf-8")


def part(title: str) -> list[list[str]]:
    """The lines of each block of commands below a heading of the exercise."""
    _, _, rest = EXERCISE.partition(f"\n## {title}")
    below, _, _ = rest.partition("\n## ")
    return [block.split("\n")[1:-1] for block in below.split("```")[1::2]]


def answer(number: str) -> str:
    """The page's own answer to a question, in one line."""
    (found,) = re.findall(rf"\* \*\*{re.escape(number)}\*\* ((?:.|\n)*?)\n(?=\*|\n)", EXERCISE)
    return " ".join(found.split())


def test_the_first_part_of_the_exercise_as_a_script(tmp_path: Path) -> None:
    (command,), *blocks = part("1 ")
    lines = [line for block in blocks for line in block]
    assert lines.pop() == "exit"
    script = tmp_path / "part-1"
    script.write_text("\n".join([*lines, "quit", "bogus"]), encoding="utf-8")
    done = vmmlab(*shlex.split(command)[1:], "--script", script)

    assert done.returncode == 0, done.stdout + done.stderr
    first, *_ = re.findall(r"vm1 +5000 .* nve1 +(\S+) ", done.stdout)
    assert f"`{first}`" in answer("1.1")
    assert "report" in done.stdout
    there, back = done.stdout.split("vmmlab> move vm1 nve1 50 none")
    assert re.search(r"vm-paused(?s:.*)vm-resumed", there)
    assert "in-flight-ended" in there
    assert "why=idle" in there
    assert "`why=idle`" in answer("1.6")
    activated_s = float(re.findall(r"(\S+) s .* move-activated ", there)[0])
    completed_s = float(re.findall(r"(\S+) s .* move-completed ", there)[0])
    assert activated_s < 2 < completed_s  # `idle_s`
    assert "announcement-received" in there
    assert "announcement-received" not in back


@pytest.mark.parametrize(
    ("in_flight", "question", "lost"),
    [("drop", "2.1", range(12, 29)), ("tunnel", "2.3", range(3))],
)
def test_the_second_part_of_the_exercise_pasted_into_a_terminal(
    in_flight: str, question: str, lost: range
) -> None:
    """Most of it is there long before it is read: while commands run, and a move."""
    (command,) = (
        line for block in part("2 ") for line in block if f"in_flight={in_flight}" in line
    )
    (pasted,) = (block for block in part("2 ") if len(block) > 1)
    with Terminal([*VMMLAB, *shlex.split(command)[1:]]) as shell:
        shell.await_text(PROMPT)
        shell.press("".join(f"{line}\n" for line in pasted).encode())
        assert shell.await_end(60) == 0
        shown = shell.shown

    transmitted, received = map(int, re.findall(r"(\d+) packets? transmitted, (\d+)", shown)[-1])
    assert transmitted == 60
    assert transmitted - received in lost
    assert {"2.1": "About 20 of 60", "2.3": "None or one"}[question] in answer(question)
    assert "vm1 is at nve2" in shown
    assert re.search(r"entry-expired +vm1 +nve=nve3", shown)
    assert "Unknown command" not in shown


def test_the_last_part_of_the_exercise_piped_in() -> None:
    (command,), lines = part("If there is time")
    typed = "".join(f"{line}\n" for line in lines)
    done = vmmlab(*shlex.split(command)[1:], input=typed)

    (packets,) = re.findall(r"guard +spoofed .* (\d+) +\d+ *\n", done.stdout)
    assert int(packets) in (2, 3)  # the third is sent when the ping gives up
    assert "three ARP requests" in answer("4.1")


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
