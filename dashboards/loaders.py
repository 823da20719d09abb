"""What lies in a store, as frames: tables, records and the ledger. No Streamlit here; nothing is ever written.

A table is named by the digest in its record and by the time it was written, so a cache keyed by `TableVersion` never
shows an old table for a new one, nor a new one for an old digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from beholder.engine.runlog import StageState, run_states, utc_now
from beholder.store import Store

WRITERS = {
    "prompts": "generate",
    "images": "generate",
    "ratings": "simulate_ratings",
    "truth_ratings": "simulate_ratings",
    "features": "embed",
    "prompt_vectors": "embed",
    "predictions": "evaluate_taste",
    "predictions_dense": "evaluate_taste",
    "ladder": "evaluate_taste",
    "differences": "evaluate_taste",
    "tie_curve": "evaluate_taste",
    "disagreement": "evaluate_taste",
    "taste_fits": "evaluate_taste",
    "evaluation_notes": "evaluate_taste",
    "evaluation_counts": "evaluate_taste",
    "personal_spread": "evaluate_taste",
    "stability": "evaluate_taste",
    "ablation": "ablation",
    "ablation_adds": "ablation",
    "ablation_gap": "ablation",
    "ablation_spread": "ablation",
    "token_effects": "ablation",
    "newcomers": "newcomers",
    "newcomers_chosen": "newcomers",
    "trained": "train_taste",
    "trained_differences": "train_taste",
    "search_trace": "steer",
    "steered_images": "steer",
    "steered": "steer",
    "steering_gains": "steer",
    "steering_rewards": "steer",
    "steering_consistency": "steering_consistency",
    "trials": "pairwise_study",
    "votes": "pairwise_study",
    "truth_votes": "pairwise_study",
    "contrasts": "analyse",
    "ranking": "analyse",
    "consistency": "analyse",
    "recovered": "analyse",
}
"""The job that writes each table."""

READS_DATA = {"newcomers": "--dataset {name}", "ablation": "--data FOLDER --reader NAME"}
"""How a job is told of a public data set."""
DATA_SETS = "evaluate_taste"
"""The job that reads public data sets and makes what no other job makes of them."""
RELEASE = "release_"
"""Before the names of tables of a release's own splits."""
PATIENCE = 20.0
"""Seconds for which a bucket that does not answer is waited for."""
LEDGER_COLUMNS = ("stage", "key", "status", "error", "attempt", "seconds", "worker", "written_at", "versions")


@dataclass(frozen=True)
class TableVersion:
    """Which content of a table: its digest, and what changes when its file is replaced."""

    name: str
    digest: str
    written: str


def open_store(folder: str | Path) -> Store:
    """The store in a folder or a bucket, which must be there: a dashboard makes none, and waits for none for long.

    Raises
    ------
    StoreError
        If there is no store, one of another format, or a bucket that does not answer.
    """
    return Store.existing(folder, patience=PATIENCE)


def version_of(store: Store, name: str) -> TableVersion | None:
    """Which content the table has now; None while no job has written both the table and its record."""
    record = store.read_record(f"table-{name}")
    written = store.stamps("tables", f"/{name}.parquet").get(f"tables/{name}.parquet")
    return TableVersion(name, str(record["digest"]), written) if record and written else None


def plan_name(store: Store) -> str | None:
    """Name of the plan that the store's tables were made under; None while there is none."""
    names = (record.get("plan") for record in store.read_records("table-").values())
    return next((str(name) for name in names if name), None)


def command_for(job: str, store: Store) -> str:
    """What to type so that a job's tables appear."""
    return f"python jobs/{job}.py --plan jobs/studies/{plan_name(store) or 'demo'}.yaml --store {store.url}"


def is_simulated(store: Store) -> bool:
    """Whether the truth is stored beside the answers, which is so for simulated people only."""
    return store.has_table("truth_ratings") or store.has_table("truth_votes")


