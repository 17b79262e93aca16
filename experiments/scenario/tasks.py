"""Tasks of a scenario, and their moves from one VM to another (draft, section 4.2).

    tasks:
      web: {on: vm1, program: http-server, addresses: [192.168.9.50], arguments: {octets: 5000000}}
    task_moves:
      - {at_s: 2, task: web, to: vm2, connections: migrate, meanwhile: hold, late: forward}

A task is a process with addresses of its own, in a VM, and `nve.task` moves it.  The VMs that it
visits may have its addresses; `hosts` names others that it may visit in `vmmlab shell`.

    name_server: {on: vm4, ttl_s: 2}
    tasks:
      web: {on: vm1, program: http-server, addresses: {vm1: [192.168.9.51], vm2: [192.168.9.52]}}

A task with other addresses in each VM is found by its name, here `web.lab.test`, which each move
leads elsewhere (R4.2.1.1).  Its connections cannot go with it: they are closed.

    tasks:
      web:
        {on: vm1, program: http-server, multipath: true,
         addresses: {nve1: [192.168.9.51], nve2: [192.168.9.52]}}
    moves:
      - {at_s: 2, vm: vm1, to: nve2}

With Multipath TCP, it is the task's VM that moves, and the task has another address at each NVE.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from experiments.scenario.parts import LIST, MAPPING, Address, Name, Part, form, no_such

GAP_S = 0.5
"""The time from one move of a task until its next may begin, in seconds."""


Addresses = Annotated[tuple[Address, ...], Field(min_length=1, max_length=8)]
AddressesInPlaces = dict[Name, Addresses]


class NameServerSpec(Part):
    """Knot DNS in a VM, which has the names of tasks."""

    on: Name
    """The VM in which it runs."""
    zone: str = Field("lab.test", pattern=r"^[a-z][a-z0-9-]{0,30}(\.[a-z][a-z0-9-]{0,30}){0,4}$")
    ttl_s: int = Field(2, ge=0, le=86_400)
    """How long an answer may be cached by those who have looked a name up, in seconds."""


class Task(Part):
    """One task."""

    on: Name
    """The VM in which it starts."""
    program: str
    """A program of `nve/task/programs/`, or `package.module:Class`."""
    addresses: Annotated[
        Annotated[Addresses, Tag(LIST)] | Annotated[AddressesInPlaces, Tag(MAPPING)],
        Discriminator(form),
    ]
    """The addresses that move with the task; or those that it has in each VM (with `multipath`, at
    each NVE)."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """The program's arguments."""
    hosts: tuple[Name, ...] = ()
    multipath: bool = False
    """Its connections are Multipath TCP's.  When its VM has moved, the address that it has there is
    added to them and the one before removed."""

    @property
    def has_a_name(self) -> bool:
        """Whether its addresses do not go with it, and only a name leads to it."""
        return isinstance(self.addresses, dict) and not self.multipath

    def addresses_at(self, nve: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """Return the addresses that a task with `multipath` has at an NVE."""
        return self.addresses.get(nve, ()) if isinstance(self.addresses, dict) else ()

    def addresses_in(self, vm: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """Return the addresses that the task may have in a VM; none if it cannot be there."""
        if self.multipath:
            return tuple(address for _, address in self.placed_addresses) if vm == self.on else ()
        if isinstance(self.addresses, dict):
            return self.addresses.get(vm, ())
        return self.addresses

    @property
    def placed_addresses(self) -> Iterator[tuple[str, IPv4Address | IPv6Address]]:
        """All addresses, each with the place of its key."""
        if isinstance(self.addresses, dict):
            for vm, listed in self.addresses.items():
                yield from ((f"{vm}.{place}", each) for place, each in enumerate(listed))
        else:
            yield from ((str(place), each) for place, each in enumerate(self.addresses))


class TaskMove(Part):
    """One move of a task, `at_s` seconds after the traffic began."""

    at_s: float = Field(ge=0)
    task: Name
    to: Name
    """The VM to which the task moves."""
    connections: Literal["migrate", "close"] = "migrate"
    """Whether connections are carried over (R4.2.1.3), or closed, so that the peers connect again
    (R4.2.1.2)."""
    meanwhile: Literal["hold", "drop", "unreachable", "port-unreachable"] = "hold"
    """How packets are treated that come while the task is suspended: they wait for it, are dropped
    silently, or are dropped and their senders told by ICMP (R4.2.1.1)."""
    late: Literal["forward", "drop"] = "forward"
    """What the old host does with packets that come to it afterwards (R4.2.1.4)."""
    record_s: float = Field(1.0, ge=0, le=60)
    """How long the old host remembers the connections that have moved, in seconds."""


def hosts_of(name: str, task: Task, moves: Sequence[TaskMove]) -> list[str]:
    """Return the VMs that a task may be in."""
    visited = [move.to for move in moves if move.task == name]
    return list(dict.fromkeys([task.on, *visited, *task.hosts]))


def not_reached(tasks: Mapping[str, Task], name: str, version: int) -> Iterator[tuple[str, str]]:
    """Yield why traffic cannot reach a task: (key, complaint)."""
    if name not in tasks:
        yield "task", no_such("task", name, tasks)
    elif version not in {address.version for _, address in tasks[name].placed_addresses}:
        yield "family", f"{name} has no address of IPv{version}; give it one, or change the family"


def contradictions(
    tasks: Mapping[str, Task],
    moves: Sequence[TaskMove],
    network: Mapping[str, int],
    others: Sequence[str],
    duration_s: float,
    name_server: NameServerSpec | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield where tasks and their moves do not fit the rest of their scenario: (field, complaint).

    `network` is the virtual network of each VM, `others` are names that are taken.
    """
    if name_server:
        if name_server.on not in network:
            yield "name_server.on", no_such("VM", name_server.on, network)
        if not any(task.has_a_name for task in tasks.values()):
            yield (
                "name_server",
                "no task has other addresses in each VM, so none needs a name; leave this out",
            )
    for name, task in tasks.items():
        if name in network or name in others:
            yield f"tasks.{name}", "a VM or another node has this name; choose another"
        for host in dict.fromkeys([task.on, *task.hosts]):
            if host not in network:
                yield (
                    f"tasks.{name}.{'on' if host == task.on else 'hosts'}",
                    no_such("VM", host, network),
                )
        yield from _without_a_name(name, task, moves, network, name_server)
    where = {name: task.on for name, task in tasks.items()}
    latest_s: dict[str, float] = {}
    for number, move in sorted(enumerate(moves), key=lambda item: item[1].at_s):
        place = f"task_moves.{number}"
        if move.at_s >= duration_s:
            yield f"{place}.at_s", f"this is after the end; raise duration_s above {move.at_s:g}"
        if move.task not in tasks:
            yield f"{place}.task", no_such("task", move.task, tasks)
            continue
        if move.to not in network:
            yield f"{place}.to", no_such("VM", move.to, network)
        elif network[move.to] != network.get(where[move.task]):
            yield (
                f"{place}.to",
                f"{move.to} is in another virtual network than {where[move.task]}",
            )
        if where[move.task] == move.to:
            yield f"{place}.to", f"{move.task} is at {move.to} already; name another VM"
        earliest_s = latest_s.get(move.task, -GAP_S) + GAP_S
        if move.at_s < earliest_s:
            yield (
                f"{place}.at_s",
                f"{move.task} is still being moved; the earliest is {earliest_s:g}",
            )
        where[move.task], latest_s[move.task] = move.to, move.at_s


def _without_a_name(
    name: str,
    task: Task,
    moves: Sequence[TaskMove],
    network: Mapping[str, int],
    name_server: NameServerSpec | None,
) -> Iterator[tuple[str, str]]:
    """Yield what does not fit a task that has other addresses in each VM."""
    if not task.has_a_name:
        return
    assert isinstance(task.addresses, dict)
    key = f"tasks.{name}.addresses"
    if name_server is None:
        yield (
            key,
            "clients find addresses given for each VM only by a name; add name_server: {on: a VM}",
        )
    elif network.get(name_server.on) != network.get(task.on):
        yield "name_server.on", f"{name_server.on} is in another virtual network than {task.on}"
    for vm in task.addresses:
        if vm not in network:
            yield f"{key}.{vm}", no_such("VM", vm, network)
    versions = {
        vm: [each.version for each in task.addresses_in(vm)] for vm in hosts_of(name, task, moves)
    }
    for vm, found in versions.items():
        if not found:
            yield key, f"{name} has no address in {vm}, where it may be; add {vm}: [an address]"
        elif found != versions[task.on] and versions[task.on]:
            yield f"{key}.{vm}", f"give it as many as in {task.on}, in the same order of versions"
    for number, move in enumerate(moves):
        if move.task != name:
            continue
        place, why = f"task_moves.{number}", f"the addresses of {name} do not go with it"
        if move.connections != "close":
            yield f"{place}.connections", f"{why}, so connections cannot move; say close"
        if move.meanwhile == "hold":
            yield f"{place}.meanwhile", f"{why}, so nothing can be held; say drop or unreachable"
        if move.late == "forward":
            yield f"{place}.late", f"{why}, so nothing can be forwarded; say drop"


def without_multipath(
    tasks: Mapping[str, Task],
    task_moves: Sequence[TaskMove],
    where: Mapping[str, str],
    nves: Sequence[str],
    visited: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, str]]:
    """Yield what does not fit tasks with `multipath`: (field, complaint).

    `where` is the NVE of each VM at first, and `visited` are the NVEs that it moves to.
    """
    for name, task in tasks.items():
        if not task.multipath:
            continue
        key = f"tasks.{name}.addresses"
        if not isinstance(task.addresses, dict):
            yield key, "with multipath the address differs at each NVE; say {nve1: [an address], …}"
            continue
        for nve in task.addresses:
            if nve not in nves:
                yield f"{key}.{nve}", no_such("NVE", nve, nves)
        start = where.get(task.on, "")
        for nve in dict.fromkeys([start, *visited.get(task.on, ())]):
            if len(task.addresses_at(nve)) != 1:
                yield key, f"say one address at {nve}, where {task.on} is to be"
        for number, move in enumerate(task_moves):
            if move.task == name:
                why = f"with multipath it is {task.on} that moves, with its kernel"
                yield f"task_moves.{number}", f"{why}; put it into moves"
