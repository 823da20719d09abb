"""Tables of numbers that another step computed, shown in a report as they were handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import charts
from analysis.errors import TableError
from analysis.report_recomputed import Recomputed, recomputed
from analysis.results import Estimand, Exclusions, Result, plain

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from analysis.report_sections import Material

COLUMNS = {
    "ladder": ("model", "split", "level", "srocc", "plcc", "accuracy", "ci_low", "ci_high", "n_users"),
    "differences": ("a", "b", "split", "level", "estimate", "ci_low", "ci_high", "p"),
    "tie_curve": ("model", "split", "margin", "accuracy", "band_low", "band_high", "constant_skill"),
    "disagreement": ("model", "split", "both", "one", "none", "accuracy"),
}
"""Columns without which a table cannot be shown; others pass through."""

_QUANTITIES = {
    "ladder": "share of pairs ordered right, mean over users",
    "differences": "difference of two models' shares of pairs ordered right",
    "tie_curve": "share of pairs ordered right by tie margin, mean over users",
    "disagreement": "share of diverging pairs ordered right",
}


@dataclass(frozen=True, kw_only=True)
class GivenTable(Result):
    """A table as handed in: `name` and its `rows`.

    Its numbers are copied; `recomputed` says how they compare with those computed here from predictions and ratings,
    None where the report has none of these.
    """

    name: str
    rows: tuple[dict[str, Any], ...]
    recomputed: Recomputed | None = None

    def summary(self) -> str:
        """How many rows of what, and whether they follow from the predictions."""
        told = ""
        if self.recomputed is not None:
            n = len(self.recomputed.differing)
            told = f" {self.recomputed.compared} of its numbers were computed again; {n or 'none'} differ."
        return f"{len(self.rows)} rows of the table {self.name}, as handed in.{told} Estimand: {self.estimand.text}."

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def plot(self) -> alt.LayerChart | None:
        """The ladder with its intervals, or the curves beside those of constant skill."""
        frame = self.to_frame()
        if self.name == "ladder":
            return _ladder(frame)
        return _curves(frame) if self.name == "tie_curve" else None


def given_table(name: str, material: Material) -> GivenTable:
    """The table `name` of a report's material as a result.

    Raises
    ------
    TableError
        A column is missing.
    """
    frame = material.tables[name]
    missing = [column for column in COLUMNS[name] if column not in frame.columns]
    if missing:
        raise TableError(
            f"{name}: no column {', '.join(missing)}", ", ".join(COLUMNS[name]), "write them or leave it out"
        )
    again = recomputed(name, frame, material)
    rows = [plain({str(key): value for key, value in row.items()}) for row in frame.to_dict("records")]
    return GivenTable(
        estimand=Estimand(_QUANTITIES[name], people_noun="users", items_noun="images"),
        exclusions=Exclusions.none(len(frame), "rows"),
        warnings=_told(again),
        provenance=material.provenance(name, *(("predictions", "ratings") if again is not None else ())),
        name=name,
        rows=tuple(rows),
        recomputed=again,
    )


def _told(again: Recomputed | None) -> tuple[str, ...]:
    if again is None or not again.differing:
        return ()
    return (f"{len(again.differing)} numbers are not those computed from the predictions: {again.differing[0]}",)


def _ladder(frame: pd.DataFrame) -> alt.LayerChart:
    user = frame[frame["level"] == "user"] if (frame["level"] == "user").any() else frame
    table = user.assign(label=user["model"] + " (" + user["split"] + ")", estimate=user["accuracy"])
    columns = ["label", "estimate", "ci_low", "ci_high"]
    return charts.interval_chart(table[columns], "label", "accuracy", "Pairs ordered right", 0.5, percent=True)


def _curves(frame: pd.DataFrame) -> alt.LayerChart:
    import altair as alt

    table = frame.assign(label=frame["model"] + " (" + frame["split"] + ")")
    colour = alt.Color("label:N", title=None, sort=list(dict.fromkeys(table["label"])))
    base = alt.Chart(table).encode(x=alt.X("margin:Q", title="margin (ticks)"))
    share = alt.Y("accuracy:Q", title="share of pairs", axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    layers = alt.layer(
        base.mark_area(opacity=0.15).encode(y="band_low:Q", y2="band_high:Q", color=colour),
        base.mark_line(strokeDash=[6, 4]).encode(y="constant_skill:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(y=share, color=colour),
    )
    return charts.finish(layers, "Accuracy by tie margin; dashed: constant skill", 320)