def writer_of(name: str) -> str | None:
    """The job that writes a table; those of a public data set carry its name before theirs."""
    if name in WRITERS:
        return WRITERS[name]
    table = _ending(name)
    return None if table is None else WRITERS[table] if WRITERS[table] in READS_DATA else DATA_SETS


def command_of(name: str, store: Store) -> str | None:
    """What to type so that a table appears; None where no job writes it."""
    job, table = writer_of(name), _ending(name)
    if job is None or table is None:
        return None
    command, data = command_for(job, store), name.removesuffix(table)
    released = data.endswith(RELEASE)
    data = data.removesuffix(RELEASE).rstrip("_")
    told = READS_DATA.get(job, "--data FOLDER --reader NAME").format(name=data) if data else ""
    return " ".join(part for part in (command, told, "--split release" if released else "") if part)


def _ending(name: str) -> str | None:
    """The longest known table a name ends with."""
    found = [table for table in WRITERS if name == table or name.endswith(f"_{table}")]
    return max(found, key=len, default=None)


def data_sets(store: Store) -> list[str]:
    """What stands before the names of tables, for every set of ratings in the store: "" for the plan's own."""
    names = {name for name in store.tables() if name.endswith("ratings")} - {"truth_ratings"}
    others = sorted(name.removesuffix("ratings") for name in names if name.endswith("_ratings"))
    return ([""] if "ratings" in names or not others else []) + others


def evaluations(store: Store) -> list[str]:
    """As `data_sets`, with what a release's own splits say after each; that of the plan's own is "release_"."""
    found = []
    for data in data_sets(store):
        found += [data] + ([f"{data}{RELEASE}"] if store.has_table(f"{data}{RELEASE}ladder") else [])
    return found


def images_of(store: Store, data: str) -> str:
    """The table that lists a data set's images; selections of one data set share it."""
    shared = [name for name in data_sets(store) if data.startswith(name) and store.has_table(f"{name}images")]
    return f"{max(shared, key=len, default=data)}images"


def rows_in(store: Store, name: str) -> int | None:
    """Rows of a table as its record says, without opening the table; None where it is absent."""
    record = store.read_record(f"table-{name}")
    return int(record["rows"]) if record and store.has_table(name) else None


def records(store: Store) -> pd.DataFrame:
    """How every table was made, one row a table with a record.

    Returns
    -------
    DataFrame
        table, rows, digest, plan, plan_hash, seed, instruction_set, made_from (names), job, and state: "current";
        "outdated" where an input was written anew since; "no file" where the record outlived the table.
    """
    known = {name.removeprefix("table-"): record for name, record in store.read_records("table-").items()}
    there = set(store.tables())
    rows = [_record_row(name, name in there, record, known) for name, record in known.items()]
    columns = ["table", "rows", "digest", "plan", "plan_hash", "seed", "instruction_set", "made_from", "job", "state"]
    return pd.DataFrame(rows, columns=columns)


