"""The vocabulary of the trace: what happened, when, and which part says so.

Every transition and command of the NVA, the hypervisors and the orchestrator is one event. Metrics
are computed from events and plots are annotated with them, so that a statement such as "the VM was
resumed" has one time in the whole project.  `KNOWN` is the vocabulary; an event of another name is
kept in the trace and shown in the time line, but nothing is computed from it.

`details` may hold: `move` (the n-th move of the run, from 1), `nve`, `form` of an announcement,
`from`, `to`, `pause_ms`, `announce` (what is asked for, in `move-requested`), `underlay_delay_ms`
(of the path from `from` to `to`, also in `move-requested`), `packets`, `bytes`, `lifetime_ms` (in
`in-flight-ended`), `packets_via_source_after_convergence` (in any event of a move); in
`tables-compared`, `after` (which moves) and `differences`; in those of a task's move,
`task_move` (the n-th of these).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KNOWN = {
    "nve-connected": "an NVE has connected to the NVA",
    "nve-disconnected": "an NVE has lost the NVA",
    "vm-associated": "the NVA has recorded that the VM is behind an NVE",
    "vm-de-associated": "the NVA has forgotten the VM's place at the source NVE",
    "vm-offered": "the NVA has offered a VM what it wants of a server (R8.2)",
    "offer-lapsed": "nobody has confirmed an offer in time: its room is free again",
    "vm-on-boarded": "an offer has been confirmed: the VM is in use",
    "vm-adjusted": "the VM has other resources where it is",
    "standby-placed": "the NVA keeps room on a server for the VM's standby",
    "standby-given-up": "the NVA keeps no room for the VM's standby any more",
    "vm-off-boarded": "the VM has ended, and its room is free again",
    "run-started": "the data centre is built and the run begins",
    "traffic-started": "probes and workloads begin to send",
    "attack-began": "an attacker begins to send (R9)",
    "attack-ended": "an attacker has stopped; `packets` says how many it sent (R9)",
    "traffic-stopped": "probes and workloads have stopped",
    "run-ended": "everything is measured",
    "move-requested": "the orchestrator asks the NVA for a move",
    "move-accepted": "the NVA begins the move",
    "move-prepared": "the destination NVE and the in-flight tunnel are ready (R5.1)",
    "transfer-connected": "the source's server has opened a connection to the destination's, for "
    "the VM's state (R6.2)",
    "transfer-rounds-ended": "what goes ahead of the VM has come over; `why` the VM is stopped now",
    "transfer-finished": "the rest has come over while the VM stood still; of a post-copy what the "
    "VM cannot go on without",
    "post-copy-finished": "the pages that the VM went on without have come over, too",
    "vm-lost": "the rest of the VM's memory does not come: no server has all of it any more",
    "state-verified": "both servers have been left with the same memory and disk (R6.4)",
    "state-not-verified": "the two servers could not compare what they have; `why`",
    "server-lost": "a VM's server has been dead for as long as its standby waits: that takes over",
    "server-cut-off": "a VM's server runs, and no other has heard of it for as long as its standby "
    "waits: that takes over, if the server's NVE confirms that it takes nothing from the VM's port",
    "instance-added": "the VM has a second instance at another NVE, and flows are spread over both",
    "instance-cut-off": "the VM's two instances have not heard of each other for as long as its "
    "standby waits: one is to end",
    "instance-fenced": "an NVE is told to take nothing from one of the VM's two instances any "
    "more, and the others to send everything to the one that is `left`",
    "instance-not-fenced": "it could not be made sure that an instance answers nobody any more: "
    "so the other one does not go on; `why`",
    "instance-alone": "one of the VM's two instances goes on without the other",
    "instances-verified": "both instances of the VM have been found with the same state",
    "mirror-ready": "the last whole mirror of the VM is what its standby goes on from",
    "mirror-failed": "a mirror of the VM did not come over whole: the one before counts, until "
    "another one has come",
    "mirror-whole-again": "after a mirror that failed, all of the VM's state has come to its "
    "standby once more",
    "mirror-used": "the VM is moved to its standby, which has the last whole mirror: only what was "
    "written since is sent",
    "mirror-not-used": "the VM is moved to its standby, and all of its state is sent; `why`",
    "standby-ended": "the VM has been moved to the NVE of its standby, which is none any more",
    "standby-reversed": "the VM has been moved to the NVE of its standby, and its former NVE has "
    "the standby now",
    "vm-fenced": "an NVE has come back whose VM runs elsewhere by now: it takes nothing from the "
    "VM's port",
    "state-differs": "the destination has another memory or disk than the source had",
    "move-redirecting": "the VM is about to stop: the NVA tells the source NVE to forward or to "
    "drop",
    "move-redirected": "the source NVE now forwards packets for the VM to the destination NVE, or "
    "drops them",
    "pre-associated": "the VM's interface is prepared at the destination (RFC 8394)",
    "vm-paused": "the VM is paused: it does not run from now on",
    "last-packets-passed": "the VM's last packets from the source have reached every NVE of its "
    "network",
    "last-packets-not-awaited": "the destination lets the VM's packets out although earlier ones "
    "may still be on their way",
    "nic-flipped": "the VM's NIC is plugged into the destination NVE",
    "vm-resumed": "the VM runs again: its pause is over",
    "parts-of-pause": "how long each part of the pause took",
    "redirect-in-pause": "how much of the pause the redirect took",
    "outbound-released": "the destination no longer holds the packets that the VM sends",
    "announced": "the VM announces itself at the destination",
    "announcement-not-sent": "the announcement was not sent: the kernel refused the frame",
    "not-run-dry": "the VM's cable was shut although packets that its NVE had delivered were still "
    "in it",
    "announcement-lost": "the announcement was lost on its way to the NVE, as the scenario asks",
    "announcement-received": "an NVE has reported the announcement to the NVA",
    "address-lost": "the diskless VM has lost its IPv4 address",
    "address-claimed": "a VM has taken an address over, by announcing it",
    "host-route-moved": "an address belongs to another VM of its layer 3 network",
    "rarp-answered": "an NVE has told a VM which IPv4 address belongs to its MAC (R4.1.5)",
    "address-restored": "the VM has its IPv4 address again",
    "mapping-updated": "the NVA has recorded the VM's new NVE",
    "move-activated": "the NVA has been told that the VM runs at the destination (RFC 8394 "
    "activate)",
    "mapping-confirmed": "the NVEs that had to be told at once have confirmed the new mapping",
    "paths-changed": "no packet is on an old path any more: the destination holds none any longer",
    "markers-not-asked-for": "the NVA did not say in time whose end markers to expect: packets may "
    "be out of order",
    "hold-given-up": "packets held for the VM have waited too long and are dropped",
    "entry-learned": "an NVE has learned the VM's place from a frame of the VM",
    "entry-forgotten": "an NVE has forgotten the VM's place and floods frames for it",
    "entry-expired": "an NVE's entry has reached the end of its lifetime",
    "entry-pulled": "an NVE has asked the NVA and holds the new entry",
    "entry-told-again": "an NVE had lost an entry that it should hold, and has been given it again",
    "nve-given-up": "a move no longer waits for an NVE that has been out of reach for too long",
    "nva-restarted": "the NVA has restarted and read its state from the disk",
    "in-flight-before-arrival": "the source NVE has reported how many packets it forwarded before "
    "the arrival",
    "in-flight-taken-away": "the source NVE's rule for packets in flight was removed, but not by "
    "the NVA",
    "in-flight-kept": "no packet was in flight for a while, but an NVE still has an old entry: the "
    "source NVE goes on forwarding",
    "in-flight-ended": "the source NVE has stopped forwarding packets in flight (R5.5)",
    "de-associated": "the VM's interface is removed from the source NVE (RFC 8394)",
    "packet-too-big": "a packet exceeded its tunnel's MTU; its sender was told, if it may be",
    "router-error": "a router of the underlay could not forward a packet that went by a locator; "
    "its sender was told",
    "move-converged": "no NVE holds an old entry any more",
    "move-drained": "nothing is in flight any more",
    "move-completed": "the move has ended successfully",
    "tables-compared": "the rules in every NVE were compared with those it should have (R3.4, "
    "R3.5)",
    "source-nve-counted": "packets that crossed the source NVE after convergence were counted "
    "(R3.4)",
    "move-rolled-back": "the move was undone: the VM runs at the source",
    "move-failed": "the move has failed",
    "move-undone": "the steps of a failed move are undone: the VM runs at the source",
    "de-association-refused": "the NVA keeps the VM's old place, or has given it up already",
    "not-undone": "a step of a failed move could not be undone",
    "failure-injected": "a part of the testbed has been made to fail",
    "failure-ended": "that part works again",
    "move-refused": "the NVA has refused the move, and nothing has changed; `why`",
    "instruction-refused": "an NVE's switch has refused a message of the NVA",
    "refused-connection": "a stranger, or a second switch in an NVE's name, tried to connect to "
    "the NVA",
    "refused-malformed": "an NVE reported a malformed frame: no effect (R9.2)",
    "refused-malformed-openflow": "an OpenFlow message was malformed: its connection is closed",
    "refused-early-announcement": "a VM announced itself at the destination before it could be "
    "there: no effect",
    "task-started": "the task runs in its first VM",
    "task-move-requested": "the orchestrator begins to move a task",
    "address-signalled": "the peers of a task with Multipath TCP are told of its new address",
    "subflows-joined": "its connections have a subflow to the new address each",
    "address-withdrawn": "they use the old address no more, and nobody has it",
    "address-not-replaced": "they still use the old address; `why`",
    "name-confirmed": "the name server is there, and would take an update of the task's name",
    "name-updated": "the task's name leads to its new addresses (R4.2.1.1); who has looked it up "
    "believes the old ones for `ttl_s` at most",
    "name-not-updated": "the task has moved, and its name still leads to where it was; `why`",
    "task-connected": "a process waits for the task at the destination, and its own has connected "
    "to it",
    "address-configured": "the task's addresses are configured at the destination (R4.2.1.1)",
    "task-stopped": "the task stands still, and the source's stack takes nothing for it any more",
    "task-packaged": "its state and its connections are packaged (R4.2.3)",
    "task-sent": "the package has been sent to the destination",
    "task-instantiated": "the destination has restored it, and nothing of it runs yet",
    "task-restarted": "the task goes on at the destination, and its address is announced",
    "record-ended": "the source has forgotten the connections that have moved (R4.2.1.4)",
    "record-not-kept": "the source keeps no record of the connections, or has lost it",
    "task-move-completed": "nothing is left of the task's move",
    "task-move-failed": "a step of the task's move has failed",
    "task-move-undone": "the task goes on at the source, with its connections",
    "refused-forged": "a VM claimed an address that is another's: no effect (R9.2)",
    "refused-forged-error": "an ICMPv6 error on the underlay quoted no packet that a VM can have "
    "sent: no effect (R9.4)",
    "refused-nobody-has": "a VM asked for an address that nobody has: no answer",
    "refused-not-for-the-gateway": "a VM of a layer 3 network asked for more than its gateway",
    "refused-unknown-destination": "a VM sent to a MAC or, at layer 3, an IP address that nobody "
    "has",
    "refused-unknown-port": "an NVE reported a frame from a port that no VM has",
}

OLD_NAMES = {
    # the name in older results, and the present name of the same event
    "move-arrived": "move-activated",
    "release-refused": "de-association-refused",
    "vm-dissociated": "vm-de-associated",
}

OUTCOMES = {
    "move-completed": "completed",
    "move-rolled-back": "rolled back",
    "move-failed": "failed",
    "move-undone": "rolled back",
    "move-refused": "refused",
}


@dataclass(frozen=True)
class TraceEvent:
    """One line of events.csv."""

    t_ns: int
    source: str
    name: str
    subject: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Story:
    """What is asked of the events of one move."""

    events: tuple[TraceEvent, ...]
    """In the order of time; the first is the request."""

    def first(self, *names: str) -> TraceEvent | None:
        """Return the earliest event of one of these names, or None."""
        return next((event for event in self.events if event.name in names), None)

    def last(self, *names: str) -> TraceEvent | None:
        return next((event for event in reversed(self.events) if event.name in names), None)

    def time_of(self, *names: str) -> int | None:
        event = self.first(*names)
        return event.t_ns if event else None

    def detail(self, key: str) -> Any:
        """Return the value of `key` in the latest event of the move that has it; None if none
        has.
        """
        holders = [event for event in self.events if key in event.details]
        return holders[-1].details[key] if holders else None

    def _end(self, key: str) -> str:
        return str(self.events[0].details.get(key, "?"))


@dataclass(frozen=True)
class MoveTrace(Story):
    """The n-th move of a run with the events that belong to it, in the order of time."""

    number: int
    vm: str
    requested_ns: int
    events: tuple[TraceEvent, ...]

    @property
    def source_nve(self) -> str:
        return self._end("from")

    @property
    def destination_nve(self) -> str:
        return self._end("to")

    @property
    def is_take_over(self) -> bool:
        """Whether a standby takes over from a server that is dead (R7.2, R7.3)."""
        return self.events[0].details.get("mode") == "take-over"

    @property
    def outcome(self) -> str:
        if self.first("vm-lost"):  # although the overlay has brought its network over
            return "lost"
        ending = self.last(*OUTCOMES)
        return OUTCOMES[ending.name] if ending else "unfinished"


def moves_of(events: Iterable[TraceEvent]) -> list[MoveTrace]:
    """Return the moves of a trace, in the order in which they were requested.

    An event belongs to the move its details name, else to the latest move of its subject that was
    not refused.
    """
    ordered = sorted(events, key=lambda event: event.t_ns)
    refused = {event.details.get("move") for event in ordered if event.name == "move-refused"}
    grouped: dict[int, list[TraceEvent]] = {}
    latest_of_vm: dict[str, int] = {}
    for event in ordered:
        if event.name == "move-requested":
            number = int(event.details.get("move", len(grouped) + 1))
            if number not in refused:
                latest_of_vm[event.subject] = number
            grouped[number] = [event]
            continue
        belongs_to = event.details.get("move", latest_of_vm.get(event.subject))
        if belongs_to in grouped:
            grouped[belongs_to].append(event)
    return [
        MoveTrace(number, trace[0].subject, trace[0].t_ns, tuple(trace))
        for number, trace in grouped.items()
    ]
