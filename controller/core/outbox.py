"""What the NVA has decided to do but not yet done, in order.

The parts of the NVA put effects in; the application takes them out and carries them out.  Trace
records go the same way, so that the trace has the order of the decisions.

An effect that relies on an NVE's present rules (a frame to forward, an order to its agent) waits
until the NVE has been told these rules: `put_behind`, `release`.
"""

from nve.messages import Effect, TraceRecord


class Outbox:
    """The effects that wait; `now_ns` is the time of the input that is being handled."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._effects: list[Effect] = []
        self._behind: list[Effect] = []

    def put(self, *effects: Effect) -> None:
        self._effects += effects

    def put_behind(self, *effects: Effect) -> None:
        """Add effects that have to follow what the NVEs are told of this decision."""
        self._behind += effects

    def release(self) -> None:
        """Add the effects that waited until the NVEs were told."""
        self._effects += self._behind
        self._behind.clear()

    def record(self, event: str, subject: str, **details: object) -> None:
        """Add a record of the trace."""
        self.put(TraceRecord(self.now_ns, event, subject, details))

    def take(self) -> list[Effect]:
        """Return all effects and empty the outbox."""
        effects, self._effects = self._effects, []
        return effects
