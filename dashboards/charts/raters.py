"""Charts of ratings: where they differ, who agrees with whom, how the slider is used."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from charts import look
from charts.look import Chart

TICKS = [0, 250, 500, 750, 1000]
"""Where the slider has its labels."""


def stacked_share(frame: pd.DataFrame, colours: Sequence[str]) -> Chart:
    """One bar cut into parts; `frame` has part and share, in order."""
    parts, ends = list(frame["part"]), frame["share"].cumsum()
    placed = frame.assign(end=ends, start=ends - frame["share"], middle=ends - frame["share"] / 2)
    scale = alt.Scale(domain=parts, range=list(colours)[: len(parts)])
    bottom = alt.Axis(format=".0%", title="share of the variance of a rating", grid=False)
    base = alt.Chart(placed)
    bar = base.mark_bar(height=58, stroke="white", strokeWidth=2).encode(
        x=alt.X("start:Q", axis=bottom, scale=alt.Scale(domain=[0, 1])),
        x2="end:Q",
        color=alt.Color("part:N", scale=scale, sort=parts, legend=look.legend()),
        tooltip=["part:N", look.tip("share")],
    )
    text = base.transform_filter("datum.share > 0.04").mark_text(color="white", fontSize=16, fontWeight=600)
    shares = text.encode(x="middle:Q", text=alt.Text("share:Q", format=".0%"))
    done: Chart = look.finish(alt.layer(bar, shares), 66, legends=1)
    return done


def agreement_matrix(pairs: pd.DataFrame, order: Sequence[str]) -> Chart:
    """Raters by raters: rank correlation as colour; too few shared images stay empty."""
    scale = alt.Scale(domain=[-1, 0, 1], range=[look.ACCENT, look.PAPER, look.INK], interpolate="rgb")
    key = alt.Legend(title="agreement", format=".1f", gradientLength=180)
    cells = alt.Chart(pairs.dropna(subset=["agreement"])).mark_rect(stroke="white", strokeWidth=0.6)
    drawn = cells.encode(
        x=look.people(alt.X, "user", order),
        y=look.people(alt.Y, "other", order),
        color=alt.Color("agreement:Q", scale=scale, legend=key),
        tooltip=["user:N", "other:N", look.tip("agreement", percent=False), alt.Tooltip("shared:Q")],
    )
    done: Chart = look.finish(drawn, 560)
    return done


def histogram(frame: pd.DataFrame, value: str, title: str) -> Chart:
    """Ratings in bins `from` … `to` along the slider; `value` is the height of the bars."""
    bars = alt.Chart(frame).mark_bar(color=look.INK, binSpacing=1)
    drawn = bars.encode(
        x=alt.X("from:Q", bin="binned", axis=alt.Axis(title=title, grid=False, values=TICKS)),
        x2="to:Q",
        y=alt.Y(f"{value}:Q", title=value),
        tooltip=["from:Q", "to:Q", f"{value}:Q"],
    )
    done: Chart = look.finish(drawn, 250)
    return done


def rater_heatmap(frame: pd.DataFrame) -> Chart:
    """Every rater's answers along the slider, one row a rater in the order of their medians."""
    order = look.once(frame.sort_values(["median", "user"])["user"])
    scale = alt.Scale(range=[look.PAPER, "#9db2c9", look.INK], interpolate="rgb", domainMin=0)
    bottom = alt.Axis(title="ticks on the slider", values=TICKS, grid=False)
    cells = alt.Chart(frame).mark_rect(stroke="white", strokeWidth=0.3)
    drawn = cells.encode(
        x=alt.X("from:Q", axis=bottom, scale=alt.Scale(domain=[0, 1000], nice=False)),
        x2="to:Q",
        y=look.people(alt.Y, "user", order),
        color=alt.Color("share:Q", scale=scale, legend=alt.Legend(title="answers", format=".0%")),
        tooltip=["user:N", "from:Q", "to:Q", "ratings:Q", look.tip("share"), "median:Q"],
    )
    done: Chart = look.finish(drawn, max(120, 15 * len(order)))
    return done


def scatter_repeats(frame: pd.DataFrame) -> Chart:
    """First and second answers to the same image by the same person; on the diagonal nothing changed."""
    scale, ticks = alt.Scale(domain=[0, 1000]), alt.Axis(values=TICKS)
    x = alt.X("first:Q", title="first time", scale=scale, axis=ticks)
    y = alt.Y("again:Q", title="second time", scale=scale, axis=ticks)
    ends = alt.Chart(pd.DataFrame({"first": [0, 1000], "again": [0, 1000]}))
    diagonal = ends.mark_line(strokeDash=[4, 3], color=look.GREY).encode(x=x, y=y)
    points = alt.Chart(frame).mark_circle(size=46, opacity=0.5, color=look.INK)
    layers = alt.layer(diagonal, points.encode(x=x, y=y, tooltip=["user_id:N", "first:Q", "again:Q"]))
    done: Chart = look.finish(layers, 250)
    return done
