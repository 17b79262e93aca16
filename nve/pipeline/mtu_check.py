"""What fits into a tunnel, and what becomes of a frame that does not (R5.3).

VXLAN puts 50 or 70 octets around a packet, and no NVE may fragment what it tunnels (RFC 7348
section 4.3).  So every tunnel has an MTU, which follows from the links below it.  A VM whose own
MTU is larger, as it was set for another data centre, has to be told: by path MTU discovery
(RFC 1191, RFC 8201), for which the NVE does what a router on the way would.

    [FORWARD] or [FROM_TUNNEL]   aim at the other NVE; is it larger than that tunnel's MTU?
              |
            [FIT]  -->  larger: report to the NVA, which answers the sender
            (controller.core.path_mtu)
                        else:   encapsulate

Only a virtual network whose VMs may send more than a tunnel carries has any of this; all others
have the plain `Tunnel`.  Frames to a group are tunnelled all the same, by whatever carries them,
and reported to be counted: one answer for many receivers would take the best path down to the
worst.  Reports are metered as all others are (`nve.pipeline.limits`).

Known gap: Open vSwitch credits a packet to the rules on both sides of a check, so the counters of
table FIT say nothing.  What was too big is in the trace.
"""

from collections.abc import Iterator

from nve.model import TenantSystem, Vni
from nve.pipeline.rules import (
    GROUP,
    VXLAN_PORT,
    Action,
    Aim,
    CheckLarger,
    Encapsulate,
    GoTo,
    Meter,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    Tunnel,
    match,
)

ETHERNET_OCTETS = 14
QUOTED_OCTETS = 1280 - 40 - 8
"""The most of a packet that an answer quotes (RFC 4443 section 2.4 (c); IPv4 takes less)."""
REPORTED_OCTETS = ETHERNET_OCTETS + QUOTED_OCTETS


def towards(tunnel: Tunnel, mtu: int | None) -> tuple[Action, ...]:
    """The actions that tunnel a frame; with an MTU, only if it fits."""
    if mtu is None:
        return (tunnel,)
    return (Aim(tunnel.vni, tunnel.to), CheckLarger(mtu), GoTo(PipelineTable.FIT))


def counted(mtu: int | None) -> tuple[Action, ...]:
    """What a flood ends with, to have frames reported that some tunnel does not carry."""
    return () if mtu is None else (CheckLarger(mtu), GoTo(PipelineTable.FIT))


def rules(vni: Vni, meter: Meter) -> Iterator[Rule]:
    """What table FIT does with the frames of a virtual network; `meter` is the tunnels'."""
    big_in_flight = match(metadata=vni, in_port=VXLAN_PORT, reg0=1)
    to_group = match(metadata=vni, eth_dst=GROUP)
    in_flight = match(metadata=vni, in_port=VXLAN_PORT)
    yield Rule(PipelineTable.FIT, 40, big_in_flight, (_report(meter),), Purpose.TOO_BIG)
    yield Rule(PipelineTable.FIT, 30, to_group, (), Purpose.FLOOD)
    yield Rule(PipelineTable.FIT, 20, in_flight, (Encapsulate(hairpin=True),), Purpose.FIT)
    yield Rule(PipelineTable.FIT, 10, match(metadata=vni), (Encapsulate(),), Purpose.FIT)


def of_port(system: TenantSystem, port: int, meter: Meter) -> Rule:
    """What it does with a frame that a VM here has sent, and that is too big."""
    too_big = match(in_port=port, reg0=1)
    return Rule(PipelineTable.FIT, 40, too_big, (_report(meter),), Purpose.TOO_BIG, system)


def _report(meter: Meter) -> ReportAction:
    return ReportAction(REPORTED_OCTETS, meter)
