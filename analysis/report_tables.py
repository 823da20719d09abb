"""Results as tables for reading: few digits on the page, the exact number and its path behind each of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.report_numbers import is_number
from analysis.results import percent, plain

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report import Report

Form = Callable[[Any], str]
MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """Text of a cell; `value` is the exact number and `where` its path in `numbers.csv`, where it has one.

    `end` is the upper end of an interval whose lower end this cell is.
    """

    text: str
    value: float | None = None
    where: str | None = None
    naive: bool = False
    end: Cell | None = None


@dataclass(frozen=True)
class Table:
    """A table: caption, heads, rows, and which columns hold numbers (they are set to the right)."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str | None = None

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether a column holds numbers."""
        columns = [[row[k] for row in self.rows] for k in range(len(self.head))]
        return tuple(
            any(c.value is not None for c in column) or all(c.text == MISSING for c in column) for column in columns
        )


def p_short(p: float) -> str:
    """`.034`, `< .001`."""
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def three(x: float) -> str:
    """Three decimals, with a true minus sign."""
    return f"{x:.3f}".replace("-", "−")


def signed(x: float) -> str:
    """Three decimals with their sign; none where they are all zero."""
    text = f"{x:+.3f}".replace("-", "−")
    return text[1:] if float(f"{x:.3f}") == 0 else text


def whole(x: float) -> str:
    """Digits in groups of three."""
    return f"{x:,.0f}".replace(",", "\u202f")


def two(x: float) -> str:
    """Two decimals, with a true minus sign."""
    return f"{x:.2f}".replace("-", "−")


def cell(value: Any, form: Form | None = None, where: str | None = None, naive: bool = False) -> Cell:
    """One cell; what is missing or not finite becomes a dash."""
    value = plain(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell(MISSING)
    if is_number(value):
        return Cell((form or three)(value), value, where, naive)
    return Cell("yes" if value is True else "no" if value is False else str(value))


def interval(row: Mapping[str, Any], names: tuple[str, str], form: Form, where: str | None = None) -> Cell:
    """Both ends in one cell; a dash where either is missing."""
    paths = [None if where is None else f"{where}/{name}" for name in names]
    low, high = (cell(row[name], form, path) for name, path in zip(names, paths, strict=True))
    return dataclasses.replace(low, end=high) if low.value is not None and high.value is not None else Cell(MISSING)


def contrasts_table(report: Report, section: str = "contrasts") -> Table | None:
    """Planned contrasts with their own interval and Holm's p, and beside them the naive test."""
    result = report.result(section)
    if result is None:
        return None
    found, root = (result, section) if section == "contrasts" else (result.contrasts, f"{section}/contrasts")
    level = f"{100 * found.confidence:g} %"
    rows = []
    for c in found.contrasts:
        pair = f"{c.focal}:{c.against}"
        at, own = f"{root}/contrasts[{pair}]", vars(c)
        rate = report.result(f"win_rate {pair}")
        row = [
            Cell(f"{c.focal} over {c.against}"),
            cell(c.estimate, percent, f"{at}/estimate"),
            interval(own, ("ci_low", "ci_high"), percent, at),
            cell(c.p_holm, p_short, f"{at}/p_holm"),
            cell(c.p, p_short, f"{at}/p"),
            cell(c.t, two, f"{at}/t"),
            cell(c.df, whole, f"{at}/df"),
            cell(c.n_votes, whole, f"{at}/n_votes"),
            cell(c.n_ties, whole, f"{at}/n_ties"),
            cell(c.n_participants, whole, f"{at}/n_participants"),
            cell(c.n_prompts, whole, f"{at}/n_prompts"),
        ]
        if section == "contrasts":
            naive = None if rate is None else rate.naive["p"]
            row.append(cell(naive, p_short, f"win_rate {pair}/naive/p", naive=True))
        rows.append(tuple(row))
    head = [
        "Contrast",
        "Win rate",
        f"{level} interval",
        "p, Holm",
        "p",
        "t",
        "df",
        "Votes",
        "Ties",
        "People",
        "Prompts",
    ]
    if section == "contrasts":
        head.append("Naive p, not valid")
    note = f"Clusters: {', '.join(sorted({c.method for c in found.contrasts}))}. Two-sided tests of one half."
    return Table(f"{len(rows)} planned contrasts", tuple(head), tuple(rows), note)


