"""What the search found for whom: winning prompts and pictures side by side, and what each round gained."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import steering

VOTED = {"own": "voted: own better", "that": "voted: this better", "tie": "voted: a tie"}


def choose(images: pd.DataFrame, prompts: dict[str, str]) -> tuple[str, str, str, int | None]:
    """Person, somebody else, prompt and run; all in the address of the page."""
    people = steering.people(images)
    first, second, third = st.columns([1, 1, 2])
    person = first.selectbox("Person", people, key="person", bind="query-params")
    others = [name for name in people if name != person]
    other = second.selectbox("Compared with", others, key="other", bind="query-params") if others else person
    prompt_id = third.selectbox(
        "Prompt", list(prompts), format_func=lambda name: prompts[name], key="prompt", bind="query-params"
    )
    runs = steering.runs_of(images, str(person))
    run = None
    if len(runs) > 1:
        run = st.segmented_control(
            "Independent search", runs, default=runs[0], required=True, key="run", bind="query-params"
        )
    return str(person), str(other), str(prompt_id), None if run is None else int(run)


def comparison(images: pd.DataFrame, person: str, other: str, prompt_id: str, run: int | None) -> None:
    """The five pictures, and how this person voted on them."""
    votes = layout.table("votes")
    voted = steering.votes_on(votes, person, prompt_id) if votes is not None else {}
    store = layout.current_store()
    layout.pictures(
        [
            layout.Picture(
                store.path(shown.path),
                _title(shown.condition, person, other),
                shown.prompt,
                VOTED.get(voted.get(shown.condition, ""), ""),
                highlight=shown.condition == "own",
            )
            for shown in steering.side_by_side(images, person, other, prompt_id, run)
        ],
        columns=5,
    )
    st.caption(
        "Same seed for all pictures of a prompt, so they differ by their words alone. Votes are of the blind study, "
        "where nobody saw prompts or whose picture it was; one person's votes on one prompt prove nothing."
    )


def _title(condition: str, person: str, other: str) -> str:
    titles = {
        "own": f"For {person}", "other": f"For {other}", "population": "For everybody",
        "statistics": "For an image-statistics score", "unoptimised": "The prompt as given",
    }  # fmt: skip
    return titles.get(condition, f"For {condition}")


def gains(trace: pd.DataFrame) -> None:
    """Gain of every round, by whose reward it was."""
    rows = steering.gains(trace)
    frame = steering.gain_by_round(rows)
    names = {"own": "People's own models", "population": "Population model", "statistics": "Image statistics"}
    searches = rows.drop_duplicates(["judge", "prompt_id", "run"])
    layout.show(
        charts.gain_by_round(
            frame.assign(label=[names.get(kind, kind) for kind in frame["kind"]]), "gain in the search's own reward"
        ),
        "Gain of the reward by round",
        "Estimand: reward of the prompt kept in a round less that of the prompt the round began with, on the same "
        "fresh seeds; means and quartiles over searches. The kept prompt is the best of several, so part of each gain "
        "is luck: only pictures with held-out seeds tell what remains. "
        f"n = {words.count(len(searches), 'search', 'searches')}.",
        frame,
    )


def one_search(trace: pd.DataFrame, person: str, prompt_id: str, run: int) -> None:
    """The way of one search through its candidates."""
    rows = steering.one_search(trace, person, prompt_id, run)
    if rows.empty:
        st.caption("No search of this person on this prompt.")
        return
    layout.show(
        charts.candidates(rows),
        "Scores of all candidates of one search by round",
        "Grey: candidates. Filled: kept. Seeds are fresh in every round, so heights compare within a round only.",
        rows,
    )


def consistency(table: pd.DataFrame) -> None:
    """Does the same person get the same style twice?"""
    row = table.iloc[0]
    left, right = st.columns([1, 3])
    left.metric("Style that comes back", words.number(float(row["t2"]), 2), border=True, help="T2, cosine units.")
    people, prompts = words.count(row["n_users"], "person", "people"), words.count(row["n_prompts"], "prompt")
    told = (
        f"Two independent searches of one person agree in style across different prompts by {row['t2']:.2f} more than "
        f"searches of two people do (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}; "
        f"{words.p_value(float(row['p']))}, permuting whose searches they are). n = {people}, {prompts}, "
        f"{words.count(row['n_runs'], 'run')}."
    )
    if "identification_rate" in row and "chance" in row:
        told += (
            " From one search alone the other of the same person is found in "
            f"{words.percent(row['identification_rate'])} of cases; guessing finds {words.percent(row['chance'])}."
        )
    right.markdown(told)


layout.page_title(
    "Did steering work, and what does it look like?",
    "Prompts rewritten under a person's own reward model, beside what others got for the same prompt.",
)
if found := layout.tables("steered_images", "prompts"):
    images, prompts = found
    layout.section("Side by side")
    person, other, prompt_id, run = choose(images, steering.prompts_of(images, prompts))
    comparison(images, person, other, prompt_id, run)
    if traced := layout.tables("search_trace"):
        layout.section("What the search gained")
        left, right = st.columns(2)
        with left:
            gains(traced[0])
        with right:
            one_search(traced[0], person, prompt_id, 1 if run is None else run)
    layout.section("Is the style a person's own?")
    if tested := layout.tables("consistency"):
        consistency(tested[0])
