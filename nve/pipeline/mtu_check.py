"""What fits into a tunnel, and what happens to a frame that does not (R5.3).

VXLAN puts 50 or 70 octets around a packet, and no NVE may fragment what it tunnels (RFC 7348
section 4.3).  So every tunnel has an MTU, which follows from the links below it.  A VM whose own
MTU is larger, because it was set for another data centre, has to be told by path MTU discovery (RFC
1191, RFC 8201), for which the NVE does what a router on the way would do.

    [FORWARD] or [FROM_TUNNEL]   aim at the other NVE; is it larger than that tunnel's MTU?
              |
            [FIT]  -->  larger: report to the NVA, which answers the sender
            (controller.core.path_mtu)
                        else:   encapsulate

Only virtual networks whose VMs may send more than a tunnel carries have these rules; all others
have the plain `Tunnel`.  A frame to a group is sent into every tunnel that carries it and also
reported, to be counted; its sender gets no answer, as that would reduce the best path's MTU to the
worst's. These reports are metered like all others (`nve.pipeline.limits`).

Known gap: Open vSwitch credits a packet to the rules on both sides of a check, so the counters of
table FIT are meaningless.  The trace says what was too big.
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
"""The most octets of a packet that an answer quotes (RFC 4443 section 2.4 (c); IPv4 takes less)."""
REPORTED_OCTETS = ETHERNET_OCTETS + QUOTED_OCTETS


def towards(tunnel: Tunnel, mtu: int | None) -> tuple[Action, ...]:
    """Return the actions that tunnel a frame; with an MTU, they tunnel it only if it fits."""
    if mtu is None:
        return (tunnel,)
    return (Aim(tunnel.vni, tunnel.to), CheckLarger(mtu), GoTo(PipelineTable.FIT))


def counted(mtu: int | None) -> tuple[Action, ...]:
    """Return the actions at the end of a flood that report frames which some tunnel does not
    carry.
    """
    return () if mtu is None else (CheckLarger(mtu), GoTo(PipelineTable.FIT))


def rules(vni: Vni, meter: Meter) -> Iterator[Rule]:
    """Yield the rules of table FIT for a virtual network; `meter` limits reports of tunnelled
    frames.
    """
    big_in_flight = match(metadata=vni, in_port=VXLAN_PORT, reg0=1)
    to_group = match(metadata=vni, eth_dst=GROUP)
    in_flight = match(metadata=vni, in_port=VXLAN_PORT)
    yield Rule(PipelineTable.FIT, 40, big_in_flight, (_report(meter),), Purpose.TOO_BIG)
    yield Rule(PipelineTable.FIT, 30, to_group, (), Purpose.FLOOD)
    yield Rule(PipelineTable.FIT, 20, in_flight, (Encapsulate(hairpin=True),), Purpose.FIT)
    yield Rule(PipelineTable.FIT, 10, match(metadata=vni), (Encapsulate(),), Purpose.FIT)


def of_port(system: TenantSystem, port: int, meter: Meter) -> Rule:
    """Return the rule that reports a too big frame of a VM here."""
    too_big = match(in_port=port, reg0=1)
    return Rule(PipelineTable.FIT, 40, too_big, (_report(meter),), Purpose.TOO_BIG, system)


def _report(meter: Meter) -> ReportAction:
    return ReportAction(REPORTED_OCTETS, meter)
