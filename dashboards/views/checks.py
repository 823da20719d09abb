"""Can a model be taken at its word: does it tell people apart, are its errors honest, does it last, why this one."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import champions
import charts
import layout
import words
from beholder.errors import StoreError
from frames import checks, estimates, models

TRAINED = {"label": "Model", "heldout_accuracy": "Held-out accuracy", "noise_sd": "Noise (ticks)", "digest": "Digest"}
VERSIONS = {
    "version": "Version", "label": "Model", "logged": "Logged (UTC)", "heldout_accuracy": "Held-out accuracy",
    "role": "Now", "reason": "Why it was chosen",
}  # fmt: skip
ROLES = {"champion": "serves (champion)", "challenger": "challenger", "": ""}


@st.cache_data(max_entries=4, show_spinner="Reading the models' history …")
def history(url: str, name: str, written_ns: int) -> pd.DataFrame:
    """Cached by when the database was last written to."""
    return champions.history(layout.current_store(), name)


def who_serves(trained: pd.DataFrame) -> None:
    """Champion and challenger, why, and the versions before."""
    store = layout.current_store()
    record = champions.tracking(store)
    if not record:
        st.caption("The models are not logged yet, so none serves.")
        return
    champion, challenger = (_named(record.get(alias)) for alias in ("champion", "challenger"))
    st.markdown(f"Of {words.count(len(trained), 'trained model')} **{champion}** serves. Challenger: **{challenger}**.")
    st.markdown(f"**Why.** {words.sentence_case(str(record.get('criterion', '')))}.")
    st.caption(
        f"On {words.count(trained['n_ratings'].max(), 'rating')} of "
        f"{words.count(trained['n_users'].max(), 'person', 'people')}. The champion moves only to a model that surely "
        "orders more pairs right for known people; one that only looks better is the challenger."
    )
    versions(str(record.get("name", "")), trained)


def _named(model: object) -> str:
    return words.named(words.MODELS, model) if model else "none"


def versions(name: str, trained: pd.DataFrame) -> None:
    """Every version that was logged, and why one had an alias."""
    written = champions.history_version(layout.current_store())
    with st.expander("Trained models and their history", icon=":material/history:"):
        rows = estimates.with_labels(trained)
        st.dataframe(estimates.renamed(rows.assign(digest=rows["digest"].str[:12]), TRAINED), hide_index=True)
        if written is None:
            st.caption("The versions are kept by the tracking server the jobs were given.")
            return
        try:
            rows = history(layout.current_store().url, name, written)
        except StoreError as error:
            layout.warn([str(error)])
            return
        rows = rows.assign(
            label=[words.named(words.MODELS, model) for model in rows["model"]],
            role=[ROLES.get(alias, alias) for alias in rows["alias"]],
        )
        st.dataframe(estimates.renamed(rows, VERSIONS), hide_index=True)


def _n(rows: pd.DataFrame) -> str:
    return words.people_and_images(rows["n_users"].max(), rows["n_images"].max())


def tested(table: pd.DataFrame) -> None:
    """Paired differences of trained models on the held-out fold."""
    names = models.in_order([*table["a"], *table["b"]])
    usual = "population" if "population" in names else names[0]
    with st.container(width=360):
        chosen = layout.choose(
            "Compared with", names, "rival", name=lambda name: words.named(words.MODELS, name), usual=usual, form="list"
        )
    rows = table.assign(level="user", split="seen")
    rows = models.differences(rows, "user", "seen", chosen)
    layout.show(
        charts.intervals(
            rows, f"pairs ordered right, less {words.named(words.MODELS, chosen)}", null=0.0, percent=True
        ),
        "Paired differences of trained models on held-out prompts, with intervals",
        "Estimand: share of pairs ordered right by a model, less that of the one compared with, on one held-out fold "
        "of prompts, for new people and new prompts; 95 % intervals clustered by person and prompt. Where the "
        f"evaluation of the same ratings is there, it decides in place of this. n = {_n(rows)}.",
        rows.drop(columns=["level", "split"]),
    )


def apart(table: pd.DataFrame) -> None:
    """Each model's finding at a glance, then what it rests on."""
    if table.empty:
        st.caption("No model of the plan is meant to tell people apart.")
        return
    rows = checks.spread(table)
    st.markdown(checks.findings(rows))
    left, right = st.columns(2)
    n = f"n = {_n(rows)}."
    with left:
        layout.show(
            charts.intervals(
                estimates.measure(rows, "spread"), "share of private ratings spanned", null=0.01, percent=True,
                colour="split_label",
            ),
            "How far every model tells people apart, with intervals",
            "Estimand: variance of predictions over that of ratings, levels of people and images taken off both, for "
            "new people and new images; 95 % intervals. **Average**: surely below 1 % (dashed). That may be drift, or "
            f"that there is nothing to learn: compare with another model. {n}",
        )  # fmt: skip
    with right:
        layout.show(
            charts.intervals(
                estimates.measure(rows, "slope"), "ticks of rating for a tick of prediction", null=1.0, percent=False,
                colour="split_label",
            ),
            "How much ratings move with predictions, with intervals",
            "Estimand: slope of ratings on predictions, levels taken off; 1 (dashed) where predictions are honest. "
            f"**Shrunken**: surely above 2. An interval that holds 0: what is personal may be noise. {n}",
        )  # fmt: skip
    kept = estimates.measure(rows, "kept")
    if len(kept):
        layout.show(
            charts.intervals(kept, "variance kept", null=0.5, percent=True, colour="split_label"),
            "Variance kept of that of another model, with intervals",
            "Estimand: variance between people over that of the model compared with. **Drifted**: surely below half "
            f"(dashed). {n}",
        )
    with st.expander("The numbers", icon=":material/table_rows:"):
        st.dataframe(rows.drop(columns=["model", "split", "collapsed"]), hide_index=True)


