"""A lab that stands: data centre, overlay, and VMs started, all from one scenario.

`Lab` is a context manager.  Whatever happens inside it, also Ctrl-C in the middle of building,
leaving it ends every process that it started, and with them every namespace and interface.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from experiments.orchestrator import Orchestrator
from experiments.overlays.nvo3 import Nvo3
from experiments.scenario import Scenario
from topologies.emulation import DataCentre
from topologies.session import Session

Progress = Callable[[str], None]


class Lab:
    """`data_centre`, `overlay` and `orchestrator` are there inside the `with`."""

    def __init__(
        self,
        scenario: Scenario,
        framework: str = "os-ken",
        progress: Progress = lambda _: None,
    ) -> None:
        self.scenario = scenario
        self.bring_up_s = 0.0
        """How long the data centre alone took to build."""
        self._framework = framework
        self._progress = progress
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def _build(self, stack: ExitStack) -> None:
        scenario = self.scenario
        self.session = stack.enter_context(Session.create(scenario.name))
        began_s = time.monotonic()
        self.data_centre = DataCentre(
            scenario.topology.fabric(),
            scenario.vms(),
            scenario.control,
            self.session,
            scenario.datapath,
            scenario.link_emulator,
            scenario.seed,
        )
        stack.callback(self.data_centre.stop)
        self.data_centre.start(self._progress)
        self.bring_up_s = time.monotonic() - began_s
        self.overlay = Nvo3(self.data_centre, scenario.overlay, self._framework)
        stack.callback(self.overlay.stop)
        self._progress(f"starting the NVA ({self._framework})")
        self.overlay.start()
        hold = scenario.overlay.hold
        self.orchestrator = Orchestrator(self.data_centre, self.overlay, hold=hold)
        stack.callback(self.orchestrator.close)
        self._progress("starting VMs")
        self.orchestrator.start_vms(scenario.moves)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
