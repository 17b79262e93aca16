"""What a VM takes of a server, and what a server has (R8.2: cpu, memory, storage, processes).

Values, and how they add up.  A *resource* is named as in a scenario; a megabyte is 2^20 bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Self

MOST: Final[dict[str, float]] = {
    # resource: more than this is a mistake
    "cpu": 4096,
    "memory_mb": 1 << 24,
    "storage_mb": 1 << 30,
    "processes": 1 << 22,
}
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "cpu": ("CPUs", "CPU"),
    "memory_mb": ("MB of memory", "memory"),
    "storage_mb": ("MB of storage", "storage"),
    "processes": ("processes", "processes"),
}


def named(given: object) -> object:
    """Check, before amounts are read, that every resource named exists.  Raises ValueError."""
    strange = sorted({*given} - {*MOST}) if isinstance(given, dict) else []
    if strange:
        raise ValueError(f"there is no resource {strange[0]!r}; there are {', '.join(MOST)}")
    return given


def _check(amount: Any) -> None:
    for each in fields(amount):
        value = getattr(amount, each.name)
        if value is not None and not 0 <= value <= MOST[each.name]:
            raise ValueError(f"{each.name} is {value}; give a number from 0 to {MOST[each.name]}")


@dataclass(frozen=True)
class Resources:
    """An amount of each resource.  `cpu` counts processors, and may be a fraction.

    Raises ValueError for amounts that are impossible.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    cpu: float = 0.0
    memory_mb: int = 0
    storage_mb: int = 0
    processes: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def __bool__(self) -> bool:
        return self != NO_RESOURCES

    def plus(self, other: "Resources") -> "Resources":
        """Return both together."""
        return Resources(
            _tidy(self.cpu + other.cpu),
            self.memory_mb + other.memory_mb,
            self.storage_mb + other.storage_mb,
            self.processes + other.processes,
        )

    def __str__(self) -> str:
        named = [f"{value:g} {_WORDS[key][0]}" for key, value in _amounts(self) if value]
        return ", ".join(named) or "nothing"


NO_RESOURCES = Resources()


@dataclass(frozen=True)
class Capacity:
    """What a server has; None stands for no limit."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    cpu: float | None = None
    memory_mb: int | None = None
    storage_mb: int | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def without(self, used: Iterable[Resources]) -> Self:
        """Return what is left beside these amounts; 0 where they exceed the capacity."""
        taken = list(used)
        left: dict[str, Any] = {
            key: None if has is None else max(0, _tidy(has - sum(getattr(t, key) for t in taken)))
            for key, has in _amounts(self)
        }
        return type(self)(**left)

    def shortage(self, wanted: Resources) -> str | None:
        """Return in words what `wanted` has more than this, or None if all of it is there."""
        lacking = [
            f"{value:g} {_WORDS[key][0]} wanted, {has:g} free"
            for key, value in _amounts(wanted)
            if (has := getattr(self, key)) is not None and value > has
        ]
        return "; ".join(lacking) or None

    def __str__(self) -> str:
        return ", ".join(
            f"any {_WORDS[key][1]}" if value is None else f"{value:g} {_WORDS[key][0]}"
            for key, value in _amounts(self)
        )


UNLIMITED = Capacity()


def _amounts(of: Resources | Capacity) -> Iterator[tuple[str, Any]]:
    for each in fields(of):
        yield each.name, getattr(of, each.name)


def _tidy(amount: float) -> float:
    """Round an amount: tenths of processors do not add up exactly."""
    return round(amount, 6)
