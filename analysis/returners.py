"""Those who came back for a later occasion beside those who did not: first-occasion gain and what is known of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, two_sided_p
from analysis.matched import match, on_common_rows
from analysis.pairs import accuracy_by_user
from analysis.tables import Scale, check_predictions, check_users
from analysis.two_occasions import TRAINED_ON, on_occasion

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Returners:
    """See `returners`.

    Attributes
    ----------
    n_returned, n_left : int
        Users with a first-occasion gain who did and did not rate again.
    gain_returned, gain_left : float
        Mean over users of personal less population accuracy on all images of the first occasion.
    p : float
        Welch's t test of their difference; NaN with fewer than two on a side.
    compared : DataFrame or None
        column, value, returned, left: means of numbers, shares of categories (not in the JSON).
    """

    n_returned: int
    n_left: int
    gain_returned: float
    gain_left: float
    p: float
    compared: pd.DataFrame | None = field(default=None, metadata={"json": False}, compare=False, repr=False)


def returners(
    predictions: pd.DataFrame,
    ratings: pd.DataFrame,
    personal: str,
    population: str,
    occasions: tuple[int, int],
    split: str | None = None,
    users: pd.DataFrame | None = None,
    scale: Scale | None = None,
) -> Returners | None:
    """Compare those with and without a rating on the later occasion; None when all who can be compared came back.

    Parameters
    ----------
    predictions, ratings : DataFrame
    personal, population : str
        Models whose difference in accuracy is the gain.
    occasions : (int, int)
        First and later.
    split : str, optional
    users : DataFrame, optional
        Columns beside `user_id` are compared.
    scale : Scale, optional
    """
    guesses = check_predictions(predictions)
    guesses = guesses[guesses["model"].isin([personal, population])]
    if "split" in guesses:
        names = guesses["split"].astype("str")
        guesses = guesses[(names == split) if split is not None else ~names.isin(TRAINED_ON)].drop(columns="split")
    first = on_occasion(ratings, occasions[0], scale)
    matched = match(guesses, first, scale)
    groups = {group.model: group for group in matched.groups}
    mine, shared = on_common_rows(groups[personal], groups[population])
    accuracy = [accuracy_by_user(g.user, g.truth, g.score, [0]).accuracy[:, 0] for g in (mine, shared)]
    gain = accuracy[0] - accuracy[1]
    ids = np.array(matched.user_ids, dtype=object)[: len(gain)]
    again = set(on_occasion(ratings, occasions[1], scale)["user_id"].astype("str"))
    came = np.array([name in again for name in ids])
    known = np.isfinite(gain)
    if came[known].all():
        return None
    compared = None if users is None else _compared(users, set(ids[known & came]), set(ids[known & ~came]))
    back, gone = gain[known & came], gain[known & ~came]
    return Returners(len(back), len(gone), _mean(back), _mean(gone), welch_p(back, gone), compared)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def welch_p(a: Floats, b: Floats) -> float:
    """Two-sided p of Welch's t test; NaN with fewer than two values on a side or without variance."""
    if min(len(a), len(b)) < 2:
        return math.nan
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if va + vb == 0:
        return math.nan
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return two_sided_p(float((a.mean() - b.mean()) / math.sqrt(va + vb)), float(df))


def _compared(users: pd.DataFrame, came: set[str], gone: set[str]) -> pd.DataFrame:
    import pandas as pd

    table = check_users(users)
    ids = table["user_id"].astype("str")
    rows: list[dict[str, object]] = []
    for name in table.columns:
        if name == "user_id":
            continue
        sides = [table.loc[ids.isin(group), name].dropna() for group in (came, gone)]
        if pd.api.types.is_numeric_dtype(table[name]):
            rows.append({"column": name, "value": "mean", "returned": sides[0].mean(), "left": sides[1].mean()})
            continue
        for value in sorted(map(str, table[name].dropna().unique())):
            shares = [float((side.astype("str") == value).mean()) if len(side) else math.nan for side in sides]
            rows.append({"column": name, "value": value, "returned": shares[0], "left": shares[1]})
    return pd.DataFrame(rows, columns=["column", "value", "returned", "left"])
