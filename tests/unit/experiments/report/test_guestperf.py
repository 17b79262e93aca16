"""Transfers in the form of QEMU's guestperf: its fields, and sums since the beginning."""

import json
from pathlib import Path

from experiments.report import guestperf
from tests.helpers import kinds_of_results

RECORD = {
    *("hardware", "scenario", "progress_history", "guest_timings", "qemu_timings", "vcpu_timings"),
    *("binary", "dst_host", "kernel", "initrd", "transport", "sleep"),
}
"""What guestperf takes out of a record when it reads one: without any of these it fails."""
HARDWARE = {
    *("cpus", "mem", "src_cpu_bind", "src_mem_bind", "dst_cpu_bind", "dst_mem_bind"),
    *("prealloc_pages", "huge_pages", "locked_pages", "dirty_ring_size"),
}
PROGRESS = {
    *("status", "ram", "now", "duration", "downtime", "downtime_expected", "setup_time"),
    *("throttle_pcent", "dirty_limit_throttle_time_per_round", "dirty_limit_ring_full_time"),
}
RAM = {
    *("transferred_bytes", "remaining_bytes", "total_bytes", "duplicate_pages", "skipped_pages"),
    *("normal_pages", "normal_bytes", "dirty_rate_pps", "transfer_rate_mbs", "iterations"),
}
SCENARIO = {
    *("name", "downtime", "bandwidth", "max_iters", "max_time", "pause", "pause_iters"),
    *("post_copy", "post_copy_iters", "auto_converge", "auto_converge_step", "compression_mt"),
    *("compression_mt_threads", "compression_xbzrle", "compression_xbzrle_cache", "multifd"),
    *(
        "multifd_channels",
        "multifd_compression",
        "dirty_limit",
        "x_vcpu_dirty_limit_period",
        "vcpu_dirty_limit",
    ),
}


def test_each_move_with_state_is_a_record_of_guestperf(tmp_path: Path) -> None:
    kinds_of_results.with_state(tmp_path / "r")
    files = guestperf.write(tmp_path / "r")
    assert [file.name for file in files] == [f"move-{number}.json" for number in range(1, 5)]
    record = json.loads(files[3].read_text(encoding="utf-8"))
    assert record.keys() == RECORD
    assert record["hardware"].keys() == HARDWARE
    assert record["scenario"].keys() == SCENARIO
    assert record["scenario"]["downtime"] == 100
    assert record["hardware"]["mem"] == 4 * 2**24 / 2**30
    history = record["progress_history"]
    assert [each["status"] for each in history][-2:] == ["postcopy-active", "completed"]
    assert all(each.keys() == PROGRESS and each["ram"].keys() == RAM for each in history)
    assert [each["ram"]["transferred_bytes"] for each in history] == [1, 2, 3, 3]
    assert [each["downtime"] for each in history] == [0, 0, 0, 80]


def test_a_result_without_state_has_none(tmp_path: Path) -> None:
    kinds_of_results.without_moves(tmp_path / "r")
    assert guestperf.write(tmp_path / "r") == []
