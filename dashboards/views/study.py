"""How the blind study was answered: balance, sides, times, repeats, and where own pictures won."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import study

UNITS = {"participant_id": "person", "prompt_id": "prompt"}


def balance(votes: pd.DataFrame, focal: str) -> None:
    """Did everything meet everything, on both sides?"""
    rows = study.balance(votes, focal)
    shown = pd.DataFrame(
        {
            "Own picture against": rows["against"].map(lambda name: words.named(words.CONDITIONS, name)),
            "Votes": rows["votes"],
            "Ties": rows["ties"],
            "People": rows["participants"],
            "Prompts": rows["prompts"],
            "Own on the left": rows["focal_left"].map(words.percent),
        }
    )
    st.dataframe(shown, hide_index=True)


def where(votes: pd.DataFrame, focal: str) -> None:
    """Win rates of single people and prompts."""
    unit = layout.choose("One dot is", list(UNITS), "unit", name=lambda name: f"a {UNITS[name]}")
    rows = study.rates_by(votes, focal, unit)
    labels = {name: f"over {words.named(words.CONDITIONS, name)}" for name in rows["against"].unique()}
    per_dot = rows["votes"].median()
    layout.show(
        charts.rates_strip(rows, labels, UNITS[unit]),
        "Win rates of own pictures for single people or prompts",
        f"Main votes, a tie counts one half. A dot rests on a median of {words.count(per_dot, 'vote')}, so its place "
        "is mostly luck: look at the cloud, not at single dots. Intervals for the mean are on the overview.",
        rows,
    )


def sides(votes: pd.DataFrame) -> None:
    """A preference for a side."""
    share, rows = study.left_share(votes), study.sides(votes)
    left, right = st.columns([1, 3])
    with left:
        st.metric("Left chosen", words.percent(share.estimate), border=True, help="A tie counts one half.")
        st.markdown(f"95 % interval {words.interval(share.ci_low, share.ci_high)}")
        if share.reason:
            layout.warn([f"No interval: {share.reason}."])
        st.caption(
            "Estimand: probability that the left picture is chosen, for new people and new prompts. "
            f"n = {words.count(share.n_votes, 'main vote')} of {words.count(share.n_participants, 'person', 'people')} "
            f"on {words.count(share.n_prompts, 'prompt')}. Where own pictures stand on either side equally often (see "
            "Balance), a habit of a side cannot make a winner."
        )
    with right:
        layout.show(
            charts.side_bars(rows),
            "Answers by side of every participant",
            "Dashed: one half. A person far from it may be answering by side.",
            rows,
        )


def times(votes: pd.DataFrame) -> None:
    """How long answers took, and whether people got faster."""
    left, right = st.columns(2)
    seconds = votes["response_ms"] / 1000
    with left:
        layout.show(
            charts.time_histogram(study.times(votes)),
            "Histogram of response times",
            f"All {words.count(len(votes), 'vote')}, repeats included. Median {seconds.median():.1f} s; "
            f"{words.percent((seconds < 0.5).mean())} under half a second, too fast to have looked.",
        )
    with right:
        if "order" in votes:
            layout.show(
                charts.pace(study.pace(votes)),
                "Response time along the session",
                "Median and quartiles over blocks of four trials. A steep fall may be fatigue or carelessness.",
            )


def again(votes: pd.DataFrame) -> None:
    """Trials that were shown twice with sides swapped."""
    rows = study.repeats(votes)
    if rows.empty:
        st.caption("This study showed no trial twice.")
        return
    left, right = st.columns([1, 3])
    left.metric("Same answer again", words.percent(rows["same"].mean()), border=True)
    right.caption(
        f"n = {words.count(len(rows), 'repeated trial')} of "
        f"{words.count(rows['participant'].nunique(), 'person', 'people')}, sides swapped. Reported only: nobody is "
        "left out for a low number, since close pictures are honestly answered differently."
    )


layout.page_title(
    "How was the blind study answered?",
    "Two pictures side by side, whose they are is hidden. Here is what could have gone wrong, and whether it did.",
)
if found := layout.tables("votes"):
    votes = found[0]
    focal = study.focal_condition(votes)
    layout.section("Balance", "Every comparison should meet many people and prompts, on both sides equally often.")
    balance(votes, focal)
    layout.section("Where own pictures won")
    where(votes, focal)
    layout.section("Left or right?")
    sides(votes)
    if "response_ms" in votes:
        layout.section("How long it took")
        times(votes)
    layout.section("The same pair again")
    again(votes)
