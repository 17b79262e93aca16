"""A switch in memory: it holds rules, and judges frames with `nve.pipeline.evaluator`.

It knows what it is told as OpenFlow has it, rule by rule, and what it says waits in a queue.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nve.messages import AnswerArp, AnswerRarp, AnswerSolicitation, Emit, Order, Report, RuleEnded
from nve.model import Vtep
from nve.pipeline.evaluator import (
    NOTED,
    Frame,
    PacketVerdict,
    Ranked,
    evaluate_ranked,
    matches,
    ranked,
)
from nve.pipeline.rules import FieldValue, Match, PipelineTable, Rule

Direction: TypeAlias = Literal["down", "up"]
"""`down` is towards the NVE, `up` towards the NVA."""


@dataclass(frozen=True)
class Add:
    rule: Rule


@dataclass(frozen=True)
class Remove:
    rule: Rule


@dataclass(frozen=True)
class RemoveOthers:
    """The end of a reconciliation: every rule with another cookie is removed."""

    cookies: frozenset[int]


@dataclass(frozen=True)
class Confirm:
    token: int


PacketOut: TypeAlias = AnswerArp | AnswerRarp | AnswerSolicitation | Emit | Order
Instruction: TypeAlias = Add | Remove | RemoveOthers | Confirm | PacketOut
Message: TypeAlias = Report | Confirm


@dataclass
class FakeNve:
    """A switch.  It knows rules by their key, as OpenFlow does, and nothing about the overlay."""

    name: str
    vtep: Vtep
    rules: dict[tuple[PipelineTable, int, Match], Rule] = field(default_factory=dict)
    down: deque[Instruction] = field(default_factory=deque)
    up: deque[Message] = field(default_factory=deque)
    lost: set[Direction] = field(default_factory=set)
    connected: bool = False
    _ranked: Ranked | None = None
    _judged: dict[frozenset[tuple[str, FieldValue]], tuple[Frame, PacketVerdict]] = field(
        default_factory=dict
    )
    """Verdicts of the rules as they are.  A rule that comes or goes takes those of the frames that
    it may have to do with away, whatever earlier tables note about them or write into them."""

    def holds(self) -> frozenset[Rule]:
        return frozenset(self.rules.values())

    def judge(self, frame: Frame) -> PacketVerdict:
        """Return what the switch does with a frame that has come in."""
        seen = frozenset(frame.items())
        if seen not in self._judged:
            if self._ranked is None:
                self._ranked = ranked(self.rules.values())
            self._judged[seen] = frame, evaluate_ranked(self._ranked, frame)
        return self._judged[seen][1]

    def carry_out(self, instruction: Add | Remove | RemoveOthers | Confirm) -> None:
        match instruction:
            case Add(rule):
                if self.rules.get(rule.key) != rule:
                    self._changed(rule)
                self.rules[rule.key] = rule
            case Remove(rule):
                self._remove(rule)
            case RemoveOthers(cookies):
                for rule in self.holds():
                    if rule.cookie not in cookies:
                        self._remove(rule)
            case Confirm():
                self.up.append(instruction)

    def _changed(self, rule: Rule) -> None:
        self._ranked = None
        carried = tuple(asked for asked in rule.match if asked[0] not in NOTED)
        touched = [
            seen
            for seen, (frame, verdict) in self._judged.items()
            if matches(carried, frame) or verdict.frame.get("eth_dst") != frame.get("eth_dst")
        ]
        for seen in touched:
            del self._judged[seen]

    def forget(self) -> None:
        """Lose all rules without reporting them, as an NVE that dies does."""
        self.rules.clear()
        self._ranked = None
        self._judged.clear()

    def expire(self, rule: Rule) -> None:
        """Let a rule time out."""
        del self.rules[rule.key]
        self._changed(rule)
        if rule.reports_end:
            self._say(rule, "idle" if rule.idle_s else "timer")

    def _remove(self, rule: Rule) -> None:
        removed = self.rules.pop(rule.key, None)
        if removed:
            self._changed(removed)
        if removed and removed.reports_end:
            self._say(removed, "told")

    def _say(self, rule: Rule, why: str) -> None:
        if self.connected:
            self.up.append(RuleEnded(rule.cookie, why, packets=7, octets=700, lifetime_ms=1.0))
