"""Each counter of the table, raised in the text that a kernel shows, makes a run not valid."""

from collections.abc import Mapping
from typing import Any

import pytest

from experiments.measure import kernel_counters
from experiments.measure.kernel_counters import COUNTERS, Effect, KernelCounter, Reading, Scope

NEIGHBOURS = """\
entries  allocs   destroys hash_grows forced_gc_runs unresolved_discards table_fulls
0000001c 000014c0 000016a6 00000001   00000000       00000000            00000000
0000001c 000012dd 000010db 00000004   00000000       00000000            00000010
"""
SOFTNET = """\
018501b9 00000002 00000015 00000000 00000000 00000000 00000000 00000000 00000000 0004ce2b 00000000
01d27f13 00000000 0000000c 00000000 00000000 00000000 00000000 00000000 00000000 000c34be 00000000
"""
SNMP = """\
Icmp: InMsgs InErrors
Icmp: 9 9
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
Udp: 13535 0 5 13537 5 3 0
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
UdpLite: 0 0 9 0 9 9 0
"""
SNMP6 = """\
Ip6InReceives                   	41
Udp6InErrors                    	5
Udp6RcvbufErrors                	5
Udp6SndbufErrors                	3
"""
DEVICES = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo
    lo:       0       0    0    9    0     0          0         0     0       0    0    9    0
p-nve1:       0       0    0    9    0     0          0         0     0       0    0    1    0
to-core:      0       0    0    9    0     0          0         0     0       0    0    0    0
to-ctl:       0       0    0    9    0     0          0         0     0       0    0    2    0
  eth0:       0       0    0    9    0     0          0         0     0       0    0    9    0
