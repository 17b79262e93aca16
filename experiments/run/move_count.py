"""Counts the planned moves of a run that are over, for the line that shows its progress."""

from experiments.measure.trace import OUTCOMES, TraceEvent


class MoveCount:
    """Counts moves; `hear` gets every event of the run's log as it is appended."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._over: set[int] = set()

    def hear(self, event: TraceEvent) -> None:
        number = event.details.get("move")
        if event.name in OUTCOMES and isinstance(number, int) and number <= self._planned:
            self._over.add(number)  # a take-over has a higher number

    def so_far(self) -> list[str]:
        """Return a few words; none for a run without moves."""
        return [f"{len(self._over)} of {self._planned} moves"] if self._planned else []
