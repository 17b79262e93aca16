"""Counts the planned moves of a run that are over, for the line that shows its progress."""

from collections.abc import Collection, Mapping

from experiments.measure.trace import OUTCOMES, TraceEvent

_OF_VMS, _OF_TASKS = "moves", "moves of tasks"
_ENDINGS: Mapping[str, tuple[str, Collection[str]]] = {
    # what is counted: the detail that has its number, and the events with which it is over
    _OF_VMS: ("move", OUTCOMES),
    _OF_TASKS: ("task_move", ("task-move-completed", "task-move-failed")),
}


class MoveCount:
    """Counts moves; `hear` gets every event of the run's log as it is appended."""

    def __init__(self, of_vms: int, of_tasks: int = 0) -> None:
        self._planned = {_OF_VMS: of_vms, _OF_TASKS: of_tasks}
        self._over: Mapping[str, set[int]] = {what: set() for what in _ENDINGS}

    def hear(self, event: TraceEvent) -> None:
        for what, (key, endings) in _ENDINGS.items():
            number = event.details.get(key)
            if event.name in endings and isinstance(number, int) and number <= self._planned[what]:
                self._over[what].add(number)  # a take-over has a higher number

    def so_far(self) -> list[str]:
        """Return a few words for each kind of moves that the run has."""
        return [
            f"{len(self._over[what])} of {planned} {what}"
            for what, planned in self._planned.items()
            if planned
        ]
