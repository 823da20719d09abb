"""Which reward model knows whom, and how sure is that."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import checks, models

NULL = {"accuracy": 0.5, "srocc": 0.0, "plcc": 0.0}
# Models that order a person's images as no model, or as another one, does: drawn in curves on request only.
# (Under a page's name Streamlit would print a string here.)
SAME_ORDER = {"constant", "user_mean", "population_bias"}


def rungs(table: pd.DataFrame) -> str:
    """One measure of all models, at one level, both splits in one picture. Returns the level."""
    left, right = st.columns(2)
    with left:
        level = layout.choose("Level", models.levels_in(table), "level", name=words.LEVELS.__getitem__)
    with right:
        metric = layout.choose("Measure", list(words.METRICS), "metric", name=words.METRICS.__getitem__)
    rows = models.ladder(table, metric, level)
    is_share = metric == "accuracy"
    ceiling = "ceiling" if "ceiling" in rows and rows["ceiling"].notna().any() else None
    mark = " Grey strokes: the best any model of this level could do, given the noise in ratings." if ceiling else ""
    whom = "mean over people" if level == "user" else "over images, against the mean rating of the people here"
    layout.show(
        charts.intervals(
            rows, words.METRICS[metric], null=NULL[metric], percent=is_share, colour="split_label",
            mark=ceiling, mark_title="ceiling", shape="stroke",
        ),
        f"{words.METRICS[metric]} of every reward model, with intervals",
        f"Estimand: {words.METRICS[metric]}, {whom}, for new people and new images; 95 % intervals clustered by "
        f"person and image. Dashed: no skill. n = {_people(rows)}.{mark}",
        rows.drop(columns=["model", "split"]),
    )  # fmt: skip
    return level


def _people(rows: pd.DataFrame) -> str:
    groups = rows.groupby("split_label", sort=False)["n_users"].max()
    return "; ".join(f"{words.count(n, 'person', 'people')} ({name})" for name, n in groups.items())


def _model(name: str) -> str:
    return words.named(words.MODELS, name)


def differences(table: pd.DataFrame, level: str, split: str) -> None:
    """Paired differences: the interval of the difference decides, not the overlap of two intervals."""
    names = models.in_order([*table["a"], *table["b"]])
    usual = "population" if "population" in names else names[0]
    with st.container(width=360):
        baseline = layout.choose("Compared with", names, "baseline", name=_model, usual=usual, form="list")
    rows, less = models.differences(table, level, split, baseline), _model(baseline)
    if rows.empty:
        st.caption("No differences at this level and split.")
        return
    layout.show(
        charts.intervals(rows, f"pairs ordered right, less {less}", null=0.0, percent=True),
        "Paired differences of models with intervals",
        "Estimand: accuracy of a model minus that of the one compared with, on identical pairs, for new people and "
        f"new images; 95 % intervals. Level: {words.LEVELS[level]}.",
        rows,
    )


def tie_curve(table: pd.DataFrame, split: str) -> None:
    """Accuracy by margin, always beside the curve of constant skill."""
    every = models.in_order(list(table.loc[table["split"] == split, "model"]))
    skilled = [name for name in every if name not in SAME_ORDER]
    chosen = st.multiselect("Models", every, default=skilled[-3:], format_func=_model, key="curves")
    curves = models.curves(table, split, chosen)
    if curves.empty:
        st.caption("Choose a model.")
        return
    layout.show(
        charts.tie_curve(curves, models.curve_lines(curves)),
        "Accuracy by tie margin, measured and as constant skill would give",
        "Solid: measured, with a band that holds over all margins at once. Dashed: what a model whose skill is the "
        "same on close and on clear pairs would show. **A rising solid line alone says nothing**: leaving out close "
        "pairs makes every model look better. Upright lines: distance of two slider labels. "
        f"n = {words.count(curves['n_users'].max(), 'person', 'people')} at the smallest margin.",
        curves.drop(columns=["model"]),
    )
    left, right = st.columns(2)
    with left:
        layout.show(
            charts.curve_line(curves, "implied_r", "implied correlation", percent=False),
            "Implied correlation by margin",
            "Only a rising line here says that a model knows clear pairs better than its overall skill suggests.",
        )
    with right:
        layout.show(
            charts.curve_line(curves, "retained", "pairs left", percent=True),
            "Share of pairs beyond the margin",
            "How much of the data each point still rests on.",
        )


def diverging(table: pd.DataFrame, split: str) -> None:
    """Pairs of images on which two people disagree."""
    margins = models.margins_in(table)
    margin = margins[0]
    if len(margins) > 1:
        margin = layout.choose(
            "Both people must be sure by more than", margins, "margin", name=lambda ticks: f"{ticks} ticks"
        )
    rows = models.diverging(table, split, margin)
    if rows.empty:
        st.caption("No diverging pairs in this split.")
        return
    n = int(rows["n_elements"].max())
    left, right = st.columns(2)
    with left:
        layout.show(
            charts.intervals(
                rows.assign(estimate=rows["accuracy"]), "right about a person", null=0.5, percent=True,
                mark="ceiling" if "ceiling" in rows else None, mark_title="ceiling", shape="stroke",
            ),
            "Accuracy on diverging pairs with intervals",
            "Estimand: accuracy on image pairs that two people order in opposite ways, for new people and new images; "
            f"95 % intervals clustered by person and image. n = {words.count(n, 'diverging pair')}. A model that gives "
            "everybody the same order is right about exactly one of the two, so it lies at one half.",
            rows,
        )  # fmt: skip
    with right:
        layout.show(
            charts.outcomes(models.outcomes(rows)),
            "Shares of diverging pairs with both, one or neither person ordered right",
            '"Both right" alone proves nothing, since random private scores raise it together with "neither". '
            "The difference between the two ends is what counts. " + _tests(rows),
        )


def _tests(rows: pd.DataFrame) -> str:
    if "p_permutation" not in rows:
        return ""
    tested = rows[rows["p_permutation"].notna() & ~rows["model"].isin(SAME_ORDER)]
    said = [f"{name} {words.p_value(p)}" for name, p in zip(tested["label"], tested["p_permutation"], strict=True)]
    return f"Permuting people's identities: {'; '.join(said)}." if said else ""


def drifting(table: pd.DataFrame) -> None:
    """Models that order pairs well and yet tell people apart less than they should: said before anything is read."""
    found = checks.collapsed(checks.spread(table))
    if found:
        layout.warn([f"{'; '.join(found)}. Their accuracy may be that of the average person: see Model checks"])


layout.page_title(
    "Which model knows whom?",
    "Reward models from the simplest to the personal ones, judged on people and images they were not trained on.",
)
data = layout.choose_data(released=True)
layout.section("The ladder")
if found := layout.tables(f"{data}ladder"):
    level = rungs(found[0])
    if (spread := layout.table(f"{data}personal_spread")) is not None:
        drifting(spread)
    splits = models.splits_in(found[0])
    split = layout.choose("People and images below", splits, "split", name=lambda name: words.named(words.SPLITS, name))
    layout.section("Is one model better than another?")
    if pairs := layout.tables(f"{data}differences"):
        differences(pairs[0], level, split)
    layout.section("Close and clear pairs")
    if ties := layout.tables(f"{data}tie_curve"):
        tie_curve(ties[0], split)
    layout.section("Where two people disagree")
    if split_pairs := layout.tables(f"{data}disagreement"):
        diverging(split_pairs[0], split)
    if (told := layout.table(f"{data}evaluation_notes")) is not None:
        layout.notes(told)
