"""Charts of the blind study: rates of single people and prompts, sides, times."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from charts import look
from charts.look import Chart

SECONDS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]


def rates_strip(frame: pd.DataFrame, labels: Mapping[str, str], unit: str) -> Chart:
    """Win rates of single people or prompts, one row a comparison; dots of equal rates lie beside each other."""
    turn = frame.groupby(["against", "rate"]).cumcount().to_numpy()
    aside = (turn + 1) // 2 * np.where(turn % 2, 1, -1)
    placed = frame.assign(label=[labels[name] for name in frame["against"]], aside=aside)
    reach = max(4, int(abs(aside).max()) + 1)
    dots = alt.Chart(placed).mark_circle(opacity=0.6, color=look.INK)
    drawn = dots.encode(
        x=alt.X("rate:Q", axis=look.axis("win rate", percent=True), scale=alt.Scale(domain=[0, 1], padding=8)),
        y=look.labels(placed),
        yOffset=alt.YOffset("aside:Q", scale=alt.Scale(domain=[-reach, reach])),
        size=alt.Size("votes:Q", legend=None, scale=alt.Scale(rangeMin=40, rangeMax=160)),
        tooltip=[alt.Tooltip("unit:N", title=unit), look.tip("rate"), "votes:Q"],
    )
    done: Chart = look.finish(alt.layer(look.rule("x", 0.5), drawn), 58 * placed["label"].nunique())
    return done


def side_bars(frame: pd.DataFrame) -> Chart:
    """Left, tie and right answers of every participant, the least left-leaning first."""
    colours = {"left": look.INK, "tie": look.PALE, "right": look.TEAL}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    long = frame.melt(id_vars=["participant", "votes"], value_vars=list(colours), var_name="answer", value_name="share")
    long = long.assign(rank=long["answer"].map({name: k for k, name in enumerate(colours)}))
    bars = alt.Chart(long).mark_bar(stroke="white", strokeWidth=0.5)
    drawn = bars.encode(
        x=alt.X("share:Q", axis=look.axis("answers", percent=True), scale=alt.Scale(domain=[0, 1])),
        y=look.people(alt.Y, "participant", look.once(frame["participant"])),
        color=alt.Color("answer:N", scale=scale, sort=list(colours), legend=look.legend()),
        order=alt.Order("rank:Q"),
        tooltip=["participant:N", "answer:N", look.tip("share"), "votes:Q"],
    )
    done: Chart = look.finish(alt.layer(drawn, look.rule("x", 0.5)), max(80, 22 * len(frame)), legends=1)
    return done


def time_histogram(frame: pd.DataFrame) -> Chart:
    """Response times in bins `from` … `to` seconds on a log axis, sides and ties stacked."""
    choices = look.once(frame["choice"])
    stacked = frame.sort_values(["from", "choice"])
    stacked = stacked.assign(high=stacked.groupby("from")["votes"].cumsum())
    stacked = stacked.assign(low=stacked["high"] - stacked["votes"])
    bottom = alt.Axis(format="~g", values=SECONDS, grid=False, title="seconds (log scale)")
    bars = alt.Chart(stacked).mark_rect(stroke="white", strokeWidth=0.5)
    drawn = bars.encode(
        x=alt.X("from:Q", scale=alt.Scale(type="log", nice=False), axis=bottom),
        x2="to:Q",
        y=alt.Y("low:Q", title="votes"),
        y2="high:Q",
        color=look.coloured("choice", choices, look.legend()),
        tooltip=["choice:N", look.tip("from", percent=False), look.tip("to", percent=False), "votes:Q"],
    )
    done: Chart = look.finish(drawn, 230, legends=1)
    return done


def pace(frame: pd.DataFrame) -> Chart:
    """Median response time along the session with quartiles."""
    base = alt.Chart(frame).encode(x=alt.X("order:Q", axis=alt.Axis(grid=False, title="trial of the session")))
    area = base.mark_area(opacity=0.15, color=look.INK)
    line = base.mark_line(color=look.INK, strokeWidth=2.2, point=alt.OverlayMarkDef(color=look.INK))
    layers = alt.layer(
        area.encode(y=alt.Y("low:Q", title="seconds", scale=alt.Scale(zero=True)), y2="high:Q"),
        line.encode(y="median:Q", tooltip=["order:Q", look.tip("median", percent=False), "votes:Q"]),
    )
    done: Chart = look.finish(layers, 230 + look.LEGEND_ROOM)
    return done
