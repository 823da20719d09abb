"""Charts of the reward models: tie curves and diverging pairs."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import look
from charts.look import Chart

ANCHOR_DISTANCE = 250
"""Ticks between two labels of the slider."""
LINES = {"measured": [1, 0], "constant skill": [5, 4]}
"""Dashes of the two lines of a tie curve."""


def tie_curve(curves: pd.DataFrame, lines: pd.DataFrame) -> Chart:
    """Accuracy by tie margin with its simultaneous band (solid), beside the curve of constant skill (dashed).

    `curves` and `lines` as `frames.models.curves` and `curve_lines` give them.
    """
    models, title = look.once(curves["label"]), "pairs ordered right"
    bottom = alt.Axis(grid=False, title="pairs count when the two ratings differ by more than … ticks")
    x = alt.X("margin:Q", axis=bottom)
    y = alt.Y("accuracy:Q", axis=look.axis(title, percent=True), scale=alt.Scale(zero=False, padding=10))
    dash = alt.StrokeDash(
        "line:N", scale=alt.Scale(domain=list(LINES), range=list(LINES.values())), legend=look.legend()
    )
    tips = [look.tip_label(), alt.Tooltip("line:N"), "margin:Q", look.tip("accuracy")]
    anchors = list(range(ANCHOR_DISTANCE, int(curves["margin"].max()) + 1, ANCHOR_DISTANCE))
    upright = alt.Chart(pd.DataFrame({"at": anchors})).mark_rule(color="#c9ced6").encode(x="at:Q")
    band = alt.Chart(curves).mark_area(opacity=0.12)
    band = band.encode(
        x=x, y=alt.Y("band_low:Q", title=title), y2="band_high:Q", color=look.coloured("label", models, None)
    )
    line = alt.Chart(lines).mark_line(strokeWidth=2.2)
    line = line.encode(x=x, y=y, color=look.coloured("label", models, look.legend()), strokeDash=dash, tooltip=tips)
    layers = alt.layer(upright, look.rule("y", 0.5), band, line).resolve_scale(color="independent")
    done: Chart = look.finish(layers, 330, legends=2)
    return done


def curve_line(curves: pd.DataFrame, column: str, title: str, percent: bool) -> Chart:
    """Another column of the curves by margin: the implied correlation, or the share of pairs left."""
    line = alt.Chart(curves).mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=30))
    drawn = line.encode(
        x=alt.X("margin:Q", axis=alt.Axis(grid=False, title="margin in ticks")),
        y=alt.Y(f"{column}:Q", axis=look.axis(title, percent), scale=alt.Scale(zero=percent, padding=10)),
        color=look.coloured("label", look.once(curves["label"]), None),
        tooltip=[look.tip_label(), "margin:Q", look.tip(column, title, percent)],
    )
    done: Chart = look.finish(drawn, 210)
    return done


def outcomes(frame: pd.DataFrame) -> Chart:
    """Shares of diverging pairs with both people, one, or neither ordered right, one bar a label."""
    colours = {"both right": look.TEAL, "one right": look.PALE, "neither right": look.ACCENT}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    ranked = frame.assign(rank=frame["outcome"].map({name: k for k, name in enumerate(colours)}))
    bars = alt.Chart(ranked).mark_bar(stroke="white")
    drawn = bars.encode(
        x=alt.X("share:Q", axis=look.axis("diverging pairs", percent=True), scale=alt.Scale(domain=[0, 1])),
        y=look.labels(frame),
        color=alt.Color("outcome:N", scale=scale, sort=list(colours), legend=look.legend()),
        order=alt.Order("rank:Q"),
        tooltip=[look.tip_label(), "outcome:N", look.tip("share")],
    )
    done: Chart = look.finish(drawn, look.ROW * frame["label"].nunique(), legends=1)
    return done