"""
CONNTRACK = """\
entries  clashres found insert insert_failed drop early_drop
00000001 00000000 00000 000000 00000000      0000 00000001
00000001 00000000 00000 000000 00000001      0000 00000000
"""
FILES = {
    "net/stat/arp_cache": NEIGHBOURS,
    "net/stat/ndisc_cache": NEIGHBOURS,
    "net/softnet_stat": SOFTNET,
    "net/snmp": SNMP,
    "net/snmp6": SNMP6,
    "net/dev": DEVICES,
    "net/stat/nf_conntrack": CONNTRACK,
}
SWITCH = dict.fromkeys(("upcall", "upcall-lost", "upcall-failed", "switch-socket"), 4)
LINK = {"direction": "nve1>core", "overflowed": 1, "unsent": 0, "dropped": 0, "kernel_dropped": 3}
RAISED: Mapping[str, tuple[str, str]] = {
    # counter: what its file says before, and when it is 7 more
    "neighbour-table-ipv4": ("00000010\n", "00000017\n"),
    "neighbour-table-ipv6": ("00000010\n", "00000017\n"),
    "backlog-dropped": ("01d27f13 00000000", "01d27f13 00000007"),
    "backlog-squeezed": ("0000000c", "00000013"),
    "udp-receive-ipv4": ("13535 0 5 13537 5 ", "13535 0 12 13537 12 "),
    "udp-receive-ipv6": ("\t5", "\t12"),
    "udp-send-ipv4": (" 3 0\n", " 10 0\n"),
    "udp-send-ipv6": ("\t3", "\t10"),
    "udp-unusable-ipv4": ("13535 0 5", "13535 0 12"),
    "udp-unusable-ipv6": ("Udp6InErrors                    \t5", "Udp6InErrors  \t12"),
    "cable-dropped": ("0    0    0    0\n", "0    0    7    0\n"),
    "control-cable-dropped": ("0    2    0", "0    9    0"),
    "conntrack-insert-failed": ("00000000      0000 00000001", "00000007      0000 00000001"),
    "conntrack-drop": ("  0000 00000001", "  0007 00000001"),
}


def reading(
    files: Mapping[str, str] = FILES,
    switch: Mapping[str, int] = SWITCH,
    link: Mapping[str, Any] = LINK,
) -> Reading:
    """What a machine with one VM, one NVE and one link shows."""
    shown: dict[tuple[str, str], int] = {}
    places = {Scope.MACHINE: kernel_counters.THE_MACHINE, Scope.NODE: "nve1", Scope.VM: "vm1"}
    for scope, place in places.items():
        shown |= kernel_counters.of_files(scope, place, files.get)
    shown |= {(key, "nve1"): value for key, value in switch.items()}
    shown |= kernel_counters.of_links([link], by_design=())
    return shown


def later(counter: KernelCounter) -> Reading:
    """The same when that counter has risen by 7, and nothing else."""
    if counter.scope is Scope.SWITCH:
        return reading(switch={**SWITCH, counter.key: SWITCH[counter.key] + 7})
    if counter.scope is Scope.LINK:
        raised = {"link-queue": {"unsent": 7}, "link-socket": {"kernel_dropped": 10}}
        return reading(link={**LINK, **raised[counter.key]})
    text = FILES[counter.file]
    before, after = RAISED[counter.key]
    # What a socket drops is an error, too.
    assert text.count(before) == (2 if counter.key == "udp-receive-ipv6" else 1)
    return reading({**FILES, counter.file: text.replace(before, after)})


def by_key(counters: tuple[KernelCounter, ...] = COUNTERS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("counter", counters, ids=lambda each: each.key)


def test_every_counter_has_a_name_of_its_own_and_is_read() -> None:
    keys = [counter.key for counter in COUNTERS]
    assert len(keys) == len(set(keys))
    assert {key for key, _ in reading()} == set(keys)
    assert kernel_counters.unwatched(reading()) == []


@by_key()
def test_a_counter_that_has_risen_is_told_of_and_no_other(counter: KernelCounter) -> None:
    risen = kernel_counters.rises(reading(), later(counter))
    assert {key: sum(places.values()) for key, places in risen.items()} == {counter.key: 7}
    found = kernel_counters.verdict(risen, lost=3, reordered=1)
    (told,) = found.problems + found.notes
    assert "7" in told
    assert told.endswith(counter.remedy)
    assert bool(found.problems) == (counter.effect is Effect.NOT_VALID)


@by_key()
def test_where_nothing_was_lost_the_run_is_valid_and_has_a_note(counter: KernelCounter) -> None:
    risen = kernel_counters.rises(reading(), later(counter))
    found = kernel_counters.verdict(risen, lost=0, reordered=1)
    assert (len(found.problems), len(found.notes)) == (0, 1)


@by_key(tuple(each for each in COUNTERS if each.effect is Effect.NOT_VALID))
def test_where_packets_were_not_numbered_nobody_knows(counter: KernelCounter) -> None:
    risen = kernel_counters.rises(reading(), later(counter))
    assert kernel_counters.verdict(risen, lost=None).problems


def test_upcalls_are_told_of_where_packets_came_out_of_order() -> None:
    risen = {"upcall": {"nve1": 7}}
    assert kernel_counters.verdict(risen, lost=3, reordered=0) == kernel_counters.Verdict()
    assert kernel_counters.verdict(risen, lost=3, reordered=1).notes


def test_nothing_has_risen_on_a_quiet_machine() -> None:
    assert kernel_counters.rises(reading(), reading()) == {}
    assert kernel_counters.verdict({}, lost=3, reordered=3) == kernel_counters.Verdict()


def test_a_counter_that_begins_anew_counts_from_nothing() -> None:
    before, after = {("upcall-lost", "nve1"): 9}, {("upcall-lost", "nve1"): 2}
    assert kernel_counters.rises(before, after) == {"upcall-lost": {"nve1": 2}}


def test_what_probes_have_counted_themselves_is_told_of_by_them() -> None:
    errors = {"flows": {"a": {"send_errors": {"EAGAIN": 4}}, "b": {"send_errors": {}}}}
    probes = {"receivers": {"vm1": {"overflow": 5}}, "senders": {"vm2": errors}}
    risen = {
        "udp-receive-ipv4": {"vm1": 5, "vm3": 1},
        "udp-send-ipv6": {"vm2": 6},
        "cable-dropped": {"vm1": 2},
    }
    assert kernel_counters.beyond(risen, kernel_counters.accounted(probes)) == {
        "udp-receive-ipv4": {"vm3": 1},
        "udp-send-ipv6": {"vm2": 2},
        "cable-dropped": {"vm1": 2},
    }


def test_a_link_that_loses_because_the_scenario_says_so_is_no_shortage() -> None:
    row = {"direction": "nve1>core", "forwarded": 9, "dropped": 7}
    assert kernel_counters.of_links([row], by_design=["nve1>core"])["link-queue", "nve1>core"] == 0
    assert kernel_counters.of_links([row], by_design=[])["link-queue", "nve1>core"] == 7


def test_a_sentence_names_the_worst_places() -> None:
    counter = next(each for each in COUNTERS if each.key == "cable-dropped")
    places = {f"vm{number}": number for number in range(1, 7)}
    said = kernel_counters.sentence(counter, places)
    assert said.endswith("cables of vm6 (6), vm5 (5), vm4 (4), vm3 (3) and 2 more")


def test_what_a_container_does_not_show_is_said() -> None:
    hidden = kernel_counters.unwatched(reading({"net/softnet_stat": SOFTNET}))
    assert [said.split(":")[0] for said in hidden] == [
        "/proc/net/stat/arp_cache",
        "/proc/net/stat/ndisc_cache",
    ]


def test_a_switch_that_was_to_die_is_not_held_to_have_dropped_packets() -> None:
    risen = {
        "upcall-failed": {"nve1": 3, "nve2": 1},
        "link-queue": {"nve1": 2},
        "upcall": {"nve1": 1},
    }

    assert kernel_counters.without_switches(risen, {"nve1"}) == {
        "upcall-failed": {"nve2": 1},
        "link-queue": {"nve1": 2},
    }
