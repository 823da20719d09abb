"""What the dashboards read from a store, against what was written, and against the engine that wrote it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import loaders
from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.engine.runlog import RunLog
from beholder.errors import StoreError
from beholder.records import table_digest


def test_a_folder_without_a_store_is_refused_and_left_alone(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        loaders.open_store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_written_by_reading(store):
    def files():
        return {(p, p.stat().st_mtime_ns, p.stat().st_size) for p in store.root.rglob("*") if p.is_file()}

    before = files()
    opened = loaders.open_store(store.root)
    for read in (loaders.records, loaders.versions, loaders.ledger, loaders.ledger_version, loaders.runs):
        read(opened)
    loaders.version_of(opened, "ratings")
    loaders.rows_in(opened, "ratings")
    loaders.is_simulated(opened)
    assert files() == before


def test_a_version_names_the_content_and_changes_with_it(copied):
    first = loaders.version_of(copied, "ladder")
    table = copied.read_table("ladder")
    assert first.digest == table_digest(table)
    assert loaders.rows_in(copied, "ladder") == len(table)
    shorter = table.head(3)
    copied.write_table("ladder", shorter)
    copied.write_record("table-ladder", {"digest": table_digest(shorter), "rows": 3, "inputs": {}})
    second = loaders.version_of(copied, "ladder")
    assert second.digest == table_digest(shorter)
    assert second.written != first.written


def test_a_table_rewritten_under_its_old_record_is_another_version(copied):
    """Between a table and its record there is a moment; what is cached then must not be taken for the old content."""
    first = loaders.version_of(copied, "ladder")
    copied.write_table("ladder", copied.read_table("ladder").head(3))
    assert loaders.version_of(copied, "ladder") != first


def test_a_table_without_record_or_file_is_absent(copied):
    copied.path("records/table-ladder.json").unlink()
    copied.path("tables/votes.parquet").unlink()
    assert loaders.version_of(copied, "ladder") is None
    assert loaders.version_of(copied, "votes") is None
    assert loaders.rows_in(copied, "votes") is None
    assert loaders.version_of(copied, "never_made") is None


def test_every_table_is_laid_to_the_job_that_writes_it(store):
    """Checked against the jobs themselves, which name the tables they write."""
    assert {path.stem for path in store.path("tables").glob("*.parquet")} <= set(loaders.WRITERS)
    for name, job in loaders.WRITERS.items():
        source = (Path(__file__).parents[2] / "jobs" / f"{job}.py").read_text()
        assert re.search(rf"[\"`]{name}(\.\w+)?[\"`]", source), (name, job)


def test_the_command_for_a_job_names_job_plan_and_store(store, empty):
    command = loaders.command_for("steer", store)
    assert command == f"python jobs/steer.py --plan jobs/studies/small.yaml --store {store.root}"
    assert "--plan jobs/studies/demo.yaml" in loaders.command_for("steer", empty)


def test_records_tell_rows_inputs_and_what_is_outdated(copied):
    before = loaders.records(copied).set_index("table")
    assert set(before["state"]) == {"current"}
    assert before.loc["ladder", "made_from"] == ["predictions", "ratings"]
    assert before.loc["ratings", "rows"] == len(copied.read_table("ratings"))
    record = copied.read_record("table-ratings")
    copied.write_record("table-ratings", record | {"digest": "another"})
    copied.path("tables/trials.parquet").unlink()
    after = loaders.records(copied).set_index("table")["state"]
    made_from_ratings = {n for n in before.index if "ratings" in before.loc[n, "made_from"]}
    assert {name for name in after.index if after[name] == "outdated"} == made_from_ratings
    assert after["trials"] == "no file"


def test_versions_count_the_tables_made_with_each(copied):
    made = loaders.versions(copied).set_index("software")
    n = len(list(copied.path("records").glob("table-*.json")))
    assert set(made["n_tables"]) == {n}
    record = copied.read_record("table-votes")
    copied.write_record("table-votes", record | {"versions": record["versions"] | {"numpy": "0.1"}})
    numpy = loaders.versions(copied).query("software == 'numpy'").set_index("version")["n_tables"]
    assert numpy["0.1"] == 1
    assert numpy.sum() == n


class Halves:
    """A stage that fails for odd numbers until `mended`."""

    name, version, batch_size = "halves", 1, 3

    def __init__(self, mended: bool) -> None:
        self.mended = mended

    def identity(self) -> Mapping[str, Any]:
        return {}

    def setup(self, store: Any) -> None:
        pass

    def process(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not self.mended and any(item["n"] % 2 for item in items):
            raise ValueError("odd")
        return [{"half": item["n"] / 2} for item in items]


def run_halves(store: Any, mended: bool, numbers: Sequence[int]) -> pd.DataFrame:
    with Engine(store, InProcess(store), Quiet(), max_failed=1.0, retries=5) as engine:
        return pd.DataFrame(engine.run(Halves(mended), [{"n": n} for n in numbers]).rows)


def test_the_ledger_shows_the_rows_that_count_for_the_engine(empty):
    run_halves(empty, False, range(7))
    run_halves(empty, False, range(7))
    told = run_halves(empty, True, range(4))
    told = pd.concat([told, run_halves(empty, False, range(4, 7))])
    shown = loaders.ledger(empty)
    assert list(shown.columns) == list(loaders.LEDGER_COLUMNS)
    columns = ["key", "status", "attempt", "error"]
    expected, found = (frame.sort_values("key")[columns].fillna("").to_numpy().tolist() for frame in (told, shown))
    assert found == expected
    assert shown["status"].value_counts().to_dict() == {"ok": 6, "failed": 1}
    assert shown.query("status == 'failed'")["attempt"].tolist() == [3]


def test_a_line_cut_off_by_a_kill_is_skipped_and_growth_is_noticed(empty):
    run_halves(empty, True, range(3))
    before = loaders.ledger_version(empty)
    shard = next(empty.path("ledger/halves").glob("*.jsonl"))
    with shard.open("ab") as stream:
        stream.write(json.dumps({"key": "k"}).encode()[:4])
    assert len(loaders.ledger(empty)) == 3
    assert loaders.ledger_version(empty) != before


def test_a_store_without_runs_has_empty_frames_with_columns(empty):
    for frame in (loaders.records(empty), loaders.versions(empty), loaders.ledger(empty), loaders.runs(empty)):
        assert frame.empty
        assert len(frame.columns) >= 4
    assert loaders.plan_name(empty) is None
    assert not loaders.is_simulated(empty)


def test_runs_tell_state_items_and_error(empty):
    log = RunLog(empty, "first", "generate", "hash", Quiet())
    with log, log.stage("Generate images", 5, 1, 0) as advance:
        advance(2, 1)
    failing = RunLog(empty, "second", "embed", "hash", Quiet())
    with pytest.raises(ValueError, match="no weights"), failing:
        raise ValueError("no weights")
    shown = loaders.runs(empty).set_index("run")
    assert shown.loc["first", ["state", "done", "failed", "stage"]].tolist() == ["done", 3, 1, "Generate images"]
    assert shown.loc["second", "state"] == "failed"
    assert "no weights" in shown.loc["second", "error"]


def test_public_data_sets_stand_beside_the_study(copied):
    assert loaders.data_sets(copied) == [""]
    for name in ("avt_ai_images_ratings", "avt_ai_images_all_ratings"):
        copied.write_table(name, copied.read_table("ratings"))
    copied.write_table("avt_ai_images_images", copied.read_table("images"))
    assert set(loaders.data_sets(copied)) == {"", "avt_ai_images_", "avt_ai_images_all_"}
    assert loaders.data_sets(copied)[0] == ""
    assert loaders.images_of(copied, "") == "images"
    assert loaders.images_of(copied, "avt_ai_images_") == "avt_ai_images_images"
    assert loaders.images_of(copied, "avt_ai_images_all_") == "avt_ai_images_images"
    copied.path("tables/ratings.parquet").unlink()
    assert "" not in loaders.data_sets(copied)
    assert loaders.writer_of("avt_ai_images_tie_curve") == "evaluate_taste"
    assert loaders.writer_of("avt_ai_images_ratings") == "evaluate_taste"
    assert loaders.writer_of("ratings") == "simulate_ratings"
    assert loaders.writer_of("unheard_of") is None


def test_stages_of_a_run_at_work_tell_how_far_they_are(empty):
    log = RunLog(empty, "now", "generate", "hash", Quiet())
    with log, log.stage("Generate images", 8, 2, 0) as advance:
        advance(3, 1)
        with log.step("Look"):
            pass  # a step that ends is told at once, and all else with it
        first = loaders.stages_of_runs(empty).iloc[0]
        told = ["run", "stage", "share", "done", "of", "failed", "found", "left", "at_work"]
        assert first[told].tolist() == ["now", "Generate images", 0.75, 5, 8, 1, 2, 2, True]
    after = loaders.stages_of_runs(empty)
    assert after["stage"].tolist() == ["Generate images", "Look"]
    assert not after["at_work"].any()
    assert after["seconds_left"].isna().all()
