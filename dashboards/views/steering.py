"""What the search found for whom: winning prompts and pictures side by side, and what it gained."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import words
from frames import steering

VOTED = {"own": "voted: own better", "that": "voted: this better", "tie": "voted: a tie"}
JUDGES = {"own": "people's own models", "population": "population model", "statistics": "image statistics"}
# The independent search whose pictures were shown in the study.
SHOWN_RUN = 1


def choose(images: pd.DataFrame) -> tuple[str, str, str]:
    """Person, somebody else and prompt; all in the address of the page."""
    people, prompts = steering.people(images), steering.prompts_of(images)
    telling = steering.most_telling(images)
    first, second, third = st.columns([1, 1, 2])
    with first:
        person = layout.choose("Person", people, "person", form="list")
    others = [name for name in people if name != person] or people
    with second:
        different = steering.with_another_picture(images, person, telling, others)
        other = layout.choose("Compared with", others, "other", usual=different, form="list")
    with third:
        prompt_id = layout.choose(
            "Prompt", list(prompts), "prompt", name=prompts.__getitem__, usual=telling, form="list"
        )
    return person, other, prompt_id


def comparison(images: pd.DataFrame, person: str, other: str, prompt_id: str) -> None:
    """The five pictures, what this person's model expects of them, and how this person voted."""
    votes, rewards = layout.table("votes"), layout.table("steering_rewards")
    voted = {} if votes is None else steering.votes_on(votes, person, other, prompt_id)
    hoped = {} if rewards is None else steering.expected(rewards, person, other, prompt_id, SHOWN_RUN)
    titles = {
        "own": f"For {person}",
        "other": f"For {other}",
        "population": "For everybody",
        "statistics": "For an image-statistics score",
        "unoptimised": "The prompt as given",
    }
    every = steering.side_by_side(images, person, other, prompt_id)
    own = next((shown.image_id for shown in every if shown.condition == "own"), None)
    pictures = [
        layout.Picture(
            shown.path,
            titles[shown.condition],
            shown.prompt,
            _notes(
                hoped.get(shown.condition),
                shown.condition != "own" and shown.image_id == own,
                voted.get(shown.condition),
            ),
            highlight=shown.condition == "own",
        )
        for shown in every
    ]
    layout.pictures(pictures, columns=5)
    st.caption(
        f"One seed for all pictures of a prompt, so they differ by their words alone. “Model”: rating that {person}'s "
        "own reward model expects beyond the prompt as given, in ticks of the slider, mean over held-out seeds. Votes "
        "are of the blind study, where nobody saw prompts or whose picture it was; one person's votes on one prompt "
        "prove nothing."
    )


def _notes(hoped: float | None, same: bool, voted: str | None) -> str:
    parts = ["the same picture"] if same else []
    parts += [] if hoped is None else [f"model: {hoped:+.0f} ticks"]
    parts += [VOTED[voted]] if voted else []
    return " · ".join(parts)


def runs(steered: pd.DataFrame, person: str, other: str, prompt_id: str) -> None:
    """Own pictures of two people, each from independent searches."""
    pictures = [
        layout.Picture(shown.path, f"{name}, search {run}", shown.prompt, highlight=name == person)
        for name in dict.fromkeys((person, other))
        for run, shown in steering.own_runs(steered, name, prompt_id).items()
    ]
    layout.pictures(pictures, columns=max(4, len(pictures)))
    st.caption("Two searches of one person share neither rewrites nor search seeds: what returns is the person's.")


def consistency(table: pd.DataFrame) -> None:
    """Does the same person get the same style twice?"""
    row = table.iloc[0]
    left, right = st.columns([1, 3])
    left.metric("Style that comes back", words.number(float(row["t2"]), 2), border=True, help="T2, cosine units.")
    n = (
        f"n = {words.count(row['n_users'], 'person', 'people')}, {words.count(row['n_prompts'], 'prompt')}, "
        f"{words.count(row['n_runs'], 'run')}"
    )
    right.markdown(
        f"Two independent searches of one person agree in style across different prompts by {row['t2']:.2f} more than "
        f"searches of two people do (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}; "
        f"{words.p_value(float(row['p']))}, permuting whose searches they are). {n}. From one search alone the other "
        f"of the same person is found in {words.percent(row['identification_rate'])} of cases; guessing finds "
        f"{words.percent(row['chance'])}."
    )


