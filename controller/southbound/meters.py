"""The meters that each NVE has: given before the rules that use them, removed with the last of
those.

A switch refuses a rule whose meter it does not have, and removes the rules of a meter that goes.
"""

from collections.abc import Callable, Iterable

from nve.pipeline.rules import Meter, Rule


class Meters:
    """The meters that each connected NVE was given."""

    def __init__(self) -> None:
        self._given: dict[str, set[Meter]] = {}

    def connected(self, nve: str) -> None:
        """Forget what an NVE was given: its switch may hold something else by now."""
        self._given[nve] = set()

    def lacking(self, nve: str, rules: Iterable[Rule]) -> list[Meter]:
        """Return the meters that an NVE needs for these rules and lacks; they then count as
        given.
        """
        lacking = _used(rules) - self._given[nve]
        self._given[nve] |= lacking
        return sorted(lacking, key=lambda meter: meter.number)

    def idle(
        self, nve: str, removed: Iterable[Rule], wanted: Callable[[], Iterable[Rule]]
    ) -> set[int]:
        """Return the numbers of the meters to take back after rules were removed.

        They no longer count as given.  `wanted` is called only if there can be such meters.
        """
        concerned = _used(removed)
        idle = concerned - _used(wanted()) if concerned else concerned
        self._given[nve] -= idle
        return {meter.number for meter in idle}


def numbers(rules: Iterable[Rule]) -> set[int]:
    """Return the numbers of the meters that rules use."""
    return {meter.number for meter in _used(rules)}


def _used(rules: Iterable[Rule]) -> set[Meter]:
    return {meter for rule in rules for meter in rule.meters}
