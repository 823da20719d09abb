"""How well reward models order images: the ladder, its differences, the tie curve, the diverging pairs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from words import LEVELS, MODELS, SPLITS, named

ORDER = {name: k for k, name in enumerate(MODELS)}
METRIC_ENDS = {
    "accuracy": ("ci_low", "ci_high"),
    "srocc": ("srocc_low", "srocc_high"),
    "plcc": ("plcc_low", "plcc_high"),
}
"""Columns of the ladder that hold the interval of each measure."""


def in_order(names: Sequence[str]) -> list[str]:
    """Models from the simplest to the richest, unknown ones last."""
    return sorted(dict.fromkeys(map(str, names)), key=lambda name: (ORDER.get(name, len(ORDER)), name))


def splits_in(table: pd.DataFrame) -> list[str]:
    """Splits of a table, the known ones first."""
    order = {name: k for k, name in enumerate(SPLITS)}
    return sorted(dict.fromkeys(map(str, table["split"])), key=lambda name: (order.get(name, len(order)), name))


def ladder(table: pd.DataFrame, metric: str, level: str) -> pd.DataFrame:
    """One measure of every model at one level.

    Returns
    -------
    DataFrame
        model, split (names), label, split_label, estimate, ci_low, ci_high (NaN where the table has no interval of
        this measure), n_users, and ceiling where the table has it (accuracy only); simplest model first.
    """
    rows = table[table["level"] == level]
    low, high = METRIC_ENDS[metric]
    frame = pd.DataFrame(
        {
            "model": rows["model"],
            "split": rows["split"],
            "label": [named(MODELS, name) for name in rows["model"]],
            "split_label": [named(SPLITS, name) for name in rows["split"]],
            "estimate": rows[metric],
            "ci_low": rows[low] if low in rows else float("nan"),
            "ci_high": rows[high] if high in rows else float("nan"),
            "n_users": rows["n_users"],
        }
    )
    if metric == "accuracy" and "ceiling" in rows:
        frame["ceiling"] = rows["ceiling"]
    return _sorted(frame)


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    models = {name: k for k, name in enumerate(in_order(list(frame["model"])))}
    splits = {name: k for k, name in enumerate(splits_in(frame))}
    keys = pd.DataFrame({"split": frame["split"].map(splits), "model": frame["model"].map(models)})
    return frame.loc[keys.sort_values(["split", "model"], kind="stable").index].reset_index(drop=True)


def differences(table: pd.DataFrame, level: str, split: str, baseline: str) -> pd.DataFrame:
    """Every other model minus the baseline on identical pairs: the table's columns and `label`, simplest model first.

    Rows that hold the baseline minus the other are turned round.
    """
    rows = table[(table["level"] == level) & (table["split"] == split)]
    straight, turned = rows[rows["b"] == baseline], rows[rows["a"] == baseline]
    back = turned.assign(
        a=turned["b"], b=turned["a"], estimate=-turned["estimate"], ci_low=-turned["ci_high"], ci_high=-turned["ci_low"]
    )
    if "share_a_better" in turned:
        back = back.assign(share_a_better=1 - turned["share_a_better"])
    both = pd.concat([straight, back], ignore_index=True)
    both = both.assign(label=[named(MODELS, name) for name in both["a"]])
    order = {name: k for k, name in enumerate(in_order(list(both["a"])))}
    return both.sort_values("a", key=lambda names: names.map(order), ignore_index=True)


def headline(table: pd.DataFrame) -> pd.Series | None:
    """The richest personal model minus the population model, user level, first split; None without one."""
    if "population" not in {*table["a"], *table["b"]}:
        return None
    rows = differences(table, "user", splits_in(table)[0], "population")
    richer = rows[rows["a"].map(lambda name: ORDER.get(name, len(ORDER))) > ORDER["population"]]
    return richer.iloc[-1] if len(richer) else None


def curves(table: pd.DataFrame, split: str, models: Sequence[str]) -> pd.DataFrame:
    """Tie curves of some models in one split: the table's columns and `label`, by model and margin.

    Rows where no user has enough pairs are left out.
    """
    rows = table[(table["split"] == split) & table["model"].isin(list(models)) & table["accuracy"].notna()]
    order = {name: k for k, name in enumerate(in_order(list(rows["model"])))}
    rows = rows.assign(label=[named(MODELS, name) for name in rows["model"]], rung=rows["model"].map(order))
    return rows.sort_values(["rung", "margin"], ignore_index=True).drop(columns="rung")


def curve_lines(frame: pd.DataFrame) -> pd.DataFrame:
    """`curves` in long form: label, margin, line ("measured", "constant skill"), accuracy."""
    parts = [
        frame[["label", "margin"]].assign(line=line, accuracy=frame[column])
        for line, column in (("measured", "accuracy"), ("constant skill", "constant_skill"))
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["accuracy"])


def margins_in(table: pd.DataFrame) -> list[int]:
    """Margins of a table, smallest first; 0 where it has no such column."""
    return sorted(int(margin) for margin in table["margin"].unique()) if "margin" in table else [0]


def diverging(table: pd.DataFrame, split: str, margin: int) -> pd.DataFrame:
    """Models where two people disagree: the rows of a split and margin, and `label`; simplest model first."""
    rows = table[table["split"] == split]
    rows = rows[rows["margin"] == margin] if "margin" in rows else rows
    return _sorted(rows.assign(label=[named(MODELS, name) for name in rows["model"]]))


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """`diverging` in long form: label, outcome ("both right", "one right", "neither right"), share."""
    names = {"both": "both right", "one": "one right", "none": "neither right"}
    long = frame.melt(id_vars=["label"], value_vars=list(names), var_name="outcome", value_name="share")
    return long.assign(outcome=long["outcome"].map(names))


def levels_in(table: pd.DataFrame) -> list[str]:
    """Levels of a table: people one by one first."""
    return [name for name in LEVELS if name in set(table["level"])]
