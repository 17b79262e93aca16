"""A machine without IPv6 runs what needs IPv4 only, and refuses the rest.

What is missing here are the sockets: every process of the run is refused one, as a kernel with
`ipv6.disable=1` does.  What such a kernel lacks besides is in `tests/unit/nve/linux/test_ipv6.py`.
"""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.measure import results

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the filter knows x86's system calls"
)

VMMLAB = """
import ctypes, struct, sys

# Classic BPF: of socket(AF_INET6, …) the answer is EAFNOSUPPORT, of anything else what it is.
LOAD, UNLESS, ANSWER, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
program = b"".join(
    struct.pack("=HBBI", *line)
    for line in (
        (LOAD, 0, 0, 4), (UNLESS, 0, 5, 0xC000003E),  # x86-64
        (LOAD, 0, 0, 0), (UNLESS, 0, 3, 41),  # socket
        (LOAD, 0, 0, 16), (UNLESS, 0, 1, 10),  # AF_INET6
        (ANSWER, 0, 0, ERRNO | 97),
        (ANSWER, 0, 0, ALLOW),
    )
)
octets = ctypes.create_string_buffer(program)
head = struct.pack("@HP", len(program) // 8, ctypes.addressof(octets))
assert ctypes.CDLL(None).prctl(22, 2, head) == 0, "no filter of system calls"

from experiments.cli import main
main()
"""
SCENARIO = """
name: four
topology: {kind: star, nves: 2, link: {delay_ms: 1}}
tenants: [{vni: 5000, vms: {vm1: nve1, vm2: nve1, vm3: nve2}}]
overlay: {hold: true, end_marker: true, idle_s: 1}
traffic:
  - {kind: udp-probe, from: vm2, to: vm1, rate_pps: 200}
  - {kind: udp-probe, from: vm1, to: vm3, rate_pps: 200}
  - {kind: tcp-bulk, from: vm3, to: vm1, rate_mbit: 1}
moves: [{at_s: 1, vm: vm1, to: nve2}]
duration_s: 3
"""


def vmmlab(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", VMMLAB, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_scenario_of_ipv4_runs(tmp_path: Path) -> None:
    file, out = tmp_path / "four.yaml", tmp_path / "result"
    file.write_text(SCENARIO)
    done = vmmlab("run", str(file), "--out", str(out))
    assert done.returncode == 0, done.stderr + done.stdout
    result = results.load(out)
    assert result.manifest["problems"] == []
    assert int(result.totals["lost"].sum()) == 0
    assert len(result.packets) > 600


def test_a_scenario_of_ipv6_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "six.yaml"
    file.write_text(SCENARIO.replace("from: vm2,", "from: vm2, family: ipv6,"))
    done = vmmlab("run", str(file), "--out", str(tmp_path / "result"))
    assert done.returncode == 2
    assert "traffic.0.family: ipv6: the kernel has no IPv6" in done.stderr


def test_the_doctor_says_so() -> None:
    assert "ipv6.disable=1" in vmmlab("doctor", "--json").stdout
