"""The planned comparisons, in words and with whom they speak for; and what was planted beside what was found."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.results import Population
from analysis.trials import estimand_for
from words import CONDITIONS, interval, named, p_value, percent


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Planned contrasts, the hardest (own against other) first: the table's columns, and `label` and `verdict`.

    `outer_low` and `outer_high` are the simultaneous interval where the table has one.
    """
    order = {name: k for k, name in enumerate(CONDITIONS)}
    rows = table.sort_values("against", key=lambda names: names.map(lambda name: order.get(name, len(order))))
    rows = rows.rename(columns={"simultaneous_low": "outer_low", "simultaneous_high": "outer_high"})
    labels = [f"{named(CONDITIONS, row.focal)} over {named(CONDITIONS, row.against)}" for row in rows.itertuples()]
    return rows.assign(label=labels, verdict=[verdict(row) for _, row in rows.iterrows()]).reset_index(drop=True)


def verdict(row: pd.Series) -> str:
    """What the interval and the corrected test together allow one to say."""
    if pd.isna(row["ci_low"]) or pd.isna(row["ci_high"]):
        return "cannot be told"
    if row["p_holm"] < 0.05 and row["ci_low"] > 0.5:
        return "preferred"
    if row["p_holm"] < 0.05 and row["ci_high"] < 0.5:
        return "worse"
    return "no difference shown"


def sentence(row: pd.Series) -> str:
    """One contrast as a results section would say it."""
    focal, against = named(CONDITIONS, row["focal"]), named(CONDITIONS, row["against"])
    return (
        f"Side by side and blind, people chose the {focal} picture over {against} in "
        f"**{percent(row['estimate'])}** of comparisons (95 % interval {interval(row['ci_low'], row['ci_high'])}; "
        f"{p_value(row['p_holm'])} after Holm's correction)."
    )


def estimand(row: pd.Series) -> tuple[str, tuple[str, ...]]:
    """What a win rate estimates and for whom, and the warnings its numbers of people and prompts call for."""
    quantity = f"probability that {row['focal']} is chosen over {row['against']}, a tie counting one half"
    found, warnings = estimand_for(quantity, Population(), int(row["n_participants"]), int(row["n_prompts"]))
    return found.text, warnings


def recovered(table: pd.DataFrame) -> pd.DataFrame:
    """What was planted beside what was found: the table's columns and `inside`, whether the interval holds it."""
    inside = (table["ci_low"] <= table["planted"]) & (table["planted"] <= table["ci_high"])
    return table.assign(inside=inside)


def are_shares(rows: pd.DataFrame) -> bool:
    """Whether everything planted and found lies in 0 … 1."""
    values = rows[["planted", "estimate", "ci_low", "ci_high"]].to_numpy(dtype=float)
    return bool(((values >= 0) & (values <= 1)).all())


def all_warnings(rows: Iterable[pd.Series]) -> list[str]:
    """Every warning once, in order."""
    return list(dict.fromkeys(text for row in rows for text in estimand(row)[1]))
