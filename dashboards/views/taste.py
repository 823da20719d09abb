"""Who disagrees with whom, about which images, and how people use the slider."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import loaders
import words
from analysis.agreement import Agreement
from analysis.errors import UserError
from frames import raters

COLOURS = {
    "shared taste": charts.INK,
    "private taste": charts.ACCENT,
    "private taste and noise": charts.ACCENT,
    "level of the slider": charts.OCHRE,
    "noise": charts.GREY,
}
FEWEST_REPEATS = 5


@st.cache_data(max_entries=16, show_spinner="Comparing raters …")
def agreement(_ratings: pd.DataFrame, version: str, fewest: int) -> raters.Agreement:
    """Cached by the content of the ratings."""
    return raters.agreement(_ratings, fewest)


@st.cache_data(max_entries=16, show_spinner="Splitting the variance …")
def components(_ratings: pd.DataFrame, version: str) -> tuple[Agreement, pd.DataFrame]:
    """Cached by the content of the ratings."""
    return raters.variance(_ratings)


def variance(ratings: pd.DataFrame, data: str) -> None:
    """How much of a rating is shared, private, habit and noise."""
    try:
        found, parts = components(ratings, layout.version(f"{data}ratings"))
    except UserError as error:
        layout.warn([str(error)])
        return
    left, right = st.columns([3, 1])
    with left:
        layout.show(
            charts.stacked_share(parts, [COLOURS[part] for part in parts["part"]]),
            "Shares of the variance of ratings",
            f"Estimand: {found.estimand.text}. n = {words.count(found.n_ratings, 'rating')} of "
            f"{words.count(found.n_images, 'image')} by {words.count(found.n_users, 'person', 'people')}, "
            f"{words.count(found.n_repeats, 'repeat')}.",
        )
        layout.warn(found.warnings)
    with right:
        index(found, layout.table("truth_ratings") if not data else None)


def index(found: Agreement, truth: pd.DataFrame | None) -> None:
    """The private share of taste and the retest reliability, with their intervals."""
    if not found.separable:
        st.metric("Beholder index", "unknown", border=True)
        st.caption(
            f"The private share of taste needs images rated twice by the same person: {found.why_not_separable}."
        )
        return
    help_text = "Private taste as a share of private and shared taste."
    st.metric("Beholder index", words.percent(found.beholder_index, 0), border=True, help=help_text)
    planted = "" if truth is None else f" Planted: {words.percent(raters.planted_index(truth), 0)}."
    st.caption(
        f"95 % interval {words.interval(*found.intervals['beholder_index'], digits=0)}; "
        f"{words.percent(found.beholder_index_z, 0)} after standardising each person's scores.{planted}"
    )
    st.metric("Retest reliability", words.percent(found.reliability, 0), border=True)
    st.caption(f"95 % interval {words.interval(*found.intervals['reliability'], digits=0)}.")


def who_with_whom(ratings: pd.DataFrame, data: str) -> None:
    """The matrix of raters, and its most and least alike pairs."""
    fewest = st.slider("Images two people must share", 5, 60, 10, key="fewest", help="Pairs with fewer stay empty.")
    try:
        found = agreement(ratings, layout.version(f"{data}ratings"), int(fewest))
    except UserError as error:
        layout.warn([str(error)])
        return
    known = found.known.sort_values("agreement")
    middle, shared = known["agreement"].median(), known["shared"].median()
    left, right = st.columns([3, 2])
    with left:
        layout.show(
            charts.agreement_matrix(found.pairs, found.order),
            "Rank correlation of every two raters",
            "Rank correlation (Spearman) of two people over the images both rated; people who agree lie side by side. "
            f"n = {words.count(len(known), 'pair')} of people with a median of {shared:.0f} shared images each.",
        )
    with right:
        st.metric("Typical agreement of two people", words.number(middle, 2), border=True, help="Median over pairs.")
        st.markdown(
            f"Single cells are noisy: with {shared:.0f} shared images a correlation is uncertain by about "
            f"± {2 / max(shared - 1, 1) ** 0.5:.2f}, so the extremes below are partly luck."
        )
        for kind, rows in (("Most alike", known.tail(5)[::-1]), ("Least alike", known.head(5))):
            st.markdown(f"**{kind}**")
            st.dataframe(_pairs(rows), hide_index=True)


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {"agreement": "Agreement", "shared": "Shared", "user": "Person", "other": "and"}
    return rows[list(columns)].rename(columns=columns).round({"Agreement": 2})


def splitting(ratings: pd.DataFrame, images: pd.DataFrame) -> None:
    """Pictures that people are far apart about, and pictures they agree on."""
    spread = raters.splitting(ratings).merge(images[["image_id", "path"]], on="image_id", how="inner")
    if spread.empty:
        st.caption("No image was rated by five people.")
        return
    n = min(5, len(spread))
    for title, rows in (("Far apart", spread.head(n)), ("Of one mind", spread.tail(n)[::-1])):
        st.markdown(f"**{title}**")
        layout.pictures([_picture(row) for _, row in rows.iterrows()], columns=5)
    st.caption(
        "Spread: standard deviation over raters of scores standardised inside each rater (1 = as far apart as a "
        "person's own scores are over images). The extremes of many images are partly luck."
    )


def _picture(row: pd.Series) -> layout.Picture:
    text = f"spread {row['spread']:.2f}, mean {row['mean']:+.2f}"
    name = str(row["image_id"])
    title = name[:8] if _is_key(name) else name
    return layout.Picture(str(row["path"]), title, text, words.count(row["raters"], "rater"))


def _is_key(name: str) -> bool:
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def slider(ratings: pd.DataFrame) -> None:
    """Overall and per-person use of the slider, and retests."""
    left, right = st.columns(2)
    with left:
        layout.show(
            charts.histogram(raters.histogram(ratings), "ratings", "ticks on the slider"),
            "Histogram of all ratings",
            f"All {words.count(len(ratings), 'rating')} in bins of 25 ticks. Labels stand at 0, 250, 500, 750 and "
            "1000: peaks there are a habit of the slider, not of taste.",
        )
    with right:
        again = raters.repeats(ratings)
        if len(again) >= FEWEST_REPEATS:
            layout.show(
                charts.scatter_repeats(again),
                "First and second ratings of the same image by the same person",
                f"n = {words.count(len(again), 'repeated rating')}, correlation "
                f"{again['first'].corr(again['again']):.2f} over all of them (people's levels included).",
            )
        else:
            st.caption(f"{words.count(len(again), 'image')} rated twice by the same person: too few to draw.")
    use = raters.slider_use(ratings)
    layout.show(
        charts.rater_heatmap(raters.by_rater(ratings)),
        "Every rater's distribution of answers",
        "Each row is one person's answers along the slider, by median. "
        f"n = {words.count(len(use), 'person', 'people')}.",
        use.round(3),
    )


layout.page_title(
    "Who disagrees with whom?",
    "Ratings as they came in: how much of them is shared, how much is personal, and how the slider was used.",
)
data = layout.choose_data()
if found := layout.tables(f"{data}ratings"):
    layout.section("What a rating is made of")
    variance(found[0], data)
    layout.section("Person by person")
    who_with_whom(found[0], data)
    layout.section("Pictures that split people")
    if with_images := layout.tables(loaders.images_of(layout.current_store(), data)):
        splitting(found[0], with_images[0])
    layout.section("The slider")
    slider(found[0])
