"""The counters that tell whether this machine, and not the network, has lost a packet.

The emulated data centre shares one kernel, whose tables and queues have limits that no VM, NVE or
link of the scenario has.  What is dropped there is no loss of the network.  So every counter of the
table below is read when the traffic begins and when it has ended, and a run in which one has risen
is *not valid*: the reason is a sentence that names the remedy.

It stays valid, with a note, if the counter is about a delay or about the control network, and if no
measured packet was lost, so that none can have been dropped there.

What a scenario asks for is not among them: the loss of a link, the queue of a link with a rate, the
limits of an NVE, and what a gate of a moving VM had no room for are counted where they happen.  A
packet that waits for a neighbour which does not answer is the network's, too.

One more thing is the machine's doing and makes a run not valid if packets were lost: that it took
more than a second to plug a VM into an NVE, to unplug it, or to begin a failure for which a move
waits (`experiments.measure.stalls`).

Pure: texts of files in, numbers and sentences out.  `experiments.run.kernel_watch` reads the files.
"""

import enum
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Read: TypeAlias = Callable[[str], int | None]
"""Returns the value of a counter from the text of its file, or None if that has no such counter."""
Reading: TypeAlias = Mapping[tuple[str, str], int]
"""The values of counters, by counter and place."""
Rises: TypeAlias = Mapping[str, Mapping[str, int]]
"""By how much counters have risen: by counter, then by place."""

THE_MACHINE = "the machine"
MOST_PLACES = 4
"""The largest number of places that a sentence names."""

_CABLE = re.compile(r"(?:to|p|l)-|w\d+[ab]$")
"""The ends of the data centre's cables: of links, plugs and lanes, and the delay line's halves."""
_CONTROL_CABLE = re.compile(r"to-ctl$")


class Scope(enum.StrEnum):
    """What there is one such counter for: the machine, each namespace, each switch or each link."""

    MACHINE = "the machine"
    VM = "each VM"
    NODE = "each namespace"
    SWITCH = "each switch"
    LINK = "each direction of a link"


class Effect(enum.StrEnum):
    """What the rise of a counter means for a run."""

    NOT_VALID = "not valid"
    NOTE = "note"
    ORDER = "note where packets came out of order"


@dataclass(frozen=True)
class KernelCounter:
    """One line of the table.  `says` is a sentence with `{n}` for the number and `{places}`."""

    key: str
    scope: Scope
    where: str
    """The file below /proc, or the command, and the counter in it."""
    says: str
    remedy: str
    effect: Effect = Effect.NOT_VALID
    read: Read = field(default=lambda _: None, compare=False)
    """Reads the value from the file; switches and links are read by other means."""

    @property
    def place(self) -> str:
        """Where the counter can be looked up."""
        namespace = "" if self.scope is Scope.MACHINE else "<pid>/"
        return self.where if self.scope not in OF_FILES else f"/proc/{namespace}{self.where}"

    @property
    def file(self) -> str:
        """The file below /proc, or below /proc/<pid> of a namespace."""
        return self.where.partition(":")[0]


def column(name: str) -> Read:
    """Return a reader of a column in a file with a heading and hexadecimal numbers, one line per
    processor.
    """

    def read(text: str) -> int | None:
        heading, *lines = text.splitlines() or [""]
        if name not in heading.split():
            return None
        place = heading.split().index(name)
        return sum(int(line.split()[place], 16) for line in lines)

    return read


def softnet(place: int) -> Read:
    """Return a reader of a column of softnet_stat, which has no heading."""
    return lambda text: sum(int(line.split()[place], 16) for line in text.splitlines())


def protocol(name: str, counter: str) -> Read:
    """Return a reader of a counter in snmp, which has a line of names and one of numbers per
    protocol.
    """

    def read(text: str) -> int | None:
        of_it = [line.split()[1:] for line in text.splitlines() if line.startswith(f"{name}: ")]
        if len(of_it) != 2:
            return None
        value = dict(zip(*of_it, strict=False)).get(counter)
        return None if value is None else int(value)

    return read


