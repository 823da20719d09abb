"""Did the run work: items by stage, what failed, how fast it went, what was made from what."""

from __future__ import annotations

import pandas as pd

from words import STAGES, duration, named, number, percent


def stages(ledger: pd.DataFrame) -> pd.DataFrame:
    """One row a stage.

    Returns
    -------
    DataFrame
        stage, label, items, ok, failed, retried (needed more than one attempt), workers, seconds (median and
        `slowest` of an item), work_seconds (sum), first, last (times written, UTC); in the order of their first row.
    """
    times = pd.to_datetime(ledger["written_at"], format="ISO8601", utc=True).dt.tz_convert(None)
    rows = ledger.assign(
        ok=ledger["status"] == "ok", failed=ledger["status"] != "ok", retried=ledger["attempt"] > 1, at=times
    )
    groups = rows.groupby("stage")
    frame = groups.agg(
        items=("key", "size"),
        ok=("ok", "sum"),
        failed=("failed", "sum"),
        retried=("retried", "sum"),
        workers=("worker", "nunique"),
        seconds=("seconds", "median"),
        slowest=("seconds", "max"),
        work_seconds=("seconds", "sum"),
        first=("at", "min"),
        last=("at", "max"),
    )
    frame = frame.sort_values("first").reset_index()
    return frame.assign(label=[named(STAGES, name) for name in frame["stage"]])


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """`stages` in long form: label, outcome ("ok", "failed"), count."""
    return table.melt(id_vars=["label"], value_vars=["ok", "failed"], var_name="outcome", value_name="count")


def failures(ledger: pd.DataFrame) -> pd.DataFrame:
    """Items set aside: stage, error, items, attempts (most), key (of the first); most frequent first."""
    rows = ledger[ledger["status"] != "ok"]
    columns = ["stage", "error", "items", "attempts", "key"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    groups = rows.groupby(["stage", "error"], dropna=False)
    frame = groups.agg(items=("key", "size"), attempts=("attempt", "max"), key=("key", "first")).reset_index()
    return frame.sort_values("items", ascending=False, ignore_index=True)[columns]


PROGRESS = {"done": "done", "failed": "failed", "left": "left"}
"""Columns of `loaders.stages_of_runs` that a stage's items fall into."""
STAGE_TITLES = {
    "stage": "Stage", "of": "Items", "found": "There before", "done": "Done", "failed": "Failed", "left": "Left",
    "workers": "Workers", "rate": "Items a second", "took": "Took", "remaining": "Time left", "idle": "Workers idle",
    "cost": "Cost",
}  # fmt: skip


def stages_of(rows: pd.DataFrame, run: str) -> pd.DataFrame:
    """One run's stages as they are shown: those with items and those without, in their order.

    Returns
    -------
    DataFrame
        `loaders.stages_of_runs` of the run, with `label`, which no two stages share.
    """
    mine = rows[rows["run"] == run].reset_index(drop=True)
    turn = mine.groupby("stage").cumcount()
    label = [name if not k else f"{name} ({k + 1})" for name, k in zip(mine["stage"], turn, strict=True)]
    return mine.assign(label=label)


def told(rows: pd.DataFrame) -> pd.DataFrame:
    """`stages_of` as people read it; a step without items has none to count."""
    counted = rows["of"].notna()
    items = {
        name: [number(n, 0) for n in rows[name].where(counted)] for name in ("of", "found", "done", "failed", "left")
    }
    pace = {
        "rate": ["–" if pd.isna(rate) else f"{rate:.3g}" for rate in rows["a_second"]],
        "took": [duration(seconds) for seconds in rows["seconds"]],
        "remaining": [duration(seconds) for seconds in rows["seconds_left"]],
        "idle": [percent(share, 0) for share in rows["idle"]],
        "cost": [number(cost, 2) for cost in rows["cost"]],
    }
    shown = rows.assign(stage=rows["label"], **items, **pace)
    return shown[list(STAGE_TITLES)].rename(columns=STAGE_TITLES)


def progress(rows: pd.DataFrame) -> pd.DataFrame:
    """Items of stages in long form: label, outcome (a value of `PROGRESS`), count; steps without items are left out."""
    counted = rows[rows["of"].notna()]
    return counted.melt(id_vars=["label"], value_vars=list(PROGRESS), var_name="outcome", value_name="count")


def stalls(rows: pd.DataFrame) -> list[str]:
    """What watchdogs say of stages at work, with the knob to turn."""
    return [str(text) for text in rows["stalled"].dropna()]


def totals(rows: pd.DataFrame) -> dict[str, float]:
    """Of one run's stages: done, failed, left, cost (NaN where nobody knows one), idle (by time), seconds_left."""
    known = rows[rows["idle"].notna() & (rows["seconds"] > 0)]
    idle = float((known["idle"] * known["seconds"]).sum() / known["seconds"].sum()) if len(known) else float("nan")
    found = {name: float(rows[name].sum()) for name in ("done", "failed", "left")}
    # Stages of a chain work side by side: the slowest one says how long it takes.
    return found | {
        "cost": float(rows["cost"].sum(min_count=1)),
        "idle": idle,
        "seconds_left": rows["seconds_left"].max(),
    }


_LINEAGE = ("table", "rows", "state", "made_from")


def lineage(records: pd.DataFrame) -> str:
    """What was made from what, as a graph in the DOT language; outdated tables are marked."""
    lines = [
        "digraph {",
        'rankdir=LR; bgcolor="transparent"; ranksep=0.45; nodesep=0.18;',
        'node [shape=box style="rounded,filled" fontname="Source Sans Pro, sans-serif" fontsize=12 '
        'color="#c9ced6" fillcolor="#ffffff" fontcolor="#1f2a37" margin="0.12,0.06"];',
        'edge [color="#9aa5b3" arrowsize=0.6];',
    ]
    for name, rows, state, made_from in zip(*(records[c] for c in _LINEAGE), strict=True):
        mark = "" if state == "current" else ' color="#b5482a" penwidth=2'
        label = _quoted(f"{name}\n{_rows(rows)}")
        lines.append(f"{_quoted(name)} [label={label}{mark}];")
        lines += [f"{_quoted(source)} -> {_quoted(name)};" for source in made_from]
    return "\n".join([*lines, "}"])


def _rows(rows: object) -> str:
    return f"{int(rows):,} rows" if isinstance(rows, int | float) and rows == rows else "rows unknown"


def _quoted(text: str) -> str:
    escaped = text.replace('"', "'").replace("\n", "\\n")
    return f'"{escaped}"'
