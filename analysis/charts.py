"""The few chart forms the results share: altair specifications with titles on the axes and the same look everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

INK = "#1f3a5f"
SOFT = "#9db2c9"
ACCENT = "#b5482a"
WIDTH = 520


def finish(chart: Any, title: str, height: int) -> alt.LayerChart:
    """Common size, title and plain axes."""
    done: alt.LayerChart = (
        chart.properties(width=WIDTH, height=height, title=title)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", labelLimit=260)
        .configure_title(anchor="start", fontSize=14)
    )
    return done


def interval_layers(
    frame: pd.DataFrame, label: str, axis: str, null: float | None, order: Any = None, percent: bool = False
) -> Any:
    """One row a label: estimate as a point, interval as a line, thin outer interval when `outer_low` is a column.

    `frame` has columns `label`, estimate, ci_low, ci_high and optionally outer_low, outer_high.
    """
    import altair as alt

    number = alt.Axis(format=".0%", title=axis) if percent else alt.Axis(title=axis)
    scale = alt.Scale(zero=False, nice=True)
    rows = alt.Y(f"{label}:N", sort=order or list(frame[label]), title=None)
    base = alt.Chart(frame)
    layers: list[Any] = []
    if null is not None:
        import pandas as pd

        layers.append(
            alt.Chart(pd.DataFrame({"null": [null]})).mark_rule(strokeDash=[4, 3], color="#666").encode(x="null:Q")
        )
    if "outer_low" in frame:
        layers.append(base.mark_rule(strokeWidth=1, color=SOFT).encode(x="outer_low:Q", x2="outer_high:Q", y=rows))
    layers.append(
        base.mark_rule(strokeWidth=3, color=INK).encode(
            x=alt.X("ci_low:Q", axis=number, scale=scale), x2="ci_high:Q", y=rows
        )
    )
    layers.append(
        base.mark_point(filled=True, size=90, color=INK, opacity=1).encode(x=alt.X("estimate:Q", axis=number), y=rows)
    )
    return alt.layer(*layers)


def interval_chart(
    frame: pd.DataFrame, label: str, axis: str, title: str, null: float | None, percent: bool = False
) -> alt.LayerChart:
    """`interval_layers` at a height that suits the number of rows."""
    return finish(interval_layers(frame, label, axis, null, percent=percent), title, 34 * len(frame) + 10)


def svg(chart: alt.Chart | alt.LayerChart) -> str:
    """The chart as SVG text, drawn without a browser or the network."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_json()))
