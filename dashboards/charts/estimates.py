"""Estimates with their intervals, the form in which every claim is drawn."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import pandas as pd

from charts import look
from charts.look import Chart

ENDS = ("estimate", "ci_low", "ci_high", "outer_low", "outer_high")
COUNTS = ("n_users", "n_votes", "n_participants", "n_prompts", "n_elements")
"""Columns shown under the pointer where a table has them."""


def intervals(
    frame: pd.DataFrame,
    title: str,
    *,
    null: float | None,
    percent: bool,
    colour: str | None = None,
    mark: str | None = None,
    mark_title: str = "",
    shape: Literal["diamond", "stroke"] = "diamond",
) -> Chart:
    """Estimates with intervals, one row a label.

    Parameters
    ----------
    frame : DataFrame
        label, estimate, ci_low, ci_high; optionally outer_low, outer_high, drawn as a thinner line.
    title : str
        Of the axis.
    null : float or None
        Where the dashed rule stands.
    percent : bool
        Whether the numbers are shares.
    colour : str, optional
        Column whose values lie beside each other in a row, each in its colour.
    mark, mark_title, shape : str
        Column of a value to compare with, and how it is drawn: a diamond (a planted value) or a stroke (a ceiling).
    """
    groups = look.once(frame[colour]) if colour else []
    columns = look.legend_columns(groups)
    encoding: dict[str, Any] = {"y": look.labels(frame), "color": alt.value(look.INK), "tooltip": _tips(frame, percent)}
    if len(groups) > 1:
        encoding["color"] = look.coloured(str(colour), groups, look.legend(columns))
        encoding["yOffset"] = alt.YOffset(f"{colour}:N", sort=groups)
    scale = look.room_for(frame, [*ENDS, mark] if mark else ENDS, percent, null)

    def at(column: str) -> alt.X:
        return look.measure(column, title, percent, scale)

    base = alt.Chart(frame).encode(**encoding)
    layers: list[Any] = [] if null is None else [look.rule("x", null)]
    if {"outer_low", "outer_high"} <= set(frame.columns):
        layers.append(base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(x=at("outer_low"), x2="outer_high:Q"))
    layers += [
        base.mark_rule(strokeWidth=7, opacity=0.35).encode(x=at("ci_low"), x2="ci_high:Q"),
        base.mark_point(filled=True, size=110, opacity=1).encode(x=at("estimate")),
    ]
    if mark and frame[mark].notna().any():
        tips = [look.tip_label(), look.tip(mark, mark_title, percent)]
        layers.append(_mark(base, shape).encode(x=at(mark), tooltip=tips))
    legends = 0 if len(groups) < 2 else len(groups) if columns else 1
    rows = frame["label"].nunique() * max(1.0, 0.7 * len(groups))
    done: Chart = look.finish(alt.layer(*layers), look.ROW * rows, legends=legends)
    return done


def _mark(base: alt.Chart, shape: str) -> alt.Chart:
    if shape == "diamond":
        return base.mark_point(shape="diamond", size=130, filled=True, opacity=1).encode(color=alt.value(look.ACCENT))
    upright = base.mark_point(shape="stroke", angle=90, size=170, strokeWidth=2.5, opacity=1)
    return upright.encode(color=alt.value(look.GREY))


def _tips(frame: pd.DataFrame, percent: bool) -> list[alt.Tooltip]:
    names = {"estimate": "estimate", "ci_low": "interval from", "ci_high": "interval to"}
    tips = [look.tip_label(), *(look.tip(column, title, percent) for column, title in names.items())]
    return tips + [alt.Tooltip(f"{c}:Q", title=c.removeprefix("n_")) for c in COUNTS if c in frame]
