"""A result is there whole or not at all, and is read only if it can be understood."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiments.measure.recording import Recorder, partials
from experiments.measure.results import SCHEMA_VERSION, Result, ResultError, load
from experiments.report import narrative
from experiments.workloads import diskless_client
from tests.helpers import synthetic
from tests.helpers.data import RECORDED


@pytest.fixture
def recorded(tmp_path) -> Path:
    """A copy of the recorded result that a test may spoil."""
    return Path(shutil.copytree(RECORDED, tmp_path / "result"))


def change_manifest(result: Path, **changes) -> None:
    manifest = json.loads((result / "manifest.json").read_text())
    (result / "manifest.json").write_text(json.dumps(manifest | changes))


def record_one(recorder, variant=None):
    packets = synthetic.make_packets("drop", rate_pps=10, seed=1)
    run = recorder.run(variant)
    run.scenario(synthetic.scenario("drop", 10))
    run.events(synthetic.make_events("drop", 10))
    run.manifest({"name": "test"})
    run.packets(packets)
    run.moves(pd.DataFrame({"move": [1]}))


def test_what_is_written_is_read(tmp_path):
    with Recorder.create(tmp_path / "r") as recorder:
        record_one(recorder)
        assert not (tmp_path / "r").exists()
    result = load(tmp_path / "r")
    written = synthetic.make_packets("drop", rate_pps=10, seed=1)
    pd.testing.assert_frame_equal(result.packets, written)
    events = sorted(synthetic.make_events("drop", 10), key=lambda event: event.t_ns)
    assert result.events == events
    assert result.homes == synthetic.HOMES
    assert result.throughput is None
    assert result.rows("diskless-client") is None
    assert result.runs == {"test": result}
    assert result.manifest["schema"] == SCHEMA_VERSION


def test_where_vms_begin_is_read_in_both_forms(tmp_path):
    """A VM with addresses of its own is written as a mapping."""
    vms = {"vm1": "nve1", "vm2": {"nve": "nve3", "addresses": ["10.0.0.9"]}}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump({"tenants": [{"vms": vms}]}))

    assert Result(tmp_path, {}).homes == {"vm1": "nve1", "vm2": "nve3"}


def test_requests_are_read_as_they_were_written(tmp_path):
    asked = diskless_client.ROWS.frame(
        [(10, "vm1", 1, None, None, None, False), (20, "vm1", 2, 4_000_020, 4.0, "1.2.3.4", True)]
    )
    with Recorder.create(tmp_path / "r") as recorder:
        record_one(recorder)
        recorder.run().rows("diskless-client", asked)
    read = load(tmp_path / "r").rows("diskless-client")
    assert read is not None
    pd.testing.assert_frame_equal(read, asked, check_dtype=False)


def test_variants_are_results_of_their_own(tmp_path):
    result = load(synthetic.write_result(tmp_path / "r", rate_pps=10))
    assert list(result.runs) == ["drop", "tunnel"]
    assert load(tmp_path / "r" / "tunnel").packets["flow"].nunique() == 6
    assert isinstance(result.runs["tunnel"], Result)


def test_an_existing_result_is_never_touched(tmp_path):
    (tmp_path / "r").mkdir()
    with pytest.raises(ResultError, match="exists already; name another directory with --out"):
        Recorder.create(tmp_path / "r")


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def interrupted():
        with Recorder.create(tmp_path / "r") as recorder:
            record_one(recorder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_did_not_record_everything_leaves_nothing(tmp_path):
    def half_done():
        with Recorder.create(tmp_path / "r") as recorder:
            recorder.run().scenario({})

    with pytest.raises(ResultError, match=r"did not record .*packets\.parquet.*nothing was kept"):
        half_done()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), RuntimeError("the NVA has died")])
def test_a_run_that_fails_leaves_those_that_were_finished(tmp_path, ending):
    recorder = Recorder.create(tmp_path / "r", variants=["drop", "tunnel", "hold"])

    def second_fails():
        with recorder:
            recorder.overall({}, {"name": "three"})
            record_one(recorder, "drop")
            recorder.run("tunnel").scenario({})
            raise ending

    with pytest.raises(type(ending)):
        second_fails()
    assert recorder.kept == f"drop had been finished and can be found in {tmp_path}/r"
    result = load(tmp_path / "r")
    assert (result.name, list(result.runs)) == ("three", ["drop"])
    why = str(ending) or "interrupted"
    assert result.manifest["not_finished"] == {"tunnel": why, "hold": why}
    assert sorted(path.name for path in tmp_path.glob("r/*")) == [
        *("drop", "manifest.json", "scenario.yaml"),
    ]
    assert f"hold was not finished: {why}" in narrative.honest_notes(result)


def test_a_part_is_not_kept_where_only_the_whole_is_worth_having(tmp_path):
    def second_fails():
        variants = ["drop", "tunnel"]
        with Recorder.create(tmp_path / "r", variants=variants, keep_part=False) as recorder:
            recorder.overall({}, {})
            record_one(recorder, "drop")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second_fails()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", ["packets.parquet.partial", ".manifest.json.{pid}.partial"])
@pytest.mark.parametrize("variants", [None, ["drop", "tunnel"]])
def test_on_a_full_disk_what_was_written_is_kept_and_marked(tmp_path, full, variants):
    recorder = Recorder.create(tmp_path / "r", variants=variants)
    run = recorder.run(variants and variants[0])
    run.samples.mkdir()
    (run.samples / "vm1.receiver.samples").write_bytes(b"what a probe has measured")
    (run.directory / full.format(pid=os.getpid())).symlink_to("/dev/full")

    def overflow():
        with recorder:
            if variants:
                recorder.overall({}, {"name": "two"})
            record_one(recorder, variants and variants[0])

    with pytest.raises(OSError, match="No space left on device"):
        overflow()
    assert (
        recorder.kept == f"what was written until then is in {tmp_path}/r, marked as not complete"
    )
    assert list(tmp_path.rglob("events.csv"))
    assert not list(tmp_path.rglob(".manifest*"))
    if "packets" in full:
        assert list(tmp_path.rglob("vm1.receiver.samples"))
    with pytest.raises(ResultError, match="says that it is not complete"):
        load(tmp_path / "r")


def test_on_a_disk_that_has_become_full_a_variant_that_was_finished_can_be_read(tmp_path):
    recorder = Recorder.create(tmp_path / "r", variants=["drop", "tunnel"])

    def overflow():
        with recorder:
            record_one(recorder, "drop")
            (recorder.run("tunnel").directory / "events.csv").symlink_to("/dev/full")
            record_one(recorder, "tunnel")

    with pytest.raises(OSError, match="No space left on device"):
        overflow()
    assert str(recorder.kept).endswith("marked as not complete; drop in it had been finished")
    assert load(tmp_path / "r/drop").metrics is not None


def test_two_runs_do_not_write_one_result(tmp_path):
    living = tmp_path / f".r.{os.getppid()}.partial"
    living.mkdir()
    with pytest.raises(ResultError, match=rf"process {os.getppid()} is writing .*/r; name another"):
        Recorder.create(tmp_path / "r")
    living.rename(tmp_path / f".r.{2**22 + 1}.partial")  # no such process
    Recorder.create(tmp_path / "r")


def test_a_variant_that_was_not_declared_is_a_mistake(tmp_path):
    with (
        pytest.raises(ValueError, match="no variant 'other'; there are"),
        Recorder.create(tmp_path / "r", variants=["drop"]) as recorder,
    ):
        recorder.run("other")


def test_packets_without_a_column_are_refused(tmp_path):
    with (
        pytest.raises(ResultError, match=r"packets\.parquet lacks the columns seq"),
        Recorder.create(tmp_path / "r") as recorder,
    ):
        recorder.run().packets(synthetic.make_packets("drop", 10, 1).drop(columns="seq"))


def test_what_a_killed_run_left_is_found_and_not_loaded(tmp_path):
    no_such_pid = 2**22 + 1
    left = tmp_path / f".r.{no_such_pid}.partial"
    left.mkdir()
    Recorder.create(tmp_path / "of-a-run-that-goes-on")
    assert partials(tmp_path) == [left]
    with pytest.raises(ResultError, match="did not finish"):
        load(left)


def test_a_newer_schema_is_refused_in_a_sentence(recorded):
    change_manifest(recorded, schema=SCHEMA_VERSION + 1)
    with pytest.raises(ResultError, match="read it with the vmmlab that wrote it"):
        load(recorded)


def test_an_incomplete_result_is_refused(recorded):
    change_manifest(recorded, complete=False)
    with pytest.raises(ResultError, match="not complete; run the scenario again"):
        load(recorded)


def test_a_result_that_lacks_a_file_is_refused(recorded):
    (recorded / "drop" / "packets.parquet").unlink()
    with pytest.raises(ResultError, match=r"lacks packets\.parquet"):
        _ = load(recorded).runs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "x"}'])
def test_a_manifest_that_is_none_is_refused(recorded, text):
    (recorded / "manifest.json").write_text(text)
    with pytest.raises(ResultError, match="cannot be read as a manifest"):
        load(recorded)


def test_a_directory_that_is_no_result(tmp_path):
    with pytest.raises(ResultError, match="is not a result directory"):
        load(tmp_path)


def test_a_sweep_is_no_result_and_what_to_do_with_it_is_said(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ResultError, match=r"is a sweep.*/cells/….* `vmmlab plot /.*`"):
        load(tmp_path)


def test_metrics_are_computed_anew_from_what_was_recorded():
    for run in load(RECORDED).runs.values():
        recorded, computed = run.moves, run.metrics
        assert recorded["lost"].tolist() == computed["lost"].tolist()
        assert recorded["blackout_ms"].tolist() == pytest.approx(computed["blackout_ms"].tolist())
