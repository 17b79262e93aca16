"""A running lab: data centre, overlay, and VMs started, all from one scenario.

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
from typing import Any, Self

from experiments import machine, overlays, resources
from experiments.errors import UsageError
from experiments.measure.event_log import EventLog
from experiments.overlays import Ground, Overlay
from experiments.run.guests import Guests
from experiments.run.name_server import NameServer
from experiments.run.orchestrator import Orchestrator
from experiments.run.standbys import Standbys
from experiments.run.state_transfer import StateTransfers
from experiments.run.tasks import Tasks
from experiments.scenario.schema import Scenario
from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.model import IPAddress, TenantSystem
from nve.task.names import LedName, TaskName
from topologies.emulation import host_settings
from topologies.emulation.data_centre import DataCentre
from topologies.emulation.session import Session

Progress = Callable[[str], None]
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Lab:
    """A lab; `data_centre`, `overlay`, `orchestrator`, `guests`, `transfers`, `standbys` and
    `tasks` exist in the `with`.
    """

    def __init__(
        self,
        scenario: Scenario,
        progress: Progress = lambda _: None,
    ) -> None:
        self.scenario = scenario
        self.log = EventLog()
        self.bring_up_s = 0.0
        """How long the data centre alone took to build."""
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
        machine.raise_open_files(resources.of([scenario]).open_files)
        self.session = stack.enter_context(Session.create(scenario.name))
        self._raise_settings(stack)
        began_s = time.monotonic()
        settings = scenario.overlay.settings
        kind = overlays.get(scenario.overlay.kind)
        self._edges = kind.edges(settings, scenario.datapath)
        self.data_centre = DataCentre(
            scenario.topology.fabric(),
            scenario.vms(),
            self._edges,
            self.session,
            kind.control_node,
            scenario.control,
            scenario.link_emulator,
            scenario.seed,
        )
        stack.callback(self.data_centre.stop)
        self.data_centre.start(self._progress)
        self.bring_up_s = time.monotonic() - began_s
        ground = Ground(self.data_centre, self.log, self._reorder_buffer, self._progress)
        self.overlay: Overlay = kind.build(ground, settings)
        self.orchestrator = Orchestrator(
            self.data_centre, self.overlay, self.log, scenario.diskless
        )
        stack.callback(self.orchestrator.close)
        paired = [vm for vm, standby in scenario.standbys.items() if standby.kind == "hot"]
        self.guests = Guests(self.data_centre, scenario.guests, scenario.seed, paired)
        stack.callback(self.guests.close)
        self.guests.launch()
        stack.callback(self.overlay.stop)
        self.overlay.start()
        self._progress("starting VMs")
        mirrored = {vm: each.at for vm, each in scenario.standbys.items() if vm not in paired}
        self.orchestrator.start_vms(scenario.moves, mirrored)
        self.guests.await_ready()
        self.transfers = StateTransfers(self.data_centre, self.guests)
        stack.callback(self.transfers.close)
        self.tasks = Tasks(
            *(self.data_centre, scenario.tasks, scenario.task_moves, self.log),
            self._names_of_tasks(stack),
        )
        stack.callback(self.tasks.close)
        for task in self.tasks.of.values():
            task.make_known = self._make_known
            stack.callback(self.log.subscribe(task.hear))
        self.tasks.start()
        self.standbys = Standbys(
            *(self.data_centre, self.guests, self.orchestrator, self.overlay, self.log),
            scenario.standbys,
            first_number=len(scenario.moves) + 1,
        )
        stack.callback(self.standbys.close)
        self.standbys.start()
        self.orchestrator.transfer_of = lambda move: self.standbys.beside(
            move, self.transfers.of(move)
        )

    def _names_of_tasks(self, stack: ExitStack) -> dict[str, LedName]:
        """Start the name server, and return the tasks' names."""
        spec = self.scenario.name_server
        if spec is None:
            return {}
        self._progress("starting the name server")
        vm = self.data_centre.vms[spec.on]
        directory = self.session.directory / "names"
        directory.mkdir(mode=0o700)
        own = (vm.spec.ipv4, vm.spec.ipv6)
        server = NameServer(self.data_centre, spec.on, vm.pid, own, spec.zone, directory)
        stack.callback(server.close)
        server.await_ready()
        named = (name for name, task in self.scenario.tasks.items() if task.has_a_name)
        return {
            name: LedName(TaskName(name, spec.zone, spec.ttl_s), own[0], server.key)
            for name in named
        }

    def _raise_settings(self, stack: ExitStack) -> None:
        needed = resources.settings(self.scenario)
        wanted = {**resources.BACKLOG, **needed}
        self._raised = stack.enter_context(host_settings.raised(self.session, wanted))
        for name, value in needed.items():
            if (now := host_settings.value_of(name)) is not None and now < value:
                sysctl = name.replace("/", ".")
                raise UsageError(
                    f"this scenario needs {sysctl} to be {value:,}, and here it is {now:,} and "
                    f"cannot be raised; on the machine itself: sysctl -w {sysctl}={value}; or let "
                    "fewer VMs talk to each other"
                )

    def _reorder_buffer(self, system: TenantSystem, nve: str) -> ReorderBuffer | None:
        return self.orchestrator.reorder_buffer(system, nve)

    def _make_known(self, vm: str, address: IPAddress) -> None:
        """Set the host route to a task's address at layer 3, where a VM's announcement is not
        heard.
        """
        if vm in self.scenario.routed and self.overlay.can.host_route:
            self.overlay.can.host_route(vm, str(address))

    def facts(self) -> dict[str, Any]:
        """Return for the manifest what the lab is made of."""
        facts = self.overlay.can.facts
        return {
            "overlay": self.scenario.overlay.kind,
            **self._edges.facts,
            "link_emulator": self.data_centre.link_emulator,
            "tenant_mtu": self.data_centre.tenant_mtu,
            "bring_up_s": round(self.bring_up_s, 3),
            "raised_settings": {
                name.replace("/", "."): list(change) for name, change in self._raised.items()
            },
            **({"vm_limits": self.data_centre.limits} if self.data_centre.limits else {}),
            **(facts() if facts else {}),
        }

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
    """Ignore a second Ctrl-C in the block, which would interrupt taking the lab down."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    before = {each: signal.signal(each, lambda *_: None) for each in ENDINGS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
