"""The judge of figures sees each fault."""

import pytest
from matplotlib.figure import Figure

from experiments.report.plots import _style
from experiments.report.plots._style import PRESETS
from tests.helpers.figure_faults import faults, of_drawing

COLUMN = PRESETS["column"]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda axes: axes.text(0.5, 0.5, "tiny", fontsize=6), "'tiny' has 6.0 pt"),
        (lambda axes: axes.text(1.5, 0.5, "beyond"), "'beyond' is outside the figure"),
        (lambda axes: axes.set_xticks([0.5, 0.51], ["ab", "cd"]), "'ab' covers 'cd'"),
        (lambda axes: axes.figure.set_size_inches(5, 2), "is 5 by 2 inches"),
        (lambda axes: axes.set_position((-0.1, 0.5, 0.5, 0.3)), "a panel is outside the figure"),
    ],
)
def test_the_checker_sees_each_fault(spoil, fault):
    with _style.applied(COLUMN):
        figure = Figure(figsize=(3.5, 2))
        figure.set_layout_engine("none")
        axes = figure.subplots()
        assert faults(figure, COLUMN) == []
        spoil(axes)
        assert fault in faults(figure, COLUMN)


def test_the_checker_sees_a_warning():
    def draw(preset):
        figure = _style.figure(preset, 2)
        figure.subplots().set_xlim(1, 1)
        return figure

    assert any(each.startswith("warns: ") for each in of_drawing(draw, COLUMN))