def named(counter: str) -> Read:
    """Return a reader of a counter in snmp6, which has a line for each."""

    def read(text: str) -> int | None:
        found = re.search(rf"^{counter}\s+(\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else None

    return read


def not_sent(*, control: bool) -> Read:
    """Return a reader of net/dev: what the ends of cables could not send.

    `control` chooses the cables of the control network, or the others.
    """

    def read(text: str) -> int:
        total = 0
        for line in text.splitlines():
            interface, colon, numbers = line.partition(":")
            name = interface.strip()
            if not colon or not _CABLE.match(name):
                continue
            if bool(_CONTROL_CABLE.match(name)) == control:
                total += int(numbers.split()[11])
        return total

    return read


def without(read: Read, part: Read) -> Read:
    """Return a reader of a counter less another one that is contained in it."""

    def difference(text: str) -> int | None:
        whole, contained = read(text), part(text)
        return None if whole is None or contained is None else whole - contained

    return difference


def _neighbours(version: int, file: str) -> KernelCounter:
    setting = f"net.ipv{version}.neigh.default.gc_thresh3"
    return KernelCounter(
        f"neighbour-table-ipv{version}",
        Scope.MACHINE,
        f"net/stat/{file}: table_fulls",
        f"the kernel's table of IPv{version} neighbours, one for all VMs, was full {{n}} times",
        f"raise {setting} (sysctl), or have fewer VMs talk to each other",
        read=column("table_fulls"),
    )


def _udp(key: str, counter: str, says: str, remedy: str) -> tuple[KernelCounter, KernelCounter]:
    """Return the counters for IPv4 and IPv6, which are separate."""
    receive_4, receive_6 = protocol("Udp", "RcvbufErrors"), named("Udp6RcvbufErrors")
    read_4, read_6 = protocol("Udp", counter), named(f"Udp6{counter}")
    if counter == "InErrors":
        read_4, read_6 = without(read_4, receive_4), without(read_6, receive_6)
    more = " without RcvbufErrors" if counter == "InErrors" else ""
    return (
        KernelCounter(
            f"{key}-ipv4", Scope.VM, f"net/snmp: Udp {counter}{more}", says, remedy, read=read_4
        ),
        KernelCounter(
            f"{key}-ipv6", Scope.VM, f"net/snmp6: Udp6{counter}{more}", says, remedy, read=read_6
        ),
    )


def _conntrack(name: str, what: str) -> KernelCounter:
    return KernelCounter(
        f"conntrack-{name.replace('_', '-')}",
        Scope.NODE,
        f"net/stat/nf_conntrack: {name}",
        f"connection tracking {what} {{n}} packets at {{places}}",
        "remove the nftables or iptables rules that track connections in every namespace, or "
        "raise net.netfilter.nf_conntrack_max",
        read=column(name),
    )


SLOWER = "lower rate_pps, or give the machine more CPUs"

COUNTERS: tuple[KernelCounter, ...] = (
    _neighbours(4, "arp_cache"),
    _neighbours(6, "ndisc_cache"),
    KernelCounter(
        "backlog-dropped",
        Scope.MACHINE,
        "net/softnet_stat: column 2",
        "a processor's queue for packets that have left a cable was full: {n} were dropped",
        f"raise net.core.netdev_max_backlog (sysctl); or {SLOWER}",
        read=softnet(1),
    ),
    KernelCounter(
        "backlog-squeezed",
        Scope.MACHINE,
        "net/softnet_stat: column 3",
        "a processor has put packets off because there were too many at once, so that delays "
        "contain some of the machine's (count: {n})",
        SLOWER,
        Effect.NOTE,
        read=softnet(2),
    ),
    *_udp(
        "udp-receive",
        "RcvbufErrors",
        "{n} UDP packets had arrived and found no room in a socket at {places}",
        SLOWER,
    ),
    *_udp(
        "udp-send",
        "SndbufErrors",
        "{n} UDP packets were taken from their sender and not sent at {places}",
        SLOWER,
    ),
    *_udp(
        "udp-unusable",
        "InErrors",
        "{n} UDP packets arrived at {places} with a wrong checksum, or found no memory",
        "look for what changes packets on their way (offloads: ethtool -k), and for free memory",
    ),
    KernelCounter(
        "cable-dropped",
        Scope.NODE,
        "net/dev: transmit drop of cables",
        "the kernel dropped {n} packets at the other end of cables of {places}",
        f"raise net.core.netdev_max_backlog (sysctl); or {SLOWER}",
        read=not_sent(control=False),
    ),
    KernelCounter(
        "control-cable-dropped",
        Scope.NODE,
        "net/dev: transmit drop of the control network's cables",
        "the kernel dropped {n} packets of the control network at the other end of cables of "
        "{places}; they were sent again",
        f"raise net.core.netdev_max_backlog (sysctl); or {SLOWER}",
        Effect.NOTE,
        read=not_sent(control=True),
    ),
    _conntrack("insert_failed", "had no place for and dropped"),
    _conntrack("drop", "dropped"),
    KernelCounter(
        "upcall-lost",
        Scope.SWITCH,
        "ovs-appctl dpctl/show (datapath system): lost",
        "{n} packets that the switches' datapath had no flow for did not get to ovs-vswitchd, at "
        "{places}",
        SLOWER,
    ),
    KernelCounter(
        "upcall-failed",
        Scope.SWITCH,
        "ovs-appctl coverage/show (datapath netdev): datapath_drop_upcall_error, "
        "datapath_drop_lock_error",
        "ovs-vswitchd had no rules at hand for {n} packets and dropped them, at {places}",
        SLOWER,
    ),
    KernelCounter(
        "upcall",
        Scope.SWITCH,
        "ovs-appctl dpctl/show (datapath system): missed",
        "{n} packets found no flow in the kernel's datapath and went through ovs-vswitchd, at "
        "{places}: packets behind them may have overtaken them",
        f"see docs/how-it-works/README.md, Order on a busy machine; {SLOWER}",
        Effect.ORDER,
    ),
    KernelCounter(
        "switch-socket",
        Scope.SWITCH,
        "packet sockets of ovs-vswitchd (datapath netdev): SO_MEMINFO, drops",
        "{n} packets found no room in the sockets of the userspace switches at {places}",
        SLOWER,
    ),
    KernelCounter(
        "link-queue",
        Scope.LINK,
        "links.overflowed, links.unsent, links.dropped in the manifest",
        "the emulation of links had no room for {n} packets: {places}",
        SLOWER,
    ),
    KernelCounter(
        "link-socket",
        Scope.LINK,
        "packet sockets of the delay line: PACKET_STATISTICS; links.kernel_dropped in the manifest",
        "{n} packets found no room in the sockets of the delay line: {places}",
        SLOWER,
    ),
)

OF_FILES = {
    scope: [counter for counter in COUNTERS if counter.scope is scope]
    for scope in (Scope.MACHINE, Scope.VM, Scope.NODE)
}


def of_files(scope: Scope, place: str, text: Callable[[str], str | None]) -> Reading:
    """Return the values of counters in files; `text(file)` returns None if there is no such
    file.
    """
    values = {}
    for counter in OF_FILES[scope]:
        found = text(counter.file)
        value = None if found is None else counter.read(found)
        if value is not None:
            values[counter.key, place] = value
    return values


def of_links(rows: Iterable[Mapping[str, Any]], by_design: Iterable[str]) -> Reading:
    """Return the values of the counters of links, from their statistics.

    `by_design` names the directions that drop because the scenario says so.  Their netem counts
    those drops together with packets that found no room.
    """
    designed = set(by_design)
    values: dict[tuple[str, str], int] = {}
    for row in rows:
        direction = str(row["direction"])
        dropped = 0 if direction in designed else row.get("dropped", 0)
        values["link-queue", direction] = dropped + row.get("overflowed", 0) + row.get("unsent", 0)
        values["link-socket", direction] = row.get("kernel_dropped", 0)
    return values


def rises(before: Reading, after: Reading) -> Rises:
    """Return by how much counters have risen in between.

    A counter that is lower than before has begun anew, like that of a switch which was restarted.
    """
    risen: dict[str, dict[str, int]] = {}
    for (key, place), value in after.items():
        began = before.get((key, place), 0)
        if more := value - began if value >= began else value:
            risen.setdefault(key, {})[place] = more
    return risen


def accounted(probes: Mapping[str, Any]) -> Reading:
    """Return what the probes have counted themselves and the result reports separately.

    That is what a receiver had to drop, and what the kernel refused to send.
    """
    told = {}
    for vm, receiver in probes.get("receivers", {}).items():
        told["udp-receive", vm] = receiver["overflow"]
    for vm, sender in probes.get("senders", {}).items():
        flows = sender["flows"].values()
        told["udp-send", vm] = sum(sum(flow["send_errors"].values()) for flow in flows)
    return {(f"{key}-{ip}", vm): n for (key, vm), n in told.items() for ip in ("ipv4", "ipv6")}


def beyond(risen: Rises, accounted: Reading) -> Rises:
    """Return the rises less what was counted and reported elsewhere."""
    left: dict[str, dict[str, int]] = {}
    for key, places in risen.items():
        for place, count in places.items():
            if (more := count - accounted.get((key, place), 0)) > 0:
                left.setdefault(key, {})[place] = more
    return left


def without_switches(risen: Rises, died: Collection[str]) -> Rises:
    """Return the rises, except those in the switches of NVEs that the scenario let die.

    A switch that was restarted has no rules until the NVA has told it: what it drops until then is
    caused by that failure.
    """
    of_switches = {counter.key for counter in COUNTERS if counter.scope is Scope.SWITCH}
    left = {
        key: {p: n for p, n in places.items() if key not in of_switches or p not in died}
        for key, places in risen.items()
    }
    return {key: places for key, places in left.items() if places}


@dataclass
class Verdict:
    """Sentences that say why a run is not valid, and what else has to be known of it."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verdict(risen: Rises, *, lost: int | None, reordered: int = 0) -> Verdict:
    """Return what the rises mean for a run.

    `lost` is the number of measured packets that did not arrive; None if not every packet was
    numbered, so that it is unknown.
    """
    found = Verdict()
    for counter in COUNTERS:
        if not (places := risen.get(counter.key)):
            continue
        if counter.effect is Effect.NOT_VALID and lost != 0:
            found.problems.append(f"{sentence(counter, places)}; {counter.remedy}")
        elif counter.effect is Effect.NOT_VALID:
            harmless = "no measured packet was lost by it"
            found.notes.append(f"{sentence(counter, places)}; {harmless}; {counter.remedy}")
        elif counter.effect is Effect.NOTE or reordered:
            found.notes.append(f"{sentence(counter, places)}; {counter.remedy}")
    return found


def sentence(counter: KernelCounter, places: Mapping[str, int]) -> str:
    """Return the sentence of a counter, with the number and the places."""
    most = sorted(places, key=lambda place: (-places[place], place))
    named_places = ", ".join(
        f"{place} ({places[place]:,})" if len(most) > 1 else place for place in most[:MOST_PLACES]
    )
    if len(most) > MOST_PLACES:
        named_places += f" and {len(most) - MOST_PLACES} more"
    return counter.says.format(n=f"{sum(places.values()):,}", places=named_places)


def unwatched(reading: Reading) -> list[str]:
    """Return a sentence for each of the machine's counters that could not be read."""
    read = {key for key, _ in reading}
    return [
        f"{counter.place} was not watched: this namespace does not show it"
        for counter in OF_FILES[Scope.MACHINE]
        if counter.key not in read
    ]
