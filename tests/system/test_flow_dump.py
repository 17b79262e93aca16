"""What the comparison of tables expects of a switch is in Open vSwitch's own words."""

import subprocess
from ipaddress import IPv4Address, IPv6Address

import pytest

from nve.model import vni
from nve.pipeline.flow_dump import words
from nve.pipeline.rules import (
    Action,
    Aim,
    CheckLarger,
    ChooseInstance,
    Encapsulate,
    GoTo,
    Meter,
    Output,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetVirtualNetwork,
    Tunnel,
)

ACTIONS: list[tuple[Action, ...]] = [
    (GoTo(PipelineTable.GUARD), SetVirtualNetwork(vni(5000))),
    (Output(12), GoTo(PipelineTable.FLOOD_LOCAL)),
    (Tunnel(vni(5000), IPv4Address("10.1.0.2")),),
    (Tunnel(vni(5000), IPv6Address("fd00::2"), hairpin=True),),
    (Aim(vni(5000), IPv6Address("fd00::3")), CheckLarger(1400), GoTo(PipelineTable.FIT)),
    (ChooseInstance(2), GoTo(PipelineTable.SPREAD)),
    (Encapsulate(hairpin=True),),
    (ReportAction(),),
    (ReportAction(128, Meter(41, 100, 20)),),
]


@pytest.mark.parametrize("actions", ACTIONS, ids=str)
def test_a_rule_is_written_as_open_vswitch_writes_it(actions: tuple[Action, ...]) -> None:
    ours = ",".join(words(Rule(PipelineTable.FORWARD, 10, (), actions, Purpose.FORWARD)))
    printed = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow13", "parse-flow", f"table=0,actions={ours}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.splitlines()[-1].partition(" actions=")[2] == ours
