"""The recorded result, drawn once for all tests that look at what was drawn.

With several processes, all of these tests go to the same: each would have to draw for itself.
"""

import shutil
from pathlib import Path

import pytest

from experiments.report import plots
from experiments.report.plots import _style
from tests.helpers.data import RECORDED


@pytest.fixture(scope="session")
def drawn_result(tmp_path_factory) -> Path:
    """A copy of the recorded result with its plots.  Not to be changed: copy it again."""
    result = Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("drawn") / "result"))
    with pytest.MonkeyPatch.context() as coarse:  # fine enough to see that there is an image
        coarse.setitem(_style._SETTINGS, "savefig.dpi", 20)
        plots.draw_all(result)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if "drawn_result" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("drawn_result"))
