"""A lab of which a test knows that its overlay is the draft's, and its NVEs Open vSwitch."""

from experiments.overlays.nvo3.overlay import Nvo3
from experiments.overlays.nvo3.settings import Settings
from experiments.run.lab import Lab
from experiments.scenario.schema import Scenario
from nve.ovs.bridge import OvsInstance
from topologies.emulation.data_centre import Nve


def nvo3(lab: Lab) -> Nvo3:
    return Nvo3.of(lab.overlay)


def nvo3_settings(scenario: Scenario) -> Settings:
    assert isinstance(scenario.overlay.settings, Settings)
    return scenario.overlay.settings


def ovs(nve: Nve) -> OvsInstance:
    return OvsInstance.of(nve.edge)
