"""What Open vSwitch prints of packets that it had no room for, as numbers."""

import pytest

from experiments.measure.kernel_counters import COUNTERS, Scope
from nve.ovs.counters import counted

SHOWN = """\
system@ovs-system:
  lookups: hit:414 missed:97 lost:3
  flows: 0
  masks: hit:498 total:0 hit/pkt:0.97
"""
COVERAGE = """\
Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=d5a6d8d0:
datapath_drop_upcall_error   0.0/sec     0.067/sec        0.0011/sec   total: 4
datapath_drop_lock_error     0.0/sec     0.000/sec        0.0000/sec   total: 1
datapath_drop_meter          9.0/sec     9.000/sec        9.0000/sec   total: 99
95 events never hit
"""


def test_the_kernel_s_datapath_tells_of_its_upcalls() -> None:
    assert counted(SHOWN, COVERAGE, 0, kernel=True) == {"upcall": 97, "upcall-lost": 3}


def test_the_userspace_datapath_tells_of_what_it_dropped_for_want_of_rules() -> None:
    """A meter drops because it is told to; "lost" are packets without a flow, which passed."""
    assert counted(SHOWN, COVERAGE, 2, kernel=False) == {"upcall-failed": 5, "switch-socket": 2}
    assert counted(SHOWN, "", 0, kernel=False) == {"upcall-failed": 0, "switch-socket": 0}


def test_the_two_have_all_counters_of_switches() -> None:
    told = {key for kernel in (True, False) for key in counted(SHOWN, COVERAGE, 0, kernel=kernel)}
    assert told == {each.key for each in COUNTERS if each.scope is Scope.SWITCH}


def test_a_datapath_that_shows_no_lookups_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="no lookups"):
        counted("", COVERAGE, 0, kernel=True)
