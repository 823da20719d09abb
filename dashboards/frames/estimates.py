"""What an interval lets one say, and several measures of one table side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from frames.models import in_order, splits_in
from words import MODELS, SPLITS, named

VERDICTS = ("more", "less", "no difference shown", "no interval")


def verdicts(rows: pd.DataFrame, words: Sequence[str] = VERDICTS, p: str | None = None) -> list[str]:
    """Of every difference, in `words` (in the order of `VERDICTS`), on which side of 0 its whole interval lies.

    `p` names a column of corrected p values that must agree.
    """
    low, high = (rows[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high"))
    tested = np.ones(len(rows), dtype=bool) if p is None else rows[p].to_numpy(dtype=float) < 0.05
    found = np.select([np.isnan(low) | np.isnan(high), tested & (low > 0), tested & (high < 0)], [3, 0, 1], 2)
    return [words[k] for k in found.tolist()]


def with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `label` (of the model) and, where it has splits, `split_label`; the simplest model first."""
    rung = {name: k for k, name in enumerate(in_order(list(table["model"])))}
    rows = table.assign(label=[named(MODELS, name) for name in table["model"]], _rung=table["model"].map(rung))
    keys = ["_rung"]
    if "split" in rows:
        place = {name: k for k, name in enumerate(splits_in(rows))}
        rows = rows.assign(split_label=[named(SPLITS, name) for name in rows["split"]], _split=rows["split"].map(place))
        keys = ["_split", "_rung"]
    ordered = rows.sort_values(keys, kind="stable", ignore_index=True)
    return ordered.drop(columns=keys)


def measure(table: pd.DataFrame, name: str, ends: tuple[str, str] | None = None) -> pd.DataFrame:
    """One measure as `estimate`, `ci_low`, `ci_high`; rows without it are left out.

    Its interval lies in `ends`, by default `<name>_low` and `<name>_high`; missing columns give no interval.
    """
    low, high = ends or (f"{name}_low", f"{name}_high")
    nowhere = pd.Series(float("nan"), table.index)
    rows = table.assign(estimate=table[name], ci_low=table.get(low, nowhere), ci_high=table.get(high, nowhere))
    return rows[rows["estimate"].notna()].reset_index(drop=True)


def renamed(rows: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """The columns named in `titles`, under their titles and in this order; those not there are left out."""
    there = [name for name in titles if name in rows]
    return rows[there].rename(columns=dict(titles))
