"""The recorded result, drawn once for all tests that look at what was drawn."""

import shutil
from pathlib import Path

import pytest

from experiments import plots

RECORDED = Path(__file__).parents[2] / "data" / "result-v1"


@pytest.fixture(scope="session")
def drawn_result(tmp_path_factory) -> Path:
    """A copy of the recorded result with its plots.  Not to be changed: copy it again."""
    result = Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("drawn") / "result"))
    plots.draw_all(result)
    return result
