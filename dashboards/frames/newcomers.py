"""People nobody has trained on: how well they are known by the ratings they were asked for, and by method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from words import NEWCOMERS, count, named

AROUND = ("neighbours", "neighbours_published")
"""Methods with a number of neighbours."""
PUBLISHED_NEIGHBOURS = 5
MOST_OF_IT = 0.9
"""Of what all ratings asked for gain: the share after which more of them are hardly worth asking."""


def neighbours_in(table: pd.DataFrame) -> list[int]:
    """Numbers of neighbours that were tried."""
    return sorted(int(k) for k in table.loc[table["method"].isin(AROUND), "neighbours"].unique())


def curves(table: pd.DataFrame, neighbours: int | None) -> pd.DataFrame:
    """Accuracy by ratings shown, one curve a method; of the neighbours' methods the one number asked for.

    Returns
    -------
    DataFrame
        The table's rows with `label`, `estimate` (accuracy), by method and ratings shown.
    """
    rows = table[~table["method"].isin(AROUND) | (table["neighbours"] == neighbours)]
    place = {name: k for k, name in enumerate(NEWCOMERS)}
    rows = rows.assign(
        label=[named(NEWCOMERS, name) for name in rows["method"]],
        estimate=rows["accuracy"],
        place=rows["method"].map(place).fillna(len(place)),
    )
    return rows.sort_values(["place", "method", "shown"], ignore_index=True).drop(columns="place")


def grid(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Accuracy of one neighbours' method for every number of ratings and of neighbours."""
    rows = table[table["method"] == method].sort_values(["shown", "neighbours"])
    return rows.assign(label=named(NEWCOMERS, method), estimate=rows["accuracy"]).reset_index(drop=True)


def enough(table: pd.DataFrame, method: str) -> pd.Series | None:
    """The fewest ratings that bring `MOST_OF_IT` of what the most helpful number brings over none.

    Returns
    -------
    Series or None
        shown, accuracy, gain (over none), most (gain of the best number), best (that number), n_users. None where no
        number of ratings does better than none, or where none was not tried.
    """
    rows = table[table["method"] == method].sort_values("shown").drop_duplicates("shown")
    shown, accuracy = rows["shown"].to_numpy(dtype=int), rows["accuracy"].to_numpy(dtype=float)
    if 0 not in shown:
        return None
    gain = accuracy - accuracy[shown == 0][0]
    best = int(np.nanargmax(gain))
    if not gain[best] > 0:
        return None
    first = int(np.flatnonzero(gain >= MOST_OF_IT * gain[best])[0])
    found = {
        "shown": int(shown[first]),
        "gain": float(gain[first]),
        "most": float(gain[best]),
        "best": int(shown[best]),
    }
    return pd.Series(found | {"accuracy": float(accuracy[first]), "n_users": int(rows["n_users"].iloc[first])})


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """The paired comparisons, with `label`: what is compared, and after how many ratings."""
    return table.assign(label=[_comparison(str(a), int(n)) for a, n in zip(table["a"], table["shown"], strict=True)])


def _comparison(compared: str, shown: int) -> str:
    method, _, setting = compared.partition(", ")
    name = named(NEWCOMERS, method)
    if not setting:
        return f"{name}: {count(shown, 'rating')}"
    return f"{name}: {shown} and {PUBLISHED_NEIGHBOURS}" if setting == "as published" else f"{name}: numbers chosen"
