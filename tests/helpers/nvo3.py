"""For labs whose overlay is known to be the draft's, and whose NVEs are Open vSwitch."""

from experiments.measure.trace import TraceEvent
from experiments.overlays.nvo3.overlay import Nvo3
from experiments.overlays.nvo3.settings import Settings
from experiments.run.lab import Lab
from experiments.scenario.schema import Scenario
from nve.ovs.bridge import OvsInstance
from topologies.emulation.data_centre import Nve


def nvo3(lab: Lab) -> Nvo3:
    return Nvo3.of(lab.overlay)


def told(lab: Lab) -> list[TraceEvent]:
    """Return the trace so far, with all that the NVA has decided."""
    assert lab.overlay.can.catch_up
    lab.overlay.can.catch_up()
    return lab.log.after()


def nvo3_settings(scenario: Scenario) -> Settings:
    assert isinstance(scenario.overlay.settings, Settings)
    return scenario.overlay.settings


def ovs(nve: Nve) -> OvsInstance:
    return OvsInstance.of(nve.edge)
