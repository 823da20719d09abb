"""Charts are valid, can be drawn, and what is drawn are the numbers of the tables."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

import charts
import loaders
from charts import look
from frames import claims, health, models, raters, steering, study


def drawn(chart: charts.Chart) -> str:
    """The chart as SVG, after the schema has passed it; drawn by the library that browsers draw it with."""
    chart.to_dict()
    return str(vl_convert.vegalite_to_svg(chart.properties(width=600).to_json()))


def marks(chart: charts.Chart, name: str) -> list[dict[str, Any]]:
    """The marks of a layer as they stand in the picture: pixels, colours and what they say of themselves."""
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("role") == "mark" and str(node.get("name", "")).startswith(name):
                found.extend(node["items"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(vl_convert.vegalite_to_scenegraph(chart.properties(width=600).to_json()))
    return found


def said(mark: dict[str, Any]) -> dict[str, str]:
    """What a mark says of itself, field by field."""
    return dict(part.split(": ", 1) for part in mark["description"].split("; "))


EVERY: dict[str, Callable[[loaders.Store], charts.Chart]] = {
    "contrasts": lambda s: charts.intervals(claims.contrasts(s.read_table("contrasts")), "t", null=0.5, percent=True),
    "ladder": lambda s: charts.intervals(
        models.ladder(s.read_table("ladder"), "accuracy", "user"), "t", null=0.5, percent=True, colour="split_label",
        mark="ceiling", mark_title="ceiling", shape="stroke",
    ),
    "tie curve": lambda s: tie_curve(s),
    "implied r": lambda s: charts.curve_line(
        models.curves(s.read_table("tie_curve"), "seen", ["eb_slopes"]), "implied_r", "r", percent=False
    ),
    "outcomes": lambda s: charts.outcomes(models.outcomes(models.diverging(s.read_table("disagreement"), "seen", 0))),
    "variance": lambda s: charts.stacked_share(raters.variance(s.read_table("ratings"))[1], [charts.INK] * 4),
    "agreement": lambda s: agreement(s),
    "histogram": lambda s: charts.histogram(raters.histogram(s.read_table("ratings")), "ratings", "ticks"),
    "raters": lambda s: charts.rater_heatmap(raters.by_rater(s.read_table("ratings"))),
    "repeats": lambda s: charts.scatter_repeats(raters.repeats(s.read_table("ratings"))),
    "gains": lambda s: charts.gain_by_round(gains(s).rename(columns={"condition": "label"}), "gain"),
    "candidates": lambda s: charts.candidates(steering.one_search(s.read_table("search_trace"), "rater_000", "p00", 1)),
    "rates": lambda s: rates(s),
    "sides": lambda s: charts.side_bars(study.sides(s.read_table("votes"))),
    "times": lambda s: charts.time_histogram(study.times(s.read_table("votes"))),
    "pace": lambda s: charts.pace(study.pace(s.read_table("votes"))),
    "stages": lambda s: charts.stage_bars(health.outcomes(health.stages(loaders.ledger(s)))),
}  # fmt: skip


def tie_curve(store: loaders.Store) -> charts.Chart:
    curves = models.curves(store.read_table("tie_curve"), "seen", ["population", "eb_slopes"])
    return charts.tie_curve(curves, models.curve_lines(curves))


def agreement(store: loaders.Store) -> charts.Chart:
    found = raters.agreement(store.read_table("ratings"), 8)
    return charts.agreement_matrix(found.pairs, found.order)


def gains(store: loaders.Store) -> pd.DataFrame:
    return steering.gain_by_round(steering.gains(store.read_table("search_trace")))


def rates(store: loaders.Store) -> charts.Chart:
    rows = study.rates_by(store.read_table("votes"), "own", "participant_id")
    return charts.rates_strip(rows, {name: name for name in rows["against"]}, "person")


@pytest.mark.parametrize("name", EVERY)
def test_every_chart_is_valid_and_can_be_drawn(store, name):
    svg = drawn(EVERY[name](store))
    assert svg.count("<path") > 3
    assert "NaN" not in svg


def test_points_and_intervals_lie_where_the_table_says(store):
    """Pixels of estimates, interval ends and the rule are one straight line of the table's numbers."""
    rows = claims.contrasts(store.read_table("contrasts"))
    chart = EVERY["contrasts"](store)
    null, outer, inner, points = (marks(chart, f"layer_{k}") for k in range(4))
    ends = [(outer, "x", "outer_low"), (outer, "x2", "outer_high"), (inner, "x", "ci_low"), (inner, "x2", "ci_high")]
    ends += [(points, "x", "estimate")]
    numbers, pixels = [0.5], [null[0]["x"]]
    for layer, where, column in ends:
        at = {said(mark)["label"]: mark[where] for mark in layer}
        numbers += list(rows[column])
        pixels += [at[label] for label in rows["label"]]
    slope, start = np.polyfit(numbers, pixels, 1)
    assert slope > 100
    assert np.array(pixels) == pytest.approx(start + slope * np.array(numbers), abs=1e-6)
    assert [said(mark)["votes"] for mark in points] == [str(n) for n in rows["n_votes"]]


