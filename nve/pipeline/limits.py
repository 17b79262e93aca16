"""How much a VM may make its NVE report to the NVA (R4.1.8: one tenant must not slow another).

What a VM sends with ARP, neighbour discovery or reverse ARP goes to the NVA, and so does a frame
for a destination that the NVE does not know (R4.1.3).  A VM can send a hundred thousand such frames
a second, while the NVA, which all tenants share, can handle a few thousand.  So each VM's port has
two meters (OpenFlow 1.3 section 5.7) at its NVE, which drop and count the excess:

    reports   ARP, neighbour discovery, reverse ARP.  An honest host announces itself a few times a
              second, and again when it was not heard.
    misses    frames without an entry.  With `pull` these are tenants' packets, for as long as a
              question takes, and none of them may be lost: so the burst is large.

What comes from the underlay has the same limits at the port that it comes by: end markers, too big
packets in flight, and ICMPv6 errors of routers, which anybody there could forge.

The draft has no such limit; the values are this project's (docs/decisions/0012-limits.md).
"""

from dataclasses import dataclass

from nve.pipeline.rules import Meter


@dataclass(frozen=True)
class Limits:
    """The limits for each port: packets per second, and packets in a burst."""

    report_rate_pps: int = 100
    report_burst: int = 100
    miss_rate_pps: int = 500
    miss_burst: int = 1000

    def reports(self, port: int) -> Meter:
        return Meter(2 * port, self.report_rate_pps, self.report_burst)

    def misses(self, port: int) -> Meter:
        return Meter(2 * port + 1, self.miss_rate_pps, self.miss_burst)

    def markers(self, port: int) -> Meter:
        """Return the meter of end markers out of tunnels, in place of the one for misses.

        Somebody on the underlay could send any number of them.  A move brings some from each NVE.
        """
        return Meter(2 * port + 1, _MARKERS * self.miss_rate_pps, _MARKERS * self.miss_burst)


_MARKERS = 20
"""How many times more end markers than misses come."""
USUAL = Limits()


def metered(number: int) -> tuple[int, str]:
    """Return the port that a meter belongs to, and the name under which its drops are counted."""
    port, misses = divmod(number, 2)
    return port, "rate-limited-miss" if misses else "rate-limited-report"
