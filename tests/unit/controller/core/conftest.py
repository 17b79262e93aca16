"""For the tests of the NVA's decisions."""

import pytest

from tests.helpers.authority import fabric
from tests.helpers.fabric import Fabric


@pytest.fixture
def pulling() -> Fabric:
    return fabric()
