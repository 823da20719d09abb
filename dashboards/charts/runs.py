"""Charts of searches and stages."""

from __future__ import annotations

import altair as alt
import pandas as pd

from charts import look
from charts.look import Chart


def gain_by_round(frame: pd.DataFrame, title: str) -> Chart:
    """Mean of searches by round (points) with quartiles (lines), one colour a label."""
    labels = look.once(frame["label"])
    numbers = [look.tip(column, percent=False) for column in ("gain", "low", "high")]
    base = alt.Chart(frame).encode(
        x=alt.X("round:O", axis=alt.Axis(labelAngle=0, grid=False, title="round")),
        xOffset=alt.XOffset("label:N", sort=labels),
        color=look.coloured("label", labels, look.legend(columns=2)),
        tooltip=[
            look.tip_label(),
            "round:O",
            *numbers,
            "searches:Q",
        ],
    )
    layers = alt.layer(
        look.rule("y", 0.0),
        base.mark_rule(strokeWidth=7, opacity=0.3).encode(y=alt.Y("low:Q", title=title), y2="high:Q"),
        base.mark_point(filled=True, size=110, opacity=1).encode(y="gain:Q"),
    )
    done: Chart = look.finish(layers, 240, legends=(len(labels) + 1) // 2)
    return done


def candidates(frame: pd.DataFrame) -> Chart:
    """Scores of all candidates of one search by round; the kept ones are filled and joined."""
    base = alt.Chart(frame).encode(
        x=alt.X("round:O", axis=alt.Axis(labelAngle=0, grid=False, title="round")),
        y=alt.Y("score:Q", title="reward", scale=alt.Scale(zero=False, padding=12)),
        tooltip=["round:O", look.tip("score", percent=False), "prompt:N", "kept:N"],
    )
    kept = base.transform_filter("datum.kept")
    layers = alt.layer(
        base.mark_point(size=80, color=look.GREY, opacity=0.9),
        kept.mark_line(color=look.ACCENT, strokeWidth=2),
        kept.mark_point(size=130, filled=True, color=look.ACCENT, opacity=1),
    )
    done: Chart = look.finish(layers, 240 + look.LEGEND_ROOM)
    return done


OUTCOMES = {"ok": look.TEAL, "done": look.TEAL, "failed": look.ACCENT, "left": look.PALE}


def stage_bars(frame: pd.DataFrame) -> Chart:
    """Items of every stage that are done, that failed and, of a run, that are left."""
    there = set(frame["outcome"])
    colours = {name: colour for name, colour in OUTCOMES.items() if name in there}
    ranked = frame.assign(rank=frame["outcome"].map({name: k for k, name in enumerate(colours)}))
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    bars = alt.Chart(ranked).mark_bar(stroke="white")
    drawn = bars.encode(
        x=alt.X("count:Q", title="items"),
        y=look.labels(frame),
        color=alt.Color("outcome:N", scale=scale, sort=list(colours), legend=look.legend()),
        order=alt.Order("rank:Q"),
        tooltip=[look.tip_label(), "outcome:N", alt.Tooltip("count:Q", title="items")],
    )
    done: Chart = look.finish(drawn, look.ROW * frame["label"].nunique(), legends=1)
    return done
