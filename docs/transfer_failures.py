"""The outcome of each failure of a transfer when it was last carried out (`make test-failures`)."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SEEN = Path(__file__).parent / "transfer-failures.json"


@dataclass(frozen=True, order=True)
class SeenFailure:
    """One pair of failure and moment, in a move whose state goes by `transfer`."""

    transfer: str
    failure: str
    of: str
    """The NVE that failed: the source, the destination, or all."""
    during: str
    ending: str
    """`completed`, `rolled back`, `lost` or `refused`."""
    stood_still_ms: float | None
    """How long the VM was suspended; None if it never ran again, 0 if it was not suspended."""

    @property
    def pair(self) -> tuple[str, str, str, str]:
        return self.transfer, self.failure, self.of, self.during

    @property
    def cell(self) -> str:
        """The text of a table's cell."""
        if self.stood_still_ms is None:
            return self.ending
        return f"{self.ending}, {self.stood_still_ms / 1e3:.2f} s"


def read(path: Path = SEEN) -> list[SeenFailure]:
    """Return all failures that were carried out; none if there is no file."""
    if not path.exists():
        return []
    return [SeenFailure(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def note(seen: SeenFailure, path: Path = SEEN) -> None:
    """Record a failure that was carried out, in place of an earlier record."""
    others = [each for each in read(path) if each.pair != seen.pair]
    path.write_text(_as_text([*others, seen]), encoding="utf-8")


def _as_text(rows: Iterable[SeenFailure]) -> str:
    lines = (json.dumps(asdict(row)) for row in sorted(rows, key=lambda row: row.pair))
    return "[\n" + ",\n".join(lines) + "\n]\n"