def heldout(gains: pd.DataFrame, rewards: pd.DataFrame) -> None:
    """What remains of the search at seeds it has not seen."""
    rows = steering.heldout(gains, rewards)
    first = rows.iloc[0]
    n = (
        f"{words.count(first['n_searches'], 'search', 'searches')} of "
        f"{words.count(first['n_participants'], 'person', 'people')} on {words.count(first['n_prompts'], 'prompt')}"
    )
    layout.show(
        charts.intervals(rows, "ticks that the person's own model expects more", null=0.0, percent=False),
        "Gain at held-out seeds with intervals",
        "Estimand: difference of the expected rating at held-out seeds, by the person's own reward model, for new "
        f"people and new prompts; 95 % intervals clustered by person and prompt. n = {n}. It is the model's opinion, "
        "which the search was made to please: whether people agree, the blind study says.",
        rows,
    )
    layout.warn([f"{row['label']}: no interval, {row['reason']}" for _, row in rows.iterrows() if row["reason"]])


def promised(gains: pd.DataFrame) -> None:
    """What the searches promised beside what held."""
    rows = steering.promised(gains)
    shown = pd.DataFrame(
        {
            "Searches for": rows["condition"].map(lambda name: words.named(JUDGES, name)),
            "Promised": rows["promised"].round(2),
            "Held": rows["held"].round(2),
            "Optimism": rows["optimism"].round(2),
            "Searches": rows["searches"],
        }
    )
    st.dataframe(shown, hide_index=True)
    st.caption(
        "Gain over the bare prompt in the units of each judge (ticks; image statistics in SDs). Promised: as scored in "
        "the last round of the search. Held: at held-out seeds. Optimism: what the search promised beyond what held."
    )


def rounds(trace: pd.DataFrame) -> None:
    """Gain of every round, people's models and the population model; image statistics have other units."""
    rows = steering.gains(trace)
    rows = rows[rows["condition"] != "statistics"]
    frame = steering.gain_by_round(rows)
    frame = frame.assign(label=frame["condition"].map(lambda name: words.named(JUDGES, name)))
    n = len(rows.drop_duplicates(steering.SEARCH))
    layout.show(
        charts.gain_by_round(frame, "gain (ticks)"),
        "Gain of the reward by round",
        "Estimand: expected rating of the prompt kept in a round less that of the prompt the round began with, on the "
        "same fresh seeds; means and quartiles over searches. The kept prompt is the best of several, so part of each "
        f"gain is luck. n = {words.count(n, 'search', 'searches')}.",
        frame,
    )


def one_search(trace: pd.DataFrame, person: str, prompt_id: str) -> None:
    """The way of one search through its candidates."""
    numbers = sorted(int(run) for run in trace["run"].unique())
    run = layout.choose("Independent search", numbers, "run") if len(numbers) > 1 else numbers[0]
    rows = steering.one_search(trace, person, prompt_id, run)
    if rows.empty:
        st.caption("No search of this person on this prompt.")
        return
    layout.show(
        charts.candidates(rows),
        "Scores of all candidates of one search by round",
        f"Search {run} for {person}. Grey: candidates. Filled: kept. Seeds are fresh in every round, so heights "
        "compare within a round only.",
        rows,
    )


layout.page_title(
    "Did steering work, and what does it look like?",
    "Prompts rewritten under a person's own reward model, beside what others got for the same prompt.",
)
if found := layout.tables("steered_images"):
    layout.section("Side by side")
    person, other, prompt_id = choose(found[0])
    comparison(found[0], person, other, prompt_id)
    layout.section("Is the style a person's own?")
    if with_runs := layout.tables("steered"):
        runs(with_runs[0], person, other, prompt_id)
        if tested := layout.tables("consistency"):
            consistency(tested[0])
    layout.section("What was gained", "At seeds that no search has seen, and round by round.")
    if gained := layout.tables("steering_gains", "steering_rewards"):
        heldout(*gained)
        promised(gained[0])
    if traced := layout.tables("search_trace"):
        left, right = st.columns(2)
        with left:
            rounds(traced[0])
        with right:
            one_search(traced[0], person, prompt_id)
