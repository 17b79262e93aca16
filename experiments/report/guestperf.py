"""Writes transfers of state in the form of QEMU's guestperf, for tools that read that.

One record for each move: `hardware`, `scenario` and `progress_history`, with the fields and the
units of guestperf (qemu, tests/migration-stress/guestperf): sums since the beginning, memory in
GiB, bandwidth in MiB/s, durations in ms.  There is an entry for each round, and one at the end.
What guestperf measures inside its guest and of QEMU's threads is not measured here and empty.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.measure.results import Result, load, written_into
from nve.guest.spec import MB, PAGE_SIZE
from nve.transfer.convergence import HAVE_ROUNDS, MAY_RESUME_FIRST, TransferLimits

FOLDER = "guestperf"
_UNLIMITED_MIB_S = 125_000
"""guestperf's word for no limit."""
_NOT_HERE: Mapping[str, Any] = {
    # settings that QEMU has and a transfer here has not
    "pause": False,
    "pause_iters": 0,
    "compression_mt_threads": 1,
    "compression_xbzrle": False,
    "compression_xbzrle_cache": 0,
    "dirty_limit": False,
    "x_vcpu_dirty_limit_period": 0,
    "vcpu_dirty_limit": 0,
}


def write(path: Path) -> list[Path]:
    """Write a file for each move with state to the folder `guestperf` of each run; return the
    files.

    Raises ResultError.
    """
    written = []
    for run in load(path).runs.values():
        for number, record in records(run).items():
            file = run.path / FOLDER / f"move-{number}.json"
            with written_into(run.path):
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(record, indent=4) + "\n", encoding="utf-8")
            written.append(file)
    return written


def records(run: Result) -> dict[int, dict[str, Any]]:
    """Return the records by the move's number."""
    rounds = run.iterations
    if rounds is None:
        return {}
    moves = run.metrics.drop_duplicates("move").to_dict("records")
    found = {}
    for move in moves:
        mine = rounds[rounds["move"] == move["move"]].to_dict("records")
        if mine:
            asked = run.scenario["moves"][int(move["move"]) - 1]["transfer"]
            limits = TransferLimits(**asked)
            found[int(move["move"])] = _migration(run.name, dict(move), mine, limits)  # type: ignore[arg-type]
    return found


def _migration(
    name: str, move: dict[str, Any], rounds: list[dict[str, Any]], limits: TransferLimits
) -> dict[str, Any]:
    total = int(move["state_bytes"])
    return {
        "hardware": {
            **{"cpus": 1, "mem": total / (1 << 30)},
            **dict.fromkeys(("src_mem_bind", "dst_mem_bind", "src_cpu_bind", "dst_cpu_bind")),
            **{"prealloc_pages": True, "huge_pages": False, "locked_pages": False},
            "dirty_ring_size": 0,
        },
        "scenario": _scenario(f"{name}-move-{move['move']}", limits),
        "progress_history": _history(move, rounds, total),
        **dict.fromkeys(("guest_timings", "qemu_timings", "vcpu_timings"), ()),
        **{"binary": "vmmlab", "dst_host": move["to_nve"], "kernel": "", "initrd": ""},
        **{"transport": "tcp", "sleep": 0},
    }


def _scenario(name: str, limits: TransferLimits) -> dict[str, Any]:
    bandwidth = _UNLIMITED_MIB_S
    if limits.bandwidth_mbit:
        bandwidth = round(limits.bandwidth_mbit * 1e6 / 8 / MB)
    return {
        "name": name,
        "downtime": limits.downtime_limit_ms,
        "bandwidth": bandwidth,
        "max_iters": limits.max_iterations,
        "max_time": limits.max_time_s,
        "post_copy": limits.kind in MAY_RESUME_FIRST,
        "post_copy_iters": limits.post_copy_after if limits.kind in HAVE_ROUNDS else 0,
        "auto_converge": limits.auto_converge,
        "auto_converge_step": limits.throttle_step_pct,
        "compression_mt": limits.compression != "none",
        "multifd": limits.channels > 1,
        "multifd_channels": limits.channels,
        "multifd_compression": "" if limits.compression == "none" else limits.compression,
        **_NOT_HERE,
    }


def _history(
    move: dict[str, Any], rounds: list[dict[str, Any]], total: int
) -> list[dict[str, Any]]:
    began_s = rounds[0]["began_ns"] / 1e9
    ram = {"total_bytes": total, "skipped_pages": 0, "iterations": 0}
    ram |= dict.fromkeys(("transferred_bytes", "duplicate_pages", "normal_pages"), 0)
    history: list[dict[str, Any]] = []
    for each in rounds:
        ram["iterations"] += 1
        for field in ("transferred_bytes", "duplicate_pages", "normal_pages"):
            ram[field] += int(each[field])
        now_s = each["began_ns"] / 1e9 + each["took_ms"] / 1e3
        state = {
            **ram,
            "remaining_bytes": int(each["remaining_bytes"]),
            "normal_bytes": ram["normal_pages"] * PAGE_SIZE,
            "dirty_rate_pps": round(each["dirty_pages_rate"]),
            "transfer_rate_mbs": each["mbps"],
        }
        expected_ms = each["expected_downtime_ms"]
        entry = {
            **{"status": each["status"], "ram": state, "now": now_s},
            **{"duration": round((now_s - began_s) * 1e3), "downtime": 0, "setup_time": 0},
            "downtime_expected": 0 if expected_ms != expected_ms else expected_ms,
            "throttle_pcent": int(each["cpu_throttle_percentage"]),
            **{"dirty_limit_throttle_time_per_round": 0, "dirty_limit_ring_full_time": 0},
        }
        history.append(entry)
    status = "completed" if move["outcome"] == "completed" else "failed"
    pause_ms = move["pause_ms"]
    downtime = 0 if pause_ms != pause_ms else pause_ms
    return [*history, {**history[-1], "status": status, "downtime": downtime}]
