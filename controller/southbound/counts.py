"""The present counters of the NVEs: by rule, by meter, by reason, and for one move.

Some totals add up the counts of existing rules and those of rules that have ended.  They are
computed in the moment when the answer comes in, and only if each rule is in exactly one of the two
groups: a switch reports the end of a rule some time after the rule has left its table.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from controller.core.authority import Authority
from controller.core.drops import Reason
from controller.core.move import Move
from controller.core.move_actions import IN_FLIGHT
from controller.core.pending_counters import COUNTED
from controller.southbound import openflow
from controller.southbound.sender import Sender
from controller.southbound.stats_requests import STATISTICS_TIMEOUT_S, Question, by_meter
from nve.messages import TraceRecord
from nve.pipeline.rules import Purpose, Rule

FOR_NOBODY: Final = frozenset({Purpose.UNKNOWN_DESTINATION, Purpose.UNKNOWN_VNI})
"""The purposes of the rules that match packets which came to an NVE where their VM never was."""


class Counts:
    """Asks NVEs for counters and waits for their answers; not to be called with the lock held.

    All methods raise KeyError for an NVE that is not connected, and TimeoutError for one that does
    not answer.
    """

    def __init__(
        self,
        lock: threading.Condition,
        authority: Authority,
        sender: Sender,
        trace: Sequence[TraceRecord],
    ) -> None:
        self._lock = lock
        self._authority = authority
        self._sender = sender
        self._trace = trace

    def by_rule(self, nve: str) -> list[tuple[Rule, int, int]]:
        """Return every rule of an NVE with its packets and bytes."""
        return self._by_rule(nve, self._ask(nve, openflow.ask_statistics).answer())

    def by_meter(self, nve: str) -> list[tuple[int, int, int]]:
        """Return every meter of an NVE: its number, the packets that came to it, and those it
        dropped.
        """
        return by_meter(self._ask(nve, openflow.ask_meters))

    def dropped(self) -> list[tuple[Reason, int]]:
        """Return what all NVEs have dropped; for those that do not answer, what was known
        before.
        """
        questions = {}
        for nve in self._authority.desired:
            with suppress(KeyError):
                flows = self._ask(nve, openflow.ask_statistics)
                questions[nve] = (flows, self._ask(nve, openflow.ask_meters))
        rules, meters = {}, {}
        for nve, (flows, found) in questions.items():
            with suppress(TimeoutError):
                counted = self._by_rule(nve, flows.answer())
                rules[nve] = [(rule, packets) for rule, packets, _ in counted]
                meters[nve] = [(number, dropped) for number, _, dropped in by_meter(found)]
        with self._lock:
            return list(self._authority.violations.drops.total(rules, meters))

    def astray(self, move: Move) -> int:
        """Return how many packets came out of tunnels at a move's source NVE without belonging
        there.

        Those that were forwarded in flight are included.  The number is meant to be compared with
        an earlier one, until the VM's next move: packets for unknown destinations are not told
        apart by VM.
        """
        deadline_s = time.monotonic() + STATISTICS_TIMEOUT_S
        while True:
            asked = self._ask(
                move.source, openflow.ask_statistics, lambda found: [self._astray(move, found)]
            )
            (packets,) = asked.answer()
            if packets is not None:
                return int(packets)
            with self._lock:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._lock.wait(left_s):
                    raise TimeoutError(f"{move.source} did not report the end of a rule")

    def _astray(self, move: Move, found: Sequence[Any]) -> int | None:
        """Compute `astray`, with the lock held, in the moment when the answer comes in.

        Returns None while a rule is gone and its last count is still under way.
        """
        rules = self._authority.desired.rules(move.source)
        in_flight = {
            rule.cookie
            for rule in rules
            if rule.purpose in IN_FLIGHT.values()
            and rule.about == move.system
            and rule.reports_end  # others carry copies of frames to groups
        }
        # The NVE was told to remove it, and will report its end.
        in_flight |= self._authority.owed_by(move.source, move.system)
        if in_flight - {flow.cookie for flow in found}:
            return None
        for_nobody = {rule.cookie for rule in rules if rule.purpose in FOR_NOBODY}
        looked_for = in_flight | for_nobody
        standing = sum(
            openflow.counted(flow.packet_count) for flow in found if flow.cookie in looked_for
        )
        ended = sum(
            int(str(record.details["packets"]))
            for record in self._trace
            if record.event in COUNTED and record.details["move"] == move.key
        )
        return standing + ended

    def _by_rule(self, nve: str, found: Sequence[Any]) -> list[tuple[Rule, int, int]]:
        with self._lock:
            rules = {rule.cookie: rule for rule in self._authority.desired.rules(nve)}
        return [
            (
                rules[flow.cookie],
                openflow.counted(flow.packet_count),
                openflow.counted(flow.byte_count),
            )
            for flow in found
            if flow.cookie in rules
        ]

    def _ask(
        self,
        nve: str,
        ask: Callable[[Any], Any],
        read: Callable[[list[Any]], list[Any]] = list,
    ) -> Question:
        """Ask an NVE for statistics; `read` converts the answer in the moment when it comes."""
        with self._lock:
            question = Question(nve)
            self._sender.ask(nve, ask, lambda found: question.take(read(found)))
            return question