def _record_row(name: str, there: bool, record: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    inputs: dict[str, str] = record.get("inputs", {})
    changed = [n for n, digest in inputs.items() if known.get(n, {}).get("digest") != digest]
    state = "outdated" if changed else "current"
    return {
        "table": name,
        "rows": record.get("rows"),
        "digest": record["digest"],
        "plan": record.get("plan"),
        "plan_hash": record.get("plan_hash"),
        "seed": record.get("seed"),
        "instruction_set": record.get("instruction_set"),
        "made_from": sorted(inputs),
        "job": writer_of(name),
        "state": state if there else "no file",
    }


def versions(store: Store) -> pd.DataFrame:
    """Software versions in the tables' records: software, version, and which tables were made with it."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, record in store.read_records("table-").items():
        for software, version in record.get("versions", {}).items():
            found.setdefault((software, version), []).append(name.removeprefix("table-"))
    rows = [(software, version, len(tables), sorted(tables)) for (software, version), tables in sorted(found.items())]
    return pd.DataFrame(rows, columns=["software", "version", "n_tables", "tables"])


def ledger_version(store: Store) -> tuple[tuple[str, str], ...]:
    """Name and state of every shard: this changes whenever a row was added."""
    return tuple(store.stamps("ledger", ".jsonl").items())


def ledger(store: Store) -> pd.DataFrame:
    """The row that counts for every item of every stage, results left out: columns `LEDGER_COLUMNS`.

    As in the engine: the earliest row with a result, or else the failed one with the most attempts.
    """
    rows = pd.DataFrame(_ledger_rows(store), columns=list(LEDGER_COLUMNS))
    failed = rows["status"] != "ok"
    rank = rows.assign(failed=failed, tries=rows["attempt"].where(failed, 0))
    rank = rank.sort_values(["failed", "tries", "written_at"], ascending=[True, False, True], kind="stable")
    counted = rank.drop_duplicates(["stage", "key"]).sort_values(["stage", "written_at"], kind="stable")
    return counted[list(LEDGER_COLUMNS)].reset_index(drop=True)


def _ledger_rows(store: Store) -> Iterator[list[Any]]:
    for stage in sorted({name.split("/")[1] for name in store.names("ledger", ".jsonl")}):
        for row in store.ledger_rows(stage):
            yield [stage, *(row.get(name) for name in LEDGER_COLUMNS[1:])]


def runs(store: Store) -> pd.DataFrame:
    """Every run: run, state, attempt, started (UTC), stage (the last), done, failed, cost, heard, machine, error.

    `cost` adds up the stages that know theirs; `heard` is when the run last told of itself (UTC).
    """
    columns = ["run", "state", "attempt", "started", "stage", "done", "failed", "cost", "heard", "machine", "error"]
    rows = []
    for run in run_states(store, utc_now()):
        done, failed = sum(stage.done for stage in run.stages), sum(stage.failed for stage in run.stages)
        label = run.stages[-1].label if run.stages else None
        costs = [stage.cost for stage in run.stages if stage.cost is not None]
        started, heard = (pd.Timestamp(time).tz_convert(None) for time in (run.started_at, run.heartbeat))
        counted = [done, failed, sum(costs) if costs else float("nan")]
        rows.append([run.run_id, run.state, run.attempt, started, label, *counted, heard, run.host, run.error])
    return pd.DataFrame(rows, columns=columns)


def stages_of_runs(store: Store) -> pd.DataFrame:
    """Every stage of every run, in their order.

    Returns
    -------
    DataFrame
        run, state, stage, of (items; NaN for a step without), found (in the ledger at the start), done, failed, left,
        share (of items with a result or set aside), workers (at work now), a_second, seconds, seconds_left, idle (share
        of the workers' time without a batch), cost (of this attempt), at_work, stalled (why nothing comes, and what to
        do). What is not known is NaN or None.
    """
    columns = ["run", "state", "stage", "of", "found", "done", "failed", "left", "share", "workers", "a_second"]
    columns += ["seconds", "seconds_left", "idle", "cost", "at_work", "stalled"]
    rows = []
    for run in run_states(store, utc_now()):
        alive = run.state in ("running", "paused")
        rows += [[run.run_id, run.state, *_stage_row(stage, alive)] for stage in run.stages]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = ["of", "left", "share", "a_second", "seconds", "seconds_left", "idle", "cost"]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def _stage_row(stage: StageState, alive: bool) -> list[Any]:
    missing, at_work = float("nan"), alive and not stage.ended
    gone = stage.done + stage.failed
    left, share = (missing, missing) if stage.total is None else (stage.total - gone, gone / max(stage.total, 1))
    found = [stage.label, missing if stage.total is None else stage.total, stage.found, stage.done, stage.failed]
    pace = [stage.workers if at_work else 0, stage.rate, stage.seconds, stage.seconds_left if at_work else missing]
    spent = [missing if value is None else value for value in (stage.idle, stage.cost)]
    return [*found, left, share, *pace, *spent, at_work, stage.stalled if at_work else None]
