"""What NVEs have dropped, by NVE, VM port or tunnel source, and reason (R9.1-R9.4).

A switch keeps the counts of a rule or meter only as long as the rule or meter exists.  When a VM's
port goes, its rules and meters go too; the switch reports their last counts, which are added up
here, so that no total ever falls.  The counts of rules and meters that still exist are requested
from the switches when somebody wants to know.

Known gap: a datapath hands its counts on to the rules some milliseconds later; what it has not yet
handed on when a rule is removed is not counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nve.model import TenantSystem
from nve.pipeline.limits import metered
from nve.pipeline.rules import TUNNEL_PORTS, Purpose, Rule

COUNTED = frozenset(
    {
        Purpose.UNKNOWN_LOCATOR,
        *(Purpose.UNKNOWN_VTEP, Purpose.UNKNOWN_VNI, Purpose.UNKNOWN_PORT),
        *(Purpose.UNKNOWN_DESTINATION, Purpose.SPOOFED, Purpose.VLAN_TAGGED),
        *(Purpose.NO_LONGER_FORWARDED, Purpose.FENCED, Purpose.NOT_ROUTED),
    }
)
"""The purposes of rules that drop what should not have been sent, or no longer to this NVE."""


@dataclass(frozen=True)
class Reason:
    """What was dropped at an NVE and why (`what`), and where it came from: a VM's port or a
    tunnel.
    """

    nve: str
    port: int | None
    tunnel_source: str | None
    what: str


class Drops:
    """Keeps a total for each reason, although the rules and meters of a switch come and go."""

    def __init__(self) -> None:
        self._gone: Counter[Reason] = Counter()
        self._watched: dict[tuple[str, int], Rule] = {}
        self._systems: dict[tuple[str, int], TenantSystem] = {}

    def watch(self, nve: str, rules: Iterable[Rule]) -> None:
        """Remember rules that an NVE is about to get, so that their last counts can be
        attributed.
        """
        for rule in rules:
            if rule.purpose in COUNTED and rule.reports_end:
                self._watched[nve, rule.cookie] = rule
                reason = _reason(nve, rule)
                if rule.about and reason.port is not None:
                    self._systems[nve, reason.port] = rule.about

    def rule_ended(self, nve: str, cookie: int, packets: int) -> bool:
        """Add the last count of a watched rule; return whether the rule was one."""
        rule = self._watched.get((nve, cookie))
        if rule is not None:
            self._gone[_reason(nve, rule)] += packets
        return rule is not None

    def meter_ended(self, nve: str, number: int, dropped: int) -> None:
        self._gone[_of_meter(nve, number)] += dropped

    def system(self, reason: Reason) -> TenantSystem | None:
        """Return the VM that has, or had last, the port of a reason; None if there is no port."""
        return None if reason.port is None else self._systems.get((reason.nve, reason.port))

    def total(
        self,
        rules: Mapping[str, Iterable[tuple[Rule, int]]],
        meters: Mapping[str, Iterable[tuple[int, int]]],
    ) -> Iterator[tuple[Reason, int]]:
        """Yield each reason with all packets dropped so far, in a stable order.

        `rules` holds, for each NVE, its present rules with their counts, and `meters` its meter
        numbers with theirs.
        """
        sums = Counter(self._gone)
        for nve, counted in rules.items():
            for rule, packets in counted:
                if rule.purpose in COUNTED:
                    sums[_reason(nve, rule)] += packets
        for nve, dropped in meters.items():
            for number, packets in dropped:
                sums[_of_meter(nve, number)] += packets
        found = [(reason, packets) for reason, packets in sums.items() if packets]
        yield from sorted(found, key=lambda item: str(item[0]))


def _reason(nve: str, rule: Rule) -> Reason:
    fields = dict(rule.match)
    port = fields.get("in_port")
    source = fields.get("tun_ipv4_src", fields.get("tun_ipv6_src"))
    return Reason(
        nve,
        None if port is None else _vm_port(int(port)),
        str(source) if source is not None else None,
        rule.purpose.value,
    )


def _of_meter(nve: str, number: int) -> Reason:
    port, what = metered(number)
    return Reason(nve, _vm_port(port), None, what)


def _vm_port(port: int) -> int | None:
    return None if port in TUNNEL_PORTS else port
