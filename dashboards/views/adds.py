"""What other data sets, prompts, demographics and people's own ratings each add to a model, and what it rests on."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import adds, checks, estimates

OVER = {"images": "new images", "prompts": "new prompts"}
READINGS = {
    "label": "Input", "split_label": "Tested on", "adds": "Adds", "interval": "95 % interval",
    "holm": "Holm", "verdict": "Reading", "share_helped": "People helped", "n_users": "People", "n_images": "Images",
}  # fmt: skip


def what_is_added(table: pd.DataFrame, model: str) -> None:
    """The full model less the one that does without."""
    over = layout.choose("Speaks for new people and", list(OVER), "over", name=OVER.__getitem__)
    rows = adds.adds(table, model, over)
    layout.show(
        charts.intervals(rows, "pairs ordered right, less without it", null=0.0, percent=True, colour="split_label"),
        "What every input adds, with intervals",
        "Estimand: share of pairs ordered right by the model with all there is, less that of the same model trained "
        f"without this input, on identical pairs, for new people and {OVER[over]}; 95 % intervals clustered by person "
        f"and {over.removesuffix('s')}. Right of the dashed line it helps. n = {_n(rows)}.",
    )
    said = rows.assign(
        adds=rows["estimate"].map(words.points),
        interval=list(map(words.points_between, rows["ci_low"], rows["ci_high"])),
        holm=rows["p_holm"].map(words.p_value),
        share_helped=rows["share_helped"].map(lambda share: words.percent(share, 0)),
    )
    st.dataframe(estimates.renamed(said, READINGS), hide_index=True)
    st.caption(
        "Reading: “adds” or “harms” where the whole interval lies on one side and Holm's correction over the inputs of "
        "a model agrees. “Nothing shown” is no proof of nothing: look at how wide the interval is. “No interval”: both "
        "models gave the same order to every pair."
    )


def _n(rows: pd.DataFrame) -> str:
    return words.people_and_images(rows["n_users"].max(), rows["n_images"].max())


def every_variant(table: pd.DataFrame, model: str) -> None:
    """Levels, for the record: differences of levels are judged above."""
    rows = adds.variants(table, model)
    ceiling = "ceiling" if "ceiling" in rows and rows["ceiling"].notna().any() else None
    layout.show(
        charts.intervals(
            rows, words.METRICS["accuracy"], null=0.5, percent=True, colour="split_label", mark=ceiling,
            mark_title="ceiling", shape="stroke",
        ),
        "Accuracy of every variant with intervals",
        "Estimand: share of pairs ordered right, mean over people, for new people and new images; 95 % intervals. "
        "Intervals that overlap may still differ surely: the pairs are the same, and the differences are above. "
        f"n = {_n(rows)}.{' Grey strokes: the best that the noise of ratings allows.' if ceiling else ''}",
        rows.drop(columns=["model", "split", "variant"]),
    )  # fmt: skip


def known_and_new(table: pd.DataFrame, model: str) -> None:
    """What is lost on people the model has not trained on."""
    rows = adds.gaps(table, model)
    if rows.empty:
        st.caption("Known and new people share no images here.")
        return
    layout.show(
        charts.intervals(rows, "known people less new people", null=0.0, percent=True),
        "Accuracy of known people less that of new people, with intervals",
        "Estimand: share of pairs ordered right for people with ratings in training, less that for people known by a "
        "few ratings only, on the same images; 95 % intervals clustered by person and image. "
        f"n = {words.count(rows['n_images'].max(), 'image')}.",
        rows.drop(columns=["model", "variant"]),
    )


def rests_on(table: pd.DataFrame, model: str) -> None:
    """Tokens of a fusion predictor, masked one by one."""
    rows = adds.tokens(table, model)
    if rows.empty:
        st.caption("This model has no tokens to mask: only fusion predictors do.")
        return
    layout.show(
        charts.intervals(
            rows, "pairs ordered right, less with the token masked", null=0.0, percent=True, colour="split_label"
        ),
        "Accuracy lost when a token is masked, with intervals",
        "Estimand: share of pairs ordered right as the network is, less that with one token masked, on identical "
        "pairs, for new people and new images; 95 % intervals. It says what these predictions rest on; what an input "
        f"adds to a model trained without it stands above. n = {_n(rows)}.",
        rows.drop(columns=["model", "split", "token"]),
    )


def together(table: pd.DataFrame, model: str) -> None:
    """Whether training with the other data sets drew people together."""
    rows = checks.spread(table[table["model"] == model])
    if rows.empty:
        st.caption("This model is not meant to tell people apart.")
        return
    st.markdown(checks.findings(rows))
    compared = rows["kept"].notna().any()
    name, null, title = ("kept", 1.0, "variance that is left") if compared else ("spread", 0.01, "share spanned")
    against = (
        "of the variance by which the same model, trained on this data set alone, tells people apart; one surely below "
        "50 % has drifted to the average. Dashed: nothing lost."
        if compared
        else "of the private part of ratings, taste and noise; one surely below 1 % (dashed) tells nobody apart."
    )
    layout.show(
        charts.intervals(
            estimates.measure(rows, name).assign(label=lambda frame: frame["split_label"]), title, null=null,
            percent=True,
        ),
        "How far the model tells people apart, with intervals",
        f"Estimand: share {against} 95 % intervals clustered by person and image. n = {_n(rows)}.",
        rows.drop(columns=["model", "split"]),
    )  # fmt: skip


layout.page_title(
    "What does each input add?",
    "The same model trained again without one thing at a time, judged on the same pairs.",
)
data = layout.choose_data()
if found := layout.tables(f"{data}ablation_adds"):
    masked = layout.table(f"{data}token_effects")
    names = adds.models_in(found[0], masked)
    model = layout.choose("Model", names, "model", name=lambda name: words.named(words.MODELS, name))
    layout.section("What is lost without it")
    what_is_added(found[0], model)
    layout.section("With and without")
    if levels := layout.tables(f"{data}ablation"):
        every_variant(levels[0], model)
    layout.section("Known people and new people")
    if gap := layout.tables(f"{data}ablation_gap"):
        known_and_new(gap[0], model)
    layout.section("Does it still tell people apart?")
    if spread := layout.tables(f"{data}ablation_spread"):
        together(spread[0], model)
    layout.section("What its predictions rest on")
    if layout.tables(f"{data}token_effects") and masked is not None:
        rests_on(masked, model)
