"""How many ratings of a newcomer are enough, which ones, and by which method."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import newcomers
from frames.estimates import verdicts

COLUMNS = [
    "label", "shown", "neighbours", "estimate", "ci_low", "ci_high", "rmse", "z_sd", "n_users", "n_images",
]  # fmt: skip
READINGS = ("better", "worse", "no difference shown", "cannot be told")


def headline(table: pd.DataFrame) -> None:
    """The answer in three numbers for each way of choosing images."""
    ways = [name for name in ("posterior", "posterior_chosen") if name in set(table["method"])]
    for place, way in zip(st.columns(max(len(ways), 1)), ways, strict=False):
        found = newcomers.enough(table, way)
        with place:
            name = words.named(words.NEWCOMERS, way)
            if found is None:
                st.metric(name, "no gain", border=True)
                st.caption("No number of ratings orders more pairs right than none does.")
                continue
            ratings = words.count(found["shown"], "rating")
            st.metric(name, ratings, border=True, help="Fewest ratings that bring nine tenths of what can be gained.")
            st.caption(
                f"bring {words.points(found['gain'])} over asking nothing, of {words.points(found['most'])} that "
                f"{words.count(found['best'], 'rating')} bring. n = "
                f"{words.count(found['n_users'], 'person', 'people')}. Estimates without an interval of their own: "
                "read them beside the intervals below."
            )


def by_shown(table: pd.DataFrame) -> None:
    """All methods by ratings shown, at one number of neighbours."""
    numbers = newcomers.neighbours_in(table)
    chosen = None
    if numbers:
        usual = newcomers.PUBLISHED_NEIGHBOURS if newcomers.PUBLISHED_NEIGHBOURS in numbers else numbers[0]
        chosen = layout.choose("Neighbours", numbers, "neighbours", usual=usual)
    rows = newcomers.curves(table, chosen)
    layout.show(
        charts.by_shown(rows),
        "Pairs ordered right by ratings of a newcomer and by method, with intervals",
        "Estimand: share of a newcomer's pairs of images that are ordered as he rated them, mean over people, for new "
        "people and new images; 95 % intervals clustered by person and image. All methods see the same people and the "
        f"same held-out prompts; fewer ratings are the first ones of more. n = {_n(rows)}.",
        rows[[name for name in COLUMNS if name in rows]],
    )


def _n(rows: pd.DataFrame) -> str:
    return words.people_and_images(rows["n_users"].max(), rows["n_images"].max())


def compared(table: pd.DataFrame, sweep: pd.DataFrame) -> None:
    """Paired differences from the own model with as many random ratings."""
    rows = newcomers.comparisons(table)
    layout.show(
        charts.intervals(rows, "pairs ordered right, less own model on random images", null=0.0, percent=True),
        "Paired differences from a newcomer's own model after random ratings, with intervals",
        "Estimand: share of pairs ordered right, less that of the newcomer's own model after as many ratings at "
        "random, on identical pairs, for new people and new images; 95 % intervals clustered by person and image, each "
        "for itself. “Numbers chosen”: ratings and neighbours chosen on other people than they are judged on; two "
        f"numbers: those that were published. n = {_n(sweep)}.",
    )
    shown = pd.DataFrame(
        {
            "Comparison": rows["label"],
            "Ratings": rows["shown"],
            "Difference": rows["estimate"].map(words.points),
            "95 % interval": list(map(words.points_between, rows["ci_low"], rows["ci_high"])),
            "p": rows["p"].map(words.p_value),
            "Reading": verdicts(rows, READINGS),
            "Right": rows["accuracy_a"].map(words.percent),
            "Own model": rows["accuracy_b"].map(words.percent),
            "Chosen": rows["settings"],
        }
    )
    st.dataframe(shown, hide_index=True)


def grids(table: pd.DataFrame) -> None:
    """Every number of ratings with every number of neighbours."""
    methods = [name for name in newcomers.AROUND if name in set(table["method"])]
    for place, method in zip(st.columns(max(len(methods), 1)), methods, strict=False):
        rows = newcomers.grid(table, method)
        with place:
            st.markdown(f"**{rows['label'].iloc[0]}**")
            layout.show(
                charts.sweep_grid(rows),
                "Pairs ordered right by numbers of ratings and of neighbours",
                "Share of pairs ordered right, darker is better; intervals under the pointer and below. "
                f"n = {_n(rows)}. "
                "The best cell of many is partly luck: the comparison above is free of that.",
                rows[[name for name in COLUMNS if name in rows]],
            )


layout.page_title(
    "How much must a newcomer tell?",
    "People nobody has trained on, after a few ratings: how many are enough, which ones to ask for, and what to do "
    "with them.",
)
data = layout.choose_data()
if found := layout.tables(f"{data}newcomers"):
    headline(found[0])
    layout.section("Pairs ordered right by ratings asked for")
    by_shown(found[0])
    layout.section("Is one way better than another?")
    if pairs := layout.tables(f"{data}newcomers_chosen"):
        compared(pairs[0], found[0])
    if newcomers.neighbours_in(found[0]):
        layout.section(
            "Ratings and neighbours", "What the most similar people would say, by how many ratings tell who is similar."
        )
        grids(found[0])