def ranking_table(report: Report, section: str) -> Table | None:
    """Log strengths, strongest first."""
    ranking = report.result(section)
    if ranking is None:
        return None
    level = f"{100 * ranking.confidence:g} %"
    rows = []
    for c in ranking.conditions:
        at = f"{section}/conditions[{c.condition}]"
        reference = c.condition == ranking.reference
        ends = Cell(MISSING) if reference else interval(vars(c), ("ci_low", "ci_high"), three, at)
        chance = None if reference else 1 / (1 + math.exp(-c.log_strength))
        rows.append(
            (
                Cell(c.condition + (" (reference)" if reference else "")),
                cell(c.log_strength, three, f"{at}/log_strength"),
                ends,
                cell(None if reference else c.se, three, f"{at}/se"),
                cell(chance, percent),
            )
        )
    names = {"davidson": "Davidson's model", "rao-kupper": "the model of Rao and Kupper"}
    head = ("Condition", "Log strength", f"{level} interval", "SE", f"Beats {ranking.reference} (no tie)")
    return Table(f"Strengths by {names[ranking.ties]}", head, tuple(rows), _ranking_note(ranking))


def _ranking_note(ranking: Any) -> str:
    parts = [f"{whole(ranking.n_votes)} votes, {whole(ranking.n_ties)} ties"]
    if ranking.tie_parameter is not None:
        parts.append(f"tie parameter {three(ranking.tie_parameter)} (SE {three(ranking.tie_parameter_se)})")
    if ranking.order_effect is not None:
        parts.append(f"left side gains {signed(ranking.order_effect)} (SE {three(ranking.order_effect_se)})")
    return "; ".join(parts) + "."


