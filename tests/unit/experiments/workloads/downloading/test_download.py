"""Lines that a client that downloads has written down, as rows."""

from experiments.workloads.download import ROWS
from experiments.workloads.downloading.download import Download, rows


def test_each_line_is_a_row_and_one_that_is_cut_off_is_none() -> None:
    one = Download(1, 2, 3, "whole", 0.5, 0.25, 1)
    line = one.line()
    made = rows("vm3>web/http", [line, line, line[:-9]])
    assert made == [("vm3>web/http", n, 1, 2, 3, "whole", 0.5, 0.25, 1) for n in (1, 2)]
    assert list(ROWS.frame(made).columns) == list(ROWS.columns)
