"""An NVA without a network: what its application and its northbound interface are tested on."""

from pathlib import Path

import pytest

from controller.nva import Nva
from tests.helpers.nva import connected, settings
from tests.helpers.wire import Wire


@pytest.fixture
def nva(tmp_path: Path) -> Nva:
    return Nva(settings(tmp_path))


@pytest.fixture
def wires(nva: Nva) -> dict[str, Wire]:
    """Every NVE has connected."""
    return connected(nva)