def test_the_dashed_rule_stands_at_no_preference(store):
    chart = EVERY["contrasts"](store).to_dict()
    rules = [
        chart["datasets"][layer["data"]["name"]]
        for layer in chart["layer"]
        if layer["mark"].get("strokeDash") and "data" in layer
    ]
    assert rules == [[{"null": 0.5}]]


def test_shares_stay_inside_zero_and_one_and_the_ceiling_is_in_sight(store):
    chart = EVERY["ladder"](store).to_dict()
    scales = [layer["encoding"].get("x", {}).get("scale") for layer in chart["layer"]]
    low, high = next(scale["domain"] for scale in scales if scale)
    ladder = store.read_table("ladder").query("level == 'user'")
    assert 0 <= low <= np.nanmin(ladder["ci_low"])
    assert ladder["ceiling"].max() <= high <= 1


def test_a_tie_curve_never_comes_without_constant_skill(store):
    svg = drawn(tie_curve(store))
    assert {"measured", "constant skill"} <= set(re.findall(r">([^<>]+)</text>", svg))
    chart = tie_curve(store).to_dict()
    lines = next(layer for layer in chart["layer"] if layer["mark"]["type"] == "line")
    rows = pd.DataFrame(chart["datasets"][lines["data"]["name"]])
    table = store.read_table("tie_curve").query("split == 'seen' and model == 'eb_slopes'").set_index("margin")
    for line, column in (("measured", "accuracy"), ("constant skill", "constant_skill")):
        shown = rows[(rows["line"] == line) & rows["label"].str.startswith("Personal")].set_index("margin")["accuracy"]
        assert shown.to_numpy() == pytest.approx(table[column].to_numpy())


def test_bars_of_the_histogram_are_as_high_as_the_counts(store):
    frame = raters.histogram(store.read_table("ratings"))
    bars = marks(charts.histogram(frame, "ratings", "ticks"), "marks")
    heights = np.array([bar["height"] for bar in bars])
    assert len(bars) == len(frame)
    assert heights / heights.sum() == pytest.approx(frame["share"].to_numpy(), abs=1e-9)


def test_cells_of_the_matrix_are_the_known_pairs_in_their_colour(store):
    found = raters.agreement(store.read_table("ratings"), 8)
    cells = marks(charts.agreement_matrix(found.pairs, found.order), "marks")
    assert len(cells) == 2 * len(found.known)
    known = found.pairs.set_index(["user", "other"])["agreement"]
    stops = [_rgb(colour) for colour in (look.ACCENT, look.PAPER, look.INK)]
    for cell in cells:
        names = said(cell)
        value = known[(names["user"], names["other"])]
        expected = [np.interp(value, [-1, 0, 1], channel) for channel in zip(*stops, strict=True)]
        shown = [int(part) for part in re.findall(r"\d+", cell["fill"])]
        assert shown == pytest.approx(expected, abs=1)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


def test_a_frame_without_intervals_draws_its_points():
    rows = pd.DataFrame({"label": ["a", "b"], "estimate": [0.5, 0.6], "ci_low": np.nan, "ci_high": np.nan})
    points = marks(charts.intervals(rows, "t", null=None, percent=True), "layer_1")
    assert [said(point)["label"] for point in points] == ["a", "b"]
    assert points[0]["x"] < points[1]["x"]


def test_dots_of_equal_rates_do_not_hide_each_other():
    rows = pd.DataFrame({"unit": list("abcd"), "against": "other", "rate": [0.5, 0.5, 0.5, 0.7], "votes": 4})
    dots = marks(charts.rates_strip(rows, {"other": "over other"}, "person"), "layer_1")
    places = {(round(dot["x"], 3), round(dot["y"], 3)) for dot in dots}
    assert len(places) == 4


def test_charts_ask_for_nothing_outside_the_page(store):
    for name, make in EVERY.items():
        spec = make(store).to_json()
        assert set(re.findall(r"https?://[^\"/]+", spec)) <= {"https://vega.github.io"}, name
