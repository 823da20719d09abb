"""An evaluation as a page of text: the ladder with intervals, margins, diverging pairs, verdict and cautions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from beholder.taste.verdict import CROWDS, PERSONAL, SPLITS, cautions, identity_sentences, verdicts

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType
    from rich.table import Table

    from beholder.readers.base import Dataset

LEVELS = {"user": "single people", "population": "people on average"}
SHOWN_MARGINS = (0, 125, 250, 375, 500)


def evaluation_summary(
    tables: Mapping[str, pd.DataFrame], ratings: pd.DataFrame, confidence: float, *, brief: bool = False
) -> list[RenderableType]:
    """What to print of an evaluation.

    Parameters
    ----------
    tables : mapping
        `ladder`, `differences`, `tie_curve`, `disagreement`, `evaluation_notes`.
    ratings : DataFrame
        What was evaluated.
    confidence : float
        Of the intervals.
    brief : bool
        Ladder and verdict only.
    """
    ladder, differences = tables["ladder"], tables["differences"]
    shown: list[RenderableType] = [
        _ladder(ladder[(ladder["split"] == split) & (ladder["level"] == level)], split, level, confidence)
        for split in ladder["split"].unique()
        for level in ladder["level"].unique()
    ]
    if not brief:
        shown += [_curve(tables["tie_curve"]), _diverging(tables["disagreement"], confidence)]
        shown += _listed("Read with care:", [*cautions(ratings, ladder), *_split_notes(tables["evaluation_notes"])])
    sentences = [v.text for v in verdicts(differences, confidence)]
    if not sentences:
        sentences = [f"No verdict: it compares {PERSONAL} with {' and '.join(CROWDS)}, and not all were evaluated."]
    sentences += identity_sentences(tables["disagreement"], confidence)
    return [*shown, *_listed("Can personal taste be shown?", sentences)]


def dataset_summary(dataset: Dataset, title: str) -> list[RenderableType]:
    """What the reader read, changed and set aside."""
    counts = (
        f"{dataset.ratings['user_id'].nunique()} people, {len(dataset.ratings)} ratings, {len(dataset.images)} images"
    )
    scale = f"scale {dataset.scale['raw'][0]:g}...{dataset.scale['raw'][1]:g} as ticks: {dataset.scale['formula']}"
    return _listed(f"{title}: {counts}", [scale, *(f"{note.what}: {note.rows}" for note in dataset.notes)])


def _ladder(rows: pd.DataFrame, split: str, level: str, confidence: float) -> Table:
    table = _table(f"{split}: {SPLITS.get(split, split)}\n{LEVELS.get(level, level)}")
    columns = ["model", "accuracy", f"{100 * confidence:g} % CI", "SROCC", "PLCC"]
    normalised = bool(rows["skill"].notna().any())
    if normalised:
        columns.append("skill")
    if level == "user":
        columns += ["CI by prompt", "helped", "RMSE", "z SD"]
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in rows.to_dict("records"):
        cells = [row["model"], _number(row["accuracy"], 3), _interval(row["ci_low"], row["ci_high"])]
        cells += [_number(row["srocc"], 3), _number(row["plcc"], 3)]
        if normalised:
            cells.append(_number(row["skill"], 2))
        if level == "user":
            cells += [_interval(row["prompt_ci_low"], row["prompt_ci_high"]), _percent(row["share_helped"])]
            cells += [_number(row["rmse"], 0), _number(row["z_sd"], 2) + ("!" if row["sd_honest"] == "no" else "")]
        table.add_row(*cells)
    return table


def _curve(curve: pd.DataFrame) -> Table:
    """Accuracy beyond some margins, with what constant skill would give, for the models that matter."""
    margins = [m for m in SHOWN_MARGINS if m in set(curve["margin"])] or sorted(set(curve["margin"]))[:5]
    table = _table("Accuracy on pairs that differ by more than so many ticks (in brackets: at constant skill)")
    table.add_column("split")
    table.add_column("model")
    for margin in margins:
        table.add_column(str(margin), justify="right")
    for (split, model), rows in curve.groupby(["split", "model"], sort=False):
        if model in (*CROWDS, PERSONAL):
            at = rows.set_index("margin")
            cells = [f"{_number(at.accuracy[m], 3)} ({_number(at.constant_skill[m], 3)})" for m in margins]
            table.add_row(str(split), str(model), *cells)
    kept = curve[curve["model"] == PERSONAL].drop_duplicates("margin").set_index("margin")["retained"]
    if len(kept):
        table.add_row("", "pairs kept", *(f"{100 * kept[m]:.0f} %" for m in margins))
    return table


def _diverging(rows: pd.DataFrame, confidence: float) -> Table:
    table = _table("Where two people disagree (a model that knows no persons: accuracy one half)")
    for name in ("split", "margin", "model", "both right", "none right", "accuracy"):
        table.add_column(name, justify="left" if name in ("split", "model") else "right")
    table.add_column(f"{100 * confidence:g} % CI", justify="right")
    table.add_column("permutation p", justify="right")
    for row in rows[rows["model"].isin([*CROWDS, PERSONAL])].to_dict("records"):
        table.add_row(
            row["split"],
            str(row["margin"]),
            row["model"],
            _number(row["both"], 3),
            _number(row["none"], 3),
            _number(row["accuracy"], 3),
            _interval(row["ci_low"], row["ci_high"]),
            _number(row["p_permutation"], 4),
        )
    return table


def _split_notes(notes: pd.DataFrame) -> list[str]:
    return [f"{note}." for note in notes.loc[notes["about"] == "splits", "note"]]


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)


def _listed(title: str, lines: Sequence[str]) -> list[RenderableType]:
    """A bold title and a list, in plain text: names with brackets are no markup."""
    from rich.padding import Padding
    from rich.text import Text

    return [Text(title, style="bold"), *(Padding(Text(f"- {line}"), (0, 0, 0, 2)) for line in lines), Text("")]


def _number(value: float, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
