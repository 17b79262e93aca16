"""The recorded result, drawn once for all tests that look at what was drawn.

With several processes, all of these tests go to the same: each would have to draw for itself.
"""

import shutil
from pathlib import Path

import pytest

from experiments.report import plots
from experiments.report.html import write_report
from tests.helpers.data import RECORDED

BLANK = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="session")
def drawn_result(tmp_path_factory) -> Path:
    """A copy of the recorded result with a figure, a blank for each other, and its report.  Not to
    be changed: copy it again.  Laying out a figure takes long; others draw each of them."""
    result = Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("drawn") / "result"))
    plots.draw_all(result, only=["data_centre"])
    for name in plots.names():
        file = plots.file_of(result, name)
        if not file.exists():
            file.write_text(BLANK)
    with pytest.MonkeyPatch.context() as blank:
        blank.setattr(plots, "as_svg", lambda *_: BLANK.encode())
        write_report(result)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if "drawn_result" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("drawn_result"))
