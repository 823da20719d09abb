"""What was planted and what was found: the claims of the study, with whom they speak for."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import loaders
import words
from frames import claims, models

COUNTED = (
    ("prompts", "Prompts"),
    ("images", "Images"),
    ("ratings", "Ratings"),
    ("steered_images", "Steered images"),
    ("votes", "Votes"),
)
REPORT = "report/report.html"


def counts() -> None:
    """How much there is of everything, from the tables' records."""
    store = layout.current_store()
    for place, (name, title) in zip(st.columns(len(COUNTED)), COUNTED, strict=True):
        rows = loaders.rows_in(store, name)
        place.metric(title, "–" if rows is None else f"{rows:,}", border=True)


def contrasts(table: pd.DataFrame) -> None:
    """Win rates of the focal condition over each of the others."""
    rows = claims.contrasts(table)
    first = rows.iloc[0]
    st.markdown(claims.sentence(first))
    shown = rows.assign(label=[f"over {words.named(words.CONDITIONS, name)}" for name in rows["against"]])
    simultaneous = " Thin lines: intervals that hold for all comparisons at once." if "outer_low" in rows else ""
    layout.show(
        charts.intervals(
            shown,
            f"{words.named(words.CONDITIONS, first['focal'])} picture preferred (a tie counts one half)",
            null=0.5,
            percent=True,
        ),
        "Win rates of own pictures over every other condition, with intervals",
        f"Estimand: {claims.estimand(first)[0]}. Thick lines: 95 % intervals, clustered by participant and prompt."
        f"{simultaneous} Dashed: no preference. n = {words.count(rows['n_votes'].sum(), 'main vote')}.",
    )
    layout.warn(claims.all_warnings(row for _, row in rows.iterrows()))
    table_of_claims(rows)


def table_of_claims(rows: pd.DataFrame) -> None:
    """Every comparison with what may be said of it."""
    shown = pd.DataFrame(
        {
            "Comparison": rows["label"],
            "Win rate": rows["estimate"].map(words.percent),
            "95 % interval": [words.interval(*ends) for ends in zip(rows["ci_low"], rows["ci_high"], strict=True)],
            "Holm": rows["p_holm"].map(words.p_value),
            "Reading": rows["verdict"],
            "Votes": rows["n_votes"],
            "People": rows["n_participants"],
            "Prompts": rows["n_prompts"],
        }
    )
    st.dataframe(shown, hide_index=True)


def planted(table: pd.DataFrame) -> None:
    """Planted values as diamonds beside the estimates."""
    rows = claims.recovered(table).rename(columns={"quantity": "label"})
    inside = int(rows["inside"].sum())
    layout.show(
        charts.intervals(
            rows,
            "found (points) and planted (diamonds)",
            null=None,
            percent=claims.are_shares(rows),
            mark="planted",
            mark_title="planted",
        ),
        "Planted values beside estimates with intervals",
        f"Diamonds: the planted rate, from the true probabilities of these very trials; {inside} of {len(rows)} "
        "intervals hold it. Intervals speak for new people and prompts, so at least 95 in 100 should.",
        rows[["label", "planted", "estimate", "ci_low", "ci_high", "inside"]],
    )


def knowledge() -> None:
    """What the personal model adds to the population model."""
    table = layout.table("differences")
    row = None if table is None else models.headline(table)
    if row is None:
        st.caption("Not evaluated yet.")
    else:
        st.metric("Personal over population model", words.points(row["estimate"]), border=False)
        st.caption(
            f"more pairs ordered right for {words.named(words.SPLITS, row['split'])} "
            f"(95 % interval {words.points(row['ci_low'])} to {words.points(row['ci_high'])}; "
            f"n = {words.count(row['n_users'], 'person', 'people')})"
        )


def style() -> None:
    """Whether two searches of one person come to the same style."""
    table = layout.table("consistency")
    if table is None:
        st.caption("Not analysed yet.")
    else:
        row = table.iloc[0]
        st.metric("Style that comes back", words.number(row["t2"], 2), border=False)
        st.caption(
            f"agreement of two searches of one person, less that of two people (95 % interval {row['ci_low']:.2f} to "
            f"{row['ci_high']:.2f}; {words.p_value(row['p'])}; n = {words.count(row['n_users'], 'person', 'people')})"
        )


def trust() -> None:
    """Whether all tables belong together."""
    rows = loaders.records(layout.current_store())
    outdated = int((rows["state"] != "current").sum())
    st.metric("Tables up to date", f"{len(rows) - outdated} of {len(rows)}", border=False)
    st.caption("made from the tables that lie in the store now")


def report() -> None:
    """The whole analysis on one page, where the job has written it."""
    store = layout.current_store()
    if store.exists(REPORT):
        st.download_button(
            "The full report (HTML)",
            store.read(REPORT),
            file_name="report.html",
            mime="text/html",
            on_click="ignore",
            icon=":material/description:",
        )
        st.caption("All checks, results and deviations; beside it in the store lies a bundle to compute it all again.")


def read_on() -> None:
    """One number of each of the other pages, and the way there."""
    cards = (
        ("views/ladder.py", "stairs", knowledge),
        ("views/steering.py", "explore", style),
        ("views/health.py", "monitor_heart", trust),
    )
    for place, (page, icon, fill) in zip(st.columns(len(cards), border=True), cards, strict=True):
        with place:
            st.page_link(page, icon=f":material/{icon}:")
            fill()


layout.page_title(
    "Do people prefer the pictures made for them?",
    "The study's planned comparisons, answered blind and side by side. Everything else here explains these numbers.",
)
counts()
layout.section("The claims")
if found := layout.tables("contrasts"):
    contrasts(found[0])
    report()
if loaders.is_simulated(layout.current_store()):
    layout.section("What was planted, what was found")
    if found := layout.tables("recovered"):
        planted(found[0])
layout.section("Read on")
read_on()
