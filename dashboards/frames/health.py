"""Did the run work: items by stage, what failed, how fast it went, what was made from what."""

from __future__ import annotations

import pandas as pd

from words import STAGES, named


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
