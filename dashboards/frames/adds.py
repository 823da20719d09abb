"""What each thing a model may use adds to it, and what it rests on."""

from __future__ import annotations

import pandas as pd

from frames.estimates import verdicts, with_labels
from words import INPUTS, named

FULL = "full"
ADDS = ("adds", "harms", "nothing shown", "no interval")
"""What `frames.estimates.VERDICTS` are called here."""
TAKEN = {"images": ("ci_low", "ci_high"), "prompts": ("prompt_ci_low", "prompt_ci_high")}
"""Over what the intervals of an ablation generalise, and their columns."""


def models_in(table: pd.DataFrame, masked: pd.DataFrame | None = None) -> list[str]:
    """Models that were taken apart, or whose tokens were masked; those that tell people apart first."""
    every = [table[["model"]], *([] if masked is None else [masked[["model"]]])]
    rows = with_labels(pd.concat(every).drop_duplicates())
    return [str(name) for name in rows["model"]][::-1]


def thing(variant: str) -> str:
    """What a variant does without, in words."""
    return named(INPUTS, variant) if variant in INPUTS else variant.removeprefix("no_").replace("_", " ")


def variant_name(variant: str) -> str:
    """A variant in words: all there is, or what it does without."""
    return "all there is" if variant == FULL else f"without {thing(variant)}"


def adds(table: pd.DataFrame, model: str, over: str) -> pd.DataFrame:
    """What each thing adds to the share of pairs ordered right.

    Returns
    -------
    DataFrame
        The table's rows with `label` (the thing), `split_label`, `ci_low` and `ci_high` over images or prompts, and
        `verdict`, a value of `ADDS`.
    """
    low, high = TAKEN[over]
    rows = with_labels(table[table["model"] == model])
    if low in rows:
        rows = rows.assign(ci_low=rows[low], ci_high=rows[high])
    return rows.assign(
        model_label=rows["label"],
        label=[thing(variant) for variant in rows["variant"]],
        verdict=verdicts(rows, ADDS, "p_holm"),
    )


def variants(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Accuracy of every variant: the table's rows with `label`, `split_label`, `estimate` and `model_label`."""
    rows = with_labels(table[table["model"] == model])
    return rows.assign(
        model_label=rows["label"], label=[variant_name(v) for v in rows["variant"]], estimate=rows["accuracy"]
    )


def gaps(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Known less new people for every variant, with `label` and `model_label`."""
    rows = with_labels(table[table["model"] == model])
    return rows.assign(model_label=rows["label"], label=[variant_name(v) for v in rows["variant"]])


def tokens(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Accuracy lost when a token is masked, with `label` (the token), `split_label` and `verdict`."""
    rows = with_labels(table[table["model"] == model])
    labels = [str(token).replace("_", " ") for token in rows["token"]]
    return rows.assign(model_label=rows["label"], label=labels, verdict=verdicts(rows, ADDS, "p_holm"))