def errors(ladder: pd.DataFrame) -> None:
    """Whether the errors that models state are those they make."""
    rows = checks.honesty(ladder)
    if rows.empty:
        st.caption("No model here states an error.")
        return
    dishonest = [f"{r.label}, {r.split_label} ({r.estimate:.2f})" for r in rows.itertuples() if r.said == "not honest"]
    layout.show(
        charts.intervals(rows, "errors made over errors stated", null=1.0, percent=False, colour="split_label"),
        "Standardised errors of every model, with intervals",
        "Estimand: SD of prediction errors divided by the SD stated, mean over people; 95 % intervals clustered by "
        "person and image. 1 (dashed) where stated errors are honest; above, a model is too sure of itself. "
        f"n = {words.count(rows['n_users'].max(), 'person', 'people')}.",
        estimates.renamed(
            rows, {"label": "Model", "split_label": "Tested on", "estimate": "Made over stated", "ci_low": "from",
                   "ci_high": "to", "said": "Within .9 to 1.1"},
        ),
    )  # fmt: skip
    layout.warn([f"errors of these models are not honest: {'; '.join(dishonest)}"] if dishonest else [])


def lasting(table: pd.DataFrame) -> None:
    """Gains on the first and on a later occasion."""
    gains, shares = checks.lasting(table)
    if gains.empty:
        st.caption(
            "Not computed here: it needs ten images rated again by the same people on a later occasion, the population "
            "head, and a personal model."
        )
        return
    n = f"n = {_n(gains)}"
    left, right = st.columns([3, 2])
    with left:
        layout.show(
            charts.intervals(
                gains, "pairs ordered right, less the population head", null=0.0, percent=True, colour="quantity"
            ),
            "Gain over the population head by occasion, with intervals",
            "Estimand: share of pairs ordered right less that of the population head, on pairs rated on both "
            f"occasions, for new people and new images; 95 % intervals clustered by person and image. {n}.",
            gains.drop(columns=["model"]),
        )
    with right:
        layout.show(
            charts.intervals(shares, "share of the gain that is left", null=1.0, percent=True),
            "Share of the gain that is left later, with intervals",
            f"Later gain over first gain; dashed: all of it. Not given where the first gain is not told from 0. {n}.",
        )


def rests_on(table: pd.DataFrame) -> None:
    """How many ratings, people and images were tested."""
    rows = table.assign(
        split_label=["everything" if name == "all" else words.named(words.SPLITS, name) for name in table["split"]]
    )
    st.dataframe(estimates.renamed(rows, checks.COUNTS), hide_index=True)


layout.page_title(
    "Can a model be taken at its word?",
    "Ordering pairs well is not all: a model should tell people apart, know how wrong it is, and still be right later.",
)
data = layout.choose_data(released=True)
layout.section("Does it tell people apart?")
if found := layout.tables(f"{data}personal_spread"):
    apart(found[0])
layout.section("Are its errors honest?")
if found := layout.tables(f"{data}ladder"):
    errors(found[0])
layout.section("Does its gain last?")
if found := layout.tables(f"{data}stability"):
    lasting(found[0])
if not data:
    layout.section("Which model serves, and why?")
    if found := layout.tables("trained"):
        who_serves(found[0])
        if pairs := layout.tables("trained_differences"):
            tested(pairs[0])
layout.section("What the numbers rest on")
if found := layout.tables(f"{data}evaluation_counts"):
    rests_on(found[0])
if (told := layout.table(f"{data}evaluation_notes")) is not None:
    layout.notes(told)
