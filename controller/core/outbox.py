"""What the NVA has decided to do and not yet done, in order.

The parts of the NVA put effects in; the application takes them out and carries them out.  Records
of the trace go the same way, so that the trace has the order of the decisions.

What relies on an NVE's rules of now (a frame to send on, an order to its agent) waits until the NVE
has been told them: `put_behind`, `release`.
"""

from nve.messages import Effect, TraceRecord


class Outbox:
    """`now_ns` is the time of the input that is being decided on."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._effects: list[Effect] = []
        self._behind: list[Effect] = []

    def put(self, *effects: Effect) -> None:
        self._effects += effects

    def put_behind(self, *effects: Effect) -> None:
        """These go behind what the NVEs are told of this decision."""
        self._behind += effects

    def release(self) -> None:
        """The NVEs have been told: what waited for that follows."""
        self._effects += self._behind
        self._behind.clear()

    def record(self, event: str, subject: str, **details: object) -> None:
        """A line of the trace."""
        self.put(TraceRecord(self.now_ns, event, subject, details))

    def take(self) -> list[Effect]:
        """Everything in it; it is empty afterwards."""
        effects, self._effects = self._effects, []
        return effects
