"""What the shell makes of what is typed and of what it is told, without a data centre."""

import json

import pytest

from experiments.errors import UsageError
from experiments.shell import _throughput, scenario_of
from topologies.emulation.command_line import CommandFailed, is_interactive


@pytest.mark.parametrize(
    ("command", "interactive"),
    [
        ("ping -c 60 192.168.0.1", False),
        ("bash", True),
        ("/bin/bash -i", True),
        ("bash -c 'ip link'", False),
        ("python3 script.py", False),
        ("python3", True),
        ("vi /tmp/notes", True),
        ("", False),
    ],
)
def test_which_command_gets_what_is_typed(command: str, interactive: bool) -> None:
    assert is_interactive(command) is interactive


def test_what_iperf3_has_measured_is_a_sentence() -> None:
    tcp = {"end": {"sum_received": {"bits_per_second": 12.3e6}}}
    udp = {"end": {"sum": {"bits_per_second": 5e6, "lost_percent": 0.5}}}
    assert _throughput("vm1 to vm3", json.dumps(tcp)) == "vm1 to vm3: 12.3 Mbit/s"
    assert _throughput("vm1 to vm3", json.dumps(udp)) == "vm1 to vm3: 5.0 Mbit/s, 0.5 % lost"
    for said in ("", json.dumps({"error": "no route"})):
        with pytest.raises(CommandFailed, match="vm1 to vm3: "):
            _throughput("vm1 to vm3", said)


def test_a_shell_is_opened_on_a_topology_or_on_a_scenario() -> None:
    assert scenario_of("leaf-spine", {}).topology.kind == "leaf-spine"
    assert [vm.name for vm in scenario_of("demo", {}).vms()] == ["vm1", "vm2", "vm3", "vm4"]
    with pytest.raises(
        UsageError, match="no such topology either; the topologies are leaf-spine, star"
    ):
        scenario_of("nowhere", {})
