"""Whether models can be taken at their word: do they tell people apart, are their errors honest, does it last."""

from __future__ import annotations

import pandas as pd

from frames.estimates import with_labels
from words import FINDINGS, LASTING, named

HONEST = {"yes": "honest", "no": "not honest"}


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """The check for drift to the average, simplest model first: the table's rows with `label`, `split_label`, `said`
    (the finding in words) and `collapsed`.
    """
    rows = with_labels(table)
    said = [named(FINDINGS, finding) for finding in rows["finding"]]
    return rows.assign(said=said, collapsed=rows["finding"] != "apart")


def collapsed(rows: pd.DataFrame) -> list[str]:
    """One sentence for each model that does not tell people apart as it should; `rows` as `spread` gives them."""
    return [f"{r.label}, {r.split_label}: {r.said}" for r in rows[rows["collapsed"]].itertuples()]


def findings(rows: pd.DataFrame) -> str:
    """A line of Markdown for each model: what the check found in every split, by sign, colour and word."""
    lines = []
    for label, mine in rows.groupby("label", sort=False):
        signs = map(_sign, mine["finding"])
        each = [
            f"{sign} {split}: {said}"
            for sign, split, said in zip(signs, mine["split_label"], mine["said"], strict=True)
        ]
        lines.append(f"* **{label}**: {'; '.join(each)}")
    return "\n".join(lines)


def _sign(finding: str) -> str:
    return ":green[:material/check:]" if finding == "apart" else ":orange[:material/warning:]"


def honesty(ladder: pd.DataFrame) -> pd.DataFrame:
    """SD of standardised errors of every model that states an error: `label`, `split_label`, `estimate`, `ci_low`,
    `ci_high`, `said` and `n_users`.
    """
    if "z_sd" not in ladder:
        return pd.DataFrame(columns=["label", "split_label", "estimate", "ci_low", "ci_high", "said", "n_users"])
    rows = with_labels(ladder[(ladder["level"] == "user") & ladder["z_sd"].notna()])
    missing = pd.Series(float("nan"), rows.index)
    honest = rows.get("sd_honest", missing)
    return rows.assign(
        estimate=rows["z_sd"],
        ci_low=rows.get("z_sd_low", missing),
        ci_high=rows.get("z_sd_high", missing),
        said=[named(HONEST, value) if isinstance(value, str) else "–" for value in honest],
    )


def lasting(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gains over the population head by occasion, and the share of them that is left: two frames to draw.

    Each has `label` (the model), `quantity`, `estimate`, `ci_low`, `ci_high`, `n_users`, `n_images`.
    """
    rows = with_labels(table.rename(columns={"personal": "model"}))
    share = rows["quantity"] == "share_kept"
    rows = rows.assign(quantity=[named(LASTING, name) for name in rows["quantity"]])
    return rows[~share].reset_index(drop=True), rows[share].reset_index(drop=True)


COUNTS = {
    "split_label": "Tested", "n_ratings": "Ratings", "n_users": "People", "n_images": "Images", "n_prompts": "Prompts",
    "per_user_min": "Ratings a person, least", "per_user_median": "median", "per_user_max": "most",
    "n_single": "People with one rating", "n_constant": "People who always answered the same",
}  # fmt: skip
"""Columns of `evaluation_counts` and their titles."""
