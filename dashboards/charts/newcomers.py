"""Charts of newcomers: accuracy by ratings asked for, and by neighbours."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import look
from charts.look import Chart

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Of series that must be told apart without their colours."""


def by_shown(frame: pd.DataFrame) -> Chart:
    """Accuracy by number of ratings (points) with two-way intervals (lines), one colour and shape a label.

    `frame` has label, shown, estimate, ci_low, ci_high, n_users.
    """
    labels = look.once(frame["label"])
    shapes = [SHAPES[k % len(SHAPES)] for k in range(len(labels))]
    scale = alt.Scale(domain=labels, range=shapes)
    base = alt.Chart(frame).encode(
        x=alt.X("shown:O", axis=alt.Axis(labelAngle=0, grid=False, title="ratings of a newcomer", labelOverlap=False)),
        xOffset=alt.XOffset("label:N", sort=labels),
        color=look.coloured("label", labels, look.legend(columns=1)),
        tooltip=[
            look.tip_label(),
            "shown:O",
            look.tip("estimate"),
            look.tip("ci_low", "interval from"),
            look.tip("ci_high", "interval to"),
            alt.Tooltip("n_users:Q", title="people"),
        ],
    )
    low = look.room_for(frame, ("estimate", "ci_low", "ci_high"), percent=True)
    title = look.axis("pairs ordered right", percent=True)
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=alt.Y("estimate:Q", axis=title, scale=low),
        shape=alt.Shape("label:N", scale=scale, sort=labels, legend=look.legend(columns=1)),
    )
    ends = base.mark_rule(strokeWidth=4, opacity=0.35).encode(
        y=alt.Y("ci_low:Q", axis=title, scale=low), y2="ci_high:Q"
    )
    done: Chart = look.finish(alt.layer(ends, points), 320, legends=len(labels))
    return done


def sweep_grid(frame: pd.DataFrame) -> Chart:
    """Accuracy for every number of ratings (across) and of neighbours (down), written into the cells."""
    scale = alt.Scale(range=[look.PAPER, "#9db2c9", look.INK], interpolate="rgb")
    middle = float(frame["estimate"].min() + 0.62 * (frame["estimate"].max() - frame["estimate"].min()))
    base = alt.Chart(frame).encode(
        x=alt.X("shown:O", axis=alt.Axis(labelAngle=0, grid=False, title="ratings of a newcomer")),
        y=alt.Y("neighbours:O", axis=alt.Axis(grid=False, title="neighbours")),
        tooltip=[
            alt.Tooltip("shown:Q", title="ratings"),
            "neighbours:Q",
            look.tip("estimate", "pairs ordered right"),
            look.tip("ci_low", "interval from"),
            look.tip("ci_high", "interval to"),
        ],
    )
    cells = base.mark_rect(stroke="white").encode(color=alt.Color("estimate:Q", scale=scale, legend=None))
    text = base.mark_text(fontSize=12).encode(
        text=alt.Text("estimate:Q", format=".1%"),
        color=alt.condition(alt.datum.estimate > middle, alt.value("white"), alt.value(look.TEXT)),
    )
    done: Chart = look.finish(alt.layer(cells, text), look.ROW * frame["neighbours"].nunique())
    return done
