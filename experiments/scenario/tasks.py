"""Tasks of a scenario, and their moves from one VM to another (draft, section 4.2).

    tasks:
      web: {on: vm1, program: http-server, addresses: [192.168.9.50], arguments: {octets: 5000000}}
    task_moves:
      - {at_s: 2, task: web, to: vm2, connections: migrate, meanwhile: hold, late: forward}

A task is a process with addresses of its own, in a VM, and `nve.task` moves it.  The VMs that it
visits may have its addresses; `hosts` names others that it may visit in `vmmlab shell`.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal

from pydantic import Field

from experiments.scenario.parts import Name, Part, no_such

GAP_S = 0.5
"""The time from one move of a task until its next may begin, in seconds."""


class Task(Part):
    """One task."""

    on: Name
    """The VM in which it starts."""
    program: str
    """A program of `nve/task/programs/`, or `package.module:Class`."""
    addresses: tuple[IPv4Address | IPv6Address, ...] = Field(min_length=1, max_length=8)
    arguments: dict[str, Any] = Field(default_factory=dict)
    """The program's arguments."""
    hosts: tuple[Name, ...] = ()


class TaskMove(Part):
    """One move of a task, `at_s` seconds after the traffic began."""

    at_s: float = Field(ge=0)
    task: Name
    to: Name
    """The VM to which the task moves."""
    connections: Literal["migrate", "close"] = "migrate"
    """Whether connections are carried over (R4.2.1.3), or closed, so that the peers connect again
    (R4.2.1.2)."""
    meanwhile: Literal["hold", "drop", "unreachable"] = "hold"
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
    elif version not in {address.version for address in tasks[name].addresses}:
        yield "family", f"{name} has no address of IPv{version}; give it one, or change the family"


def contradictions(
    tasks: Mapping[str, Task],
    moves: Sequence[TaskMove],
    network: Mapping[str, int],
    others: Sequence[str],
    duration_s: float,
) -> Iterator[tuple[str, str]]:
    """Yield where tasks and their moves do not fit the rest of their scenario: (field, complaint).

    `network` is the virtual network of each VM, `others` are names that are taken.
    """
    for name, task in tasks.items():
        if name in network or name in others:
            yield f"tasks.{name}", "a VM or another node has this name; choose another"
        for host in dict.fromkeys([task.on, *task.hosts]):
            if host not in network:
                yield (
                    f"tasks.{name}.{'on' if host == task.on else 'hosts'}",
                    no_such("VM", host, network),
                )
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
