"""What all charts share: colours, fonts, axes, legends, tooltips, and room for what is around a plot."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

Chart = alt.Chart | alt.LayerChart

INK, ACCENT, TEAL, OCHRE, PLUM, GREY = "#1f3a5f", "#b5482a", "#2f8079", "#c9962b", "#7a4e7e", "#8a94a3"
SERIES = (INK, ACCENT, TEAL, OCHRE, PLUM, GREY)
"""Colours of categories, in this order; they differ in lightness too, for those who see few colours."""
PALE, PAPER, TEXT = "#e4e8ee", "#faf8f4", "#4a5563"
FONT = '"Source Sans", "Source Sans Pro", "Source Sans 3", sans-serif'
AXIS_ROOM, LEGEND_ROOM = 56, 34
"""Pixels that an axis with title, and a row of legend, take: a page fits them into a chart's height."""
ROW = 34
"""Pixels of a row with a label."""
LEGEND_LETTERS = 32
"""Of all entries of a legend in one row."""
LABEL_LETTERS = 28
"""Of one line of a row's label."""
MANY = 60
"""People beyond whom their names no longer fit beside a chart."""


def finish(chart: Any, height: float, legends: int = 0) -> Any:
    """One look for all; `height` is the plot's, `legends` the rows of legend above it."""
    text = {"labelColor": TEXT, "titleColor": TEXT, "labelFontSize": 13, "titleFontSize": 13}
    axes = {"gridColor": "#ebedf0", "domain": False, "ticks": False, "labelPadding": 6, "labelLimit": 360}
    return (
        chart.properties(height=round(height) + AXIS_ROOM + LEGEND_ROOM * legends)
        .configure(font=FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(**text, **axes, titleFontWeight="normal", titlePadding=10)
        .configure_legend(**text, titleFontWeight="normal")
    )


def once(values: Any) -> list[str]:
    """Different values as text, in the order of their first appearance."""
    return [str(value) for value in dict.fromkeys(values)]


def legend_columns(names: Sequence[str]) -> int:
    """One below the other where they would not fit beside each other in half a page; 0 is a single row."""
    return 1 if sum(map(len, names)) > LEGEND_LETTERS else 0


def legend(columns: int = 0) -> alt.Legend:
    """Above the plot, without a title; `columns` 0 is a single row."""
    return alt.Legend(title=None, orient="top", labelLimit=400, columns=columns, symbolOpacity=1, offset=8)


def labels(frame: pd.DataFrame) -> alt.Y:
    """One row a label, in the order of the frame; long ones in two lines, so that a phone has room for the numbers."""
    every = once(frame["label"])
    lines = json.dumps({label: _lines(label) for label in every})
    axis = alt.Axis(grid=False, labelOverlap=False, labelExpr=f"{lines}[datum.value]", labelLineHeight=14)
    return alt.Y("label:N", sort=every, title=None, axis=axis)


def _lines(label: str) -> list[str]:
    """In one line, or in lines of about the same length."""
    return [label] if len(label) <= LABEL_LETTERS else textwrap.wrap(label, len(label) // 2 + 4)


def people(channel: Any, column: str, order: Sequence[str]) -> Any:
    """A row or column a person, each named unless they are too many."""
    axis = alt.Axis(labels=len(order) <= MANY, labelOverlap=False, labelFontSize=11, title=None, grid=False)
    return channel(f"{column}:N", sort=list(order), axis=axis)


def axis(title: str, percent: bool) -> alt.Axis:
    """Numbers as shares or as they are."""
    return alt.Axis(tickCount=8, title=title, format=".0%" if percent else alt.Undefined)


def measure(column: str, title: str, percent: bool, scale: alt.Scale) -> alt.X:
    """A number along the bottom."""
    return alt.X(f"{column}:Q", axis=axis(title, percent), scale=scale)


def room_for(frame: pd.DataFrame, columns: Sequence[str], percent: bool, also: float | None = None) -> alt.Scale:
    """Just wide enough for the numbers; shares stay inside 0 … 1 however wide the room round them."""
    values = frame[[column for column in columns if column in frame]].to_numpy(dtype=float).ravel()
    values = np.append(values[np.isfinite(values)], [] if also is None else [also])
    if not percent or not len(values) or values.min() < 0:
        return alt.Scale(zero=False, nice=True, padding=10)
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) + 0.01
    most = 1.0 if high <= 1 else math.inf  # a ratio of variances may be above 1, a share may not
    return alt.Scale(zero=False, nice=False, domain=[max(0.0, low - room), min(most, high + room)])


def coloured(column: str, values: Sequence[str], key: alt.Legend | None) -> alt.Color:
    """One colour of the series a value."""
    colours = [SERIES[k % len(SERIES)] for k in range(len(values))]
    scale = alt.Scale(domain=list(values), range=colours)
    return alt.Color(f"{column}:N", scale=scale, sort=list(values), legend=key)


def rule(channel: str, at: float) -> alt.Chart:
    """A dashed line at a value of `x` or `y`."""
    drawn: alt.Chart = (
        alt.Chart(pd.DataFrame({"null": [at]}))
        .mark_rule(strokeDash=[4, 3], color="#6b7480")
        .encode(**{channel: "null:Q"})
    )
    return drawn


def tip(column: str, title: str | None = None, percent: bool = True) -> alt.Tooltip:
    """A number shown under the pointer."""
    return alt.Tooltip(f"{column}:Q", title=title or column, format=".1%" if percent else ".3f")


def tip_label(column: str = "label") -> alt.Tooltip:
    """The name shown under the pointer."""
    return alt.Tooltip(f"{column}:N", title=" ")