FRAMES: dict[str, tuple[str, dict[str, tuple[str, Form | None]]]] = {
    "yoked": (
        "Effect over matched pairs of votes",
        {
            "estimate": ("Effect", signed), "ci_low": ("Interval", signed), "t": ("t", two),
            "df": ("df", whole), "p": ("p", p_short), "n_pairs": ("Pairs", whole), "n_participants": ("People", whole),
            "n_prompts": ("Prompts", whole),
        },
    ),
    "consistency": (
        "Style across prompts",
        {
            "t2": ("T2", three), "ci_low": ("Interval", three), "p": ("p", p_short),
            "identification_rate": ("Recognised", percent), "chance": ("by chance", percent), "t1": ("T1", three),
            "n_users": ("Users", whole), "n_prompts": ("Prompts", whole), "n_runs": ("Runs", whole),
        },
    ),
    "logistic": (
        "Log odds by the crossed logistic model, ties left out",
        {
            "focal": ("Chosen", None), "against": ("over", None), "log_odds": ("Log odds", signed),
            "ci_low": ("Interval", signed), "t": ("t", two), "df": ("df", whole), "p": ("p", p_short),
            "p_likelihood_ratio": ("p, likelihood ratio", p_short), "win_rate": ("Win rate, no tie", percent),
            "sd_participant": ("SD people", three), "sd_prompt": ("SD prompts", three), "n_votes": ("Votes", whole),
        },
    ),
    "monitoring": (
        "Evidence after the last participant",
        {
            "focal": ("Chosen", None), "against": ("over", None), "estimate": ("Mean over people", percent),
            "ci_low": ("Sequence", percent), "e_value": ("e-value", two), "decision": ("Decision", None),
            "stopped_at": ("Reached after", whole), "n_participants": ("People", whole), "n_votes": ("Votes", whole),
        },
    ),
    "order_effects": (
        "What side and place in the session do",
        {
            "name": ("Effect", None), "estimate": ("Estimate", signed), "ci_low": ("Interval", signed),
            "t": ("t or z", two), "p": ("p", p_short),
        },
    ),
    "planted": (
        "Planted and recovered win rates",
        {
            "focal": ("Chosen", None), "against": ("over", None), "planted": ("Planted", percent),
            "estimate": ("Recovered", percent), "ci_low": ("Interval", percent),
            "inside": ("Inside", None), "n_votes": ("Votes", whole),
        },
    ),
    "accuracy": (
        "Pairs ordered right",
        {
            "model": ("Model", None), "split": ("Split", None), "level": ("Level", None),
            "accuracy": ("Accuracy", percent),
            "ci_low": ("Interval", percent), "srocc": ("Spearman", three),
            "plcc": ("Pearson", three), "ceiling": ("Ceiling", percent), "n_users": ("Users", whole),
            "n_images": ("Images", whole), "n_pairs": ("Pairs", whole),
        },
    ),
    "differences": (
        "Differences of accuracy on the same pairs",
        {
            "a": ("Model", None), "b": ("less", None), "split": ("Split", None), "level": ("Level", None),
            "estimate": ("Difference", signed), "ci_low": ("Interval", signed),
            "p": ("p", p_short), "p_holm": ("p, Holm", p_short), "n_users": ("Users", whole),
        },
    ),
    "tie_curve": (
        "Accuracy by tie margin",
        {
            "model": ("Model", None), "split": ("Split", None), "margin": ("Margin", whole),
            "accuracy": ("Accuracy", percent), "band_low": ("Band", percent),
            "constant_skill": ("Constant skill", percent), "implied_r": ("Implied r", three),
            "retained": ("Pairs kept", percent),
        },
    ),
    "disagreement": (
        "Where two people disagree",
        {
            "model": ("Model", None), "split": ("Split", None), "margin": ("Margin", whole),
            "both": ("Both right", percent),
            "one": ("One", percent), "none": ("None", percent), "delta": ("Both − none", signed),
            "accuracy": ("Accuracy", percent), "ci_low": ("Interval", percent),
            "p_permutation": ("p, permuted", p_short), "ceiling": ("Ceiling", percent), "n_elements": ("Pairs", whole),
        },
    ),
}  # fmt: skip
"""Caption, and the columns of a result's frame that are shown with their heads and forms; missing ones are passed over.

A column `…_low` stands for the interval whose upper end is in `…_high`.
"""
FRAMES |= {"ladder": FRAMES["accuracy"], "accuracy_population": FRAMES["accuracy"]}

MARGINS_SHOWN = 5


def frame_table(name: str, frame: pd.DataFrame, level: str = "") -> Table:
    """The shown columns of a result's frame; of a tie curve a few margins only, since the figure shows the rest.

    `level` (such as "95 %") is put before the head of intervals.
    """
    caption, columns = FRAMES[name]
    if name == "tie_curve":
        margins = sorted(frame["margin"].unique())
        step = max(1, math.ceil((len(margins) - 1) / (MARGINS_SHOWN - 1)))
        frame = frame[frame["margin"].isin([*margins[::step], margins[-1]])]
    shown = {key: spec for key, spec in columns.items() if key in frame.columns}
    rows = tuple(
        tuple(_frame_cell(row, key, form) for key, (_, form) in shown.items()) for row in frame.to_dict("records")
    )
    heads = [f"{level} {head.lower()}" if level and key.endswith("_low") else head for key, (head, _) in shown.items()]
    return Table(caption, tuple(heads), rows)


def _frame_cell(row: Mapping[Any, Any], key: str, form: Form | None) -> Cell:
    end = key.removesuffix("low") + "high"
    if key.endswith("_low") and end in row and form is not None:
        return interval(row, (key, end), form)
    return cell(row[key], form)


def plain_table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], forms: Sequence[Form | None]
) -> Table:
    """Values as a table."""
    made = tuple(tuple(cell(value, form) for value, form in zip(row, forms, strict=True)) for row in rows)
    return Table(caption, tuple(head), made)
