"""A lab that stands: data centre, overlay, and VMs started, all from one scenario.

`Lab` is a context manager.  Whatever happens inside it, also Ctrl-C in the middle of building,
leaving it ends every process that it started, and with them every namespace and interface; a second
Ctrl-C does not hasten that.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from experiments.measure.event_log import EventLog
from experiments.overlays.nvo3.overlay import Nvo3
from experiments.run.orchestrator import Orchestrator
from experiments.scenario.schema import Scenario
from nve.hypervisor.agent import Agent
from topologies.emulation.data_centre import DataCentre
from topologies.emulation.session import Session

Progress = Callable[[str], None]
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Lab:
    """`data_centre`, `overlay` and `orchestrator` are there inside the `with`."""

    def __init__(
        self,
        scenario: Scenario,
        framework: str = "os-ken",
        progress: Progress = lambda _: None,
    ) -> None:
        self.scenario = scenario
        self.log = EventLog()
        self.bring_up_s = 0.0
        """How long the data centre alone took to build."""
        self._framework = framework
        self._progress = progress
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build(self._stack)
        except BaseException:
            self._take_down()
            raise
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
        self.orchestrator = Orchestrator(
            self.data_centre,
            self.overlay,
            self.log,
            bounds=scenario.overlay.bounds,
            hold=hold,
            await_last_packets=scenario.overlay.end_marker and scenario.overlay.await_last_packets,
            diskless=scenario.diskless,
        )
        stack.callback(self.orchestrator.close)
        if scenario.overlay.end_marker:
            for nve in self.data_centre.nves.values():
                agent = Agent(nve.bridge, self.orchestrator.reorder_buffer)
                stack.callback(agent.stop)
                agent.start()
        self._progress("starting VMs")
        self.orchestrator.start_vms(scenario.moves)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._take_down()

    def _take_down(self) -> None:
        with _undisturbed():
            self._stack.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C, while everything is taken down, would leave the rest of it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {each: signal.signal(each, lambda *_: None) for each in ENDINGS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
