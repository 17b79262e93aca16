"""Reads the counters of `experiments.measure.kernel_counters` on a data centre that is up."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from experiments.measure import kernel_counters
from experiments.measure.kernel_counters import Reading, Scope
from topologies.emulation.data_centre import DataCentre


class KernelWatch:
    """Tells by how much the counters have risen since its construction."""

    def __init__(self, data_centre: DataCentre) -> None:
        self._data_centre = data_centre
        self._before = self._read()
        self.unwatched = kernel_counters.unwatched(self._before)

    def rises(self) -> kernel_counters.Rises:
        """Return the rises; a dead switch counts nothing, and one that was restarted counts
        anew.
        """
        return kernel_counters.rises(self._before, self._read())

    def _read(self) -> Reading:
        return {key: value for part in self._parts() for key, value in part.items()}

    def _parts(self) -> Iterator[Reading]:
        yield of_the_machine()
        centre = self._data_centre
        for name, pid in centre.pids.items():
            yield _of_files(Scope.NODE, name, Path(f"/proc/{pid}"))
            if name in centre.vms:
                yield _of_files(Scope.VM, name, Path(f"/proc/{pid}"))
        for name, nve in centre.nves.items():
            with suppress(RuntimeError):  # the switch is just dying
                yield {(key, name): value for key, value in nve.edge.counters().items()}
        yield kernel_counters.of_links(centre.link_statistics(), centre.cabling.dropping)


def of_the_machine() -> Reading:
    """Return the values of the counters that exist once for the whole machine."""
    return _of_files(Scope.MACHINE, kernel_counters.THE_MACHINE, Path("/proc"))


def _of_files(scope: Scope, place: str, root: Path) -> Reading:
    def text(file: str) -> str | None:
        try:
            return (root / file).read_text(encoding="ascii")
        except OSError:
            return None  # not of this kernel, or not shown in this namespace

    return kernel_counters.of_files(scope, place, text)
