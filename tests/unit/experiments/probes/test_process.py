"""What makes a process a punctual instrument, as far as it can be seen from inside."""

import os

import pytest

from experiments.probes.process import stay_on_one_processor


def test_senders_stay_on_one_processor_each_and_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would move them, and packets of one flow would wait in two queues."""
    chosen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5, 0, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, mask: chosen.append(mask))

    for place in range(4):
        stay_on_one_processor(place)

    assert chosen == [{0}, {3}, {5}, {0}]
