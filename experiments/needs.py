"""What vmmlab needs of a machine, what needs it, and the remedy: one table.

`vmmlab doctor` shows all of it.  A run is refused before anything is built when something that it
needs is absent.  scripts/install-debian-packages installs the packages; a test compares the two.

The table gives each program's package; what starts a program is said where that is defined: for
every run here, for a kind of traffic or an overlay in its file (`PROGRAMS`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments import overlays
from experiments.catalogue import WORKLOADS
from experiments.scenario.schema import Scenario
from nve.transfer.convergence import MAY_RESUME_FIRST

OPEN_VSWITCH = (
    *("ovs-vswitchd", "ovsdb-server", "ovsdb-tool"),
    *("ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovs-dpctl"),
)

PACKAGES: Mapping[str, str] = {
    # program: the Debian package that it comes in
    **dict.fromkeys(OPEN_VSWITCH, "openvswitch-switch"),
    "mnexec": "mininet",
    **dict.fromkeys(("ip", "tc", "bridge", "ss"), "iproute2"),
    "ethtool": "ethtool",
    "ping": "iputils-ping",
    "iperf3": "iperf3",
    "tcpdump": "tcpdump",
    "brctl": "bridge-utils",
    "arping": "iputils-arping",
    "busybox": "busybox-static",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "knotd": "knot",
    "mtr": "mtr-tiny",
    "ndisc6": "ndisc6",
}

EVERY_RUN = ("mnexec", "ip", "tc", "bridge", "ethtool", "ping")
"""The programs of every run; the overlay and the traffic need further ones."""

CAPTURES = ("tcpdump",)
"""The programs of `vmmlab run --pcap`."""

NAME_SERVER = ("knotd",)
"""The programs of a scenario with `name_server`."""

MULTIPATH = ("ss",)
"""The programs of a task with `multipath`."""

OTHERWISE: Mapping[str, tuple[str, ...]] = {
    # what is no kind of traffic and no overlay: the programs that it needs
    "`vmmlab run --pcap`": CAPTURES,
    "`make bench`": ("brctl",),
    "`make test`": ("arping", "busybox", "curl", "dig", "dnsmasq", "mtr", "ndisc6"),
    "scenarios with `name_server`": NAME_SERVER,
    "tasks with `multipath`": MULTIPATH,
}

OTHER_PACKAGES = (
    # packages without a program that could be looked for
    *("ca-certificates", "git", "kmod", "procps", "python3-openvswitch", "python3-venv"),
    *("python3-xxhash", "python3-zstandard"),
)


@dataclass(frozen=True)
class Feature:
    """A feature that a kernel may have."""

    what: str
    lacking: str
    """What does not work without it."""
    remedy: str

    def refusal(self, place: str) -> str:
        """Return the message for a scenario that asks for the feature with this key."""
        return f"{place}: {self.lacking}; {self.remedy}"


IFB = Feature(
    "hold packets for a moving VM", "no ifb: scenarios with `hold: true` cannot run", "modprobe ifb"
)
NETEM = Feature(
    "link delay, jitter, loss",
    "the kernel has no netem",
    "modprobe sch_netem, or use Debian's kernel: apt-get install linux-image-amd64 and reboot",
)
KERNEL_DATAPATH = Feature(
    "Open vSwitch datapath",
    "the kernel has no usable openvswitch module",
    "use Debian's kernel: apt-get install linux-image-amd64 and reboot, or vagrant up",
)

POST_COPY = Feature(
    "post-copy: VMs that run before their memory has come",
    "the kernel cannot make a process wait for missing pages of shared memory (userfaultfd): "
    "`post-copy` and `hybrid` cannot run",
    "use Debian's kernel: apt-get install linux-image-amd64 and reboot",
)
MULTIPATH_TCP = Feature(
    "Multipath TCP",
    "the kernel has no Multipath TCP: tasks with `multipath` cannot run",
    "use Debian's kernel: apt-get install linux-image-amd64 and reboot",
)
IPV6 = Feature(
    "IPv6",
    "the kernel has no IPv6: VMs have IPv4 addresses only",
    "boot without ipv6.disable=1",
)


def remedy(program: str) -> str:
    """Return the command that installs a program."""
    return f"apt-get install {PACKAGES[program]}"


def users() -> Mapping[str, tuple[str, ...]]:
    """Return what needs each program; an empty entry is every run with the usual overlay."""
    found: dict[str, list[str]] = {program: [] for program in PACKAGES}
    for user, programs in _users():
        for program in programs:
            found[program].append(user)
    usual = {*EVERY_RUN, *overlays.get(overlays.DEFAULT).programs}
    return {program: () if program in usual else tuple(who) for program, who in found.items()}


def _users() -> Iterable[tuple[str, tuple[str, ...]]]:
    for kind, workload in WORKLOADS.all().items():
        yield f"traffic: {kind}", workload.PROGRAMS
    for kind in overlays.names():
        yield f"overlay: {kind}", overlays.get(kind).programs
    yield from OTHERWISE.items()


def of_scenario(scenario: Scenario) -> Mapping[str, str]:
    """Return the programs that a scenario needs: for each, what starts it."""
    overlay = scenario.overlay.kind
    found = dict.fromkeys(EVERY_RUN, "every run")
    found |= dict.fromkeys(overlays.get(overlay).programs, f"overlay: {overlay}")
    if scenario.name_server:
        found |= dict.fromkeys(NAME_SERVER, "name_server")
    if any(task.multipath for task in scenario.tasks.values()):
        found |= dict.fromkeys(MULTIPATH, "a task with `multipath`")
    for sent in scenario.traffic:
        found |= dict.fromkeys(WORKLOADS.get(sent.kind).PROGRAMS, f"traffic: {sent.kind}")
    return found


def of_ipv6(scenario: Scenario) -> Sequence[str]:
    """Return the keys by which a scenario asks for IPv6."""
    flows = enumerate(scenario.traffic)
    more = (
        (number, vm, place)
        for number, each in enumerate(scenario.tenants)
        for vm, place in each.vms.items()
    )
    return [
        *(["topology.underlay: ipv6"] if scenario.topology.parameters.underlay == "ipv6" else []),
        *(
            f"traffic.{n}.family: ipv6"
            for n, sent in flows
            if getattr(sent, "family", "") == "ipv6"
        ),
        *(
            f"tenants.{number}.vms.{vm}.addresses: {address}"
            for number, vm, place in more
            for address in place.addresses
            if address.version == 6
        ),
    ]


def of_multipath(scenario: Scenario) -> Sequence[str]:
    """The keys by which a scenario asks for Multipath TCP."""
    of_clients = enumerate(scenario.traffic)
    return [
        *(f"tasks.{name}.multipath: true" for name, t in scenario.tasks.items() if t.multipath),
        *(
            f"traffic.{number}.protocol: mptcp"
            for number, sent in of_clients
            if getattr(sent, "protocol", "") == "mptcp"
        ),
    ]


def of_post_copy(scenario: Scenario) -> Sequence[str]:
    """Return the keys by which a scenario asks for VMs that run before their memory has come."""
    return [
        f"moves.{number}.transfer.kind: {move.transfer.kind}"
        for number, move in enumerate(scenario.moves)
        if move.transfer and move.transfer.kind in MAY_RESUME_FIRST
    ]


def guest_memory_mb(scenario: Scenario) -> int:
    """What the guests of a scenario take of the machine; one that moves, or has a standby, takes it
    at two places."""
    twice = {*(move.vm for move in scenario.moves), *scenario.standbys}
    return sum(guest.size_mb * (1 + (vm in twice)) for vm, guest in scenario.guests.items())
