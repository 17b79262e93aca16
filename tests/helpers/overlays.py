"""An overlay that does nothing, added to the catalogue as one file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments import overlays

KIND = "does-nothing"
SOURCE = """
from types import SimpleNamespace

from experiments.overlays import Capabilities, OverlaySettings
from nve.edge import EdgeFactory

SAYS = "Nothing is sent to anybody."


class Settings(OverlaySettings):
    colour: str = "red"


class Edge:
    offloads, environment, aliases, alive = True, {}, {}, True

    def __init__(self, place):
        self.name, self.pid = place.name, place.pid

    def dpctl(self, words):
        return ["true"]

    def counters(self):
        return {}

    def nothing(self, *_, **__):
        pass

    launch = configure = settle = plug_in = die = revive = stop = nothing


class Overlay:
    can = Capabilities()

    def nothing(self, *_, **__):
        pass

    start = associate = begin = prepare = redirect = activate = nothing
    converge = complete = de_associate = roll_back = stop = nothing

    def where(self):
        return {}


def edges(settings, datapath):
    return EdgeFactory("edges that do nothing", Edge, facts={"datapath": "none"})


def build(ground, settings):
    return Overlay()
"""


@contextmanager
def added_overlay(folder: Path) -> Iterator[None]:
    """Add the overlay to the catalogue for the block, as a file in that folder."""
    (folder / "does_nothing.py").write_text(SOURCE)
    overlays.__path__.append(str(folder))
    try:
        yield
    finally:
        overlays.__path__.remove(str(folder))
