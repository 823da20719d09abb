"""Did the runs work: what they are doing, what failed, how every table was made."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import charts
import layout
import loaders
import words
from frames import health


@st.cache_data(max_entries=4, show_spinner="Reading the ledger …")
def ledger(url: str, shards: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Cached by the state of the shards."""
    return loaders.ledger(loaders.open_store(url))


def runs() -> None:
    """Every run of the store and one of them stage by stage; while one is at work they renew themselves."""
    rows = loaders.runs(layout.current_store())
    if rows.empty:
        st.caption("No run has told of itself in this store.")
        return
    at_work = rows["state"].isin(["running", "paused"]).any()
    st.fragment(run_table, run_every="5s" if at_work else None)()


def run_table() -> None:
    """The runs, what stalled, and the stages of one."""
    store = layout.current_store()
    titles = {
        "run": "Run", "state": "State", "attempt": "Attempt", "started": "Started (UTC)", "stage": "Last stage",
        "done": "Items done", "failed": "Items failed", "cost": "Cost", "heard": "Last heard of (UTC)",
        "machine": "Machine", "error": "Error",
    }  # fmt: skip
    rows, every = loaders.runs(store), loaders.stages_of_runs(store)
    told = rows.assign(cost=[words.number(cost, 2) for cost in rows["cost"]], error=rows["error"].fillna(""))
    layout.warn(health.stalls(every))
    st.dataframe(told.rename(columns=titles), hide_index=True)
    names = list(rows["run"])
    with st.container(width=480):
        run = layout.choose("Stages of the run", names, "stages_of", form="list")
    one_run(health.stages_of(every, run), rows.set_index("run").loc[run, "state"])


def one_run(rows: pd.DataFrame, state: str) -> None:
    """What one run did or is doing, in sum and stage by stage."""
    if rows.empty:
        st.caption("This run has not come to its first stage.")
        return
    sums = health.totals(rows)
    first, second, third, fourth = st.columns(4)
    first.metric("Items done", f"{sums['done']:,.0f}", border=True)
    second.metric("Failed", f"{sums['failed']:,.0f}", border=True)
    third.metric("Workers idle", words.percent(sums["idle"], 0), border=True, help="Of their time, without a batch.")
    fourth.metric("Cost", words.number(sums["cost"], 2), border=True, help="Of this attempt, at the plan's prices.")
    if state in ("running", "paused"):
        left = words.duration(sums["seconds_left"])
        st.markdown(f"**At work.** {words.count(sums['left'], 'item')} to go, {left} left.")
    drawn = health.progress(rows)
    if len(drawn):
        layout.show(
            charts.stage_bars(drawn),
            "Items of every stage of a run: done, failed and left",
            f"Run {state}. Items that were in the ledger before count as done. Steps without items stand below.",
        )
    st.dataframe(health.told(rows), hide_index=True, height="content")
    st.caption(
        "Idle share and cost are of this attempt: a plan states prices by `prices: {cpu_hour: …, gpu_hour: …}`, and "
        "what hosted services charge comes on top. The rate counts from the first batch on. Pause, resume or cancel "
        "with `beholder runs`."
    )


def stages() -> None:
    """Items by stage, done and failed."""
    store = layout.current_store()
    rows = ledger(store.url, loaders.ledger_version(store))
    if rows.empty:
        st.info(
            f"The ledger is empty: no stage has run.\n```sh\n{loaders.command_for('generate', store)}\n```",
            icon=":material/hourglass_empty:",
        )
        return
    table = health.stages(rows)
    failed = int(table["failed"].sum())
    first, second, third, fourth = st.columns(4)
    first.metric("Items done", f"{int(table['ok'].sum()):,}", border=True)
    second.metric("Items failed", f"{failed:,}", border=True)
    third.metric("Needed a second try", f"{int(table['retried'].sum()):,}", border=True)
    fourth.metric("Work", words.duration(table["work_seconds"].sum()), border=True, help="Sum over workers.")
    layout.show(
        charts.stage_bars(health.outcomes(table)),
        "Items of every stage, done and failed",
        "One item is one picture, vector or rewrite; an item counts once however often it was tried.",
        _rounded(table.drop(columns=["stage"])),
    )
    if failed:
        st.markdown("**What failed.** These items are set aside; the rest went on without them.")
        failures = health.failures(rows)
        st.dataframe(failures.assign(key=failures["key"].str[:16]), hide_index=True)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    times = ["seconds", "slowest", "work_seconds"]
    return table.assign(**{name: table[name].round(3) for name in times})


def provenance() -> None:
    """What was made from what."""
    store = layout.current_store()
    rows = loaders.records(store)
    if rows.empty:
        layout.say_missing(["prompts"])
        return
    stale = rows.loc[rows["state"] != "current", "table"]
    if len(stale):
        layout.warn([f"Made from tables that were written anew since: {', '.join(stale)}. Run their jobs again."])
    else:
        st.success(
            f"All {words.count(len(rows), 'table')} were made from the tables that lie here now.",
            icon=":material/verified:",
        )
    st.graphviz_chart(health.lineage(rows), width="stretch")
    shown = rows.assign(
        digest=rows["digest"].str[:12], plan_hash=rows["plan_hash"].str[:12], made_from=rows["made_from"].str.join(", ")
    )
    with st.expander("Every table", icon=":material/table_rows:"):
        st.dataframe(shown, hide_index=True, height="content")


def software() -> None:
    """Versions; more than one of a kind is worth a look."""
    rows = loaders.versions(layout.current_store())
    if rows.empty:
        return
    mixed = sorted(rows.loc[rows["software"].duplicated(), "software"].unique())
    if mixed:
        layout.warn([f"Tables were made with different versions of {', '.join(mixed)}."])
    st.dataframe(rows.drop(columns=["tables"]), hide_index=True, height="content")


layout.page_title(
    "Can the numbers be trusted?", "Whether every item was made, what was set aside, and how each table came to be."
)
layout.section("Runs")
runs()
layout.section("Everything in the ledger", "Items of all runs together, each counted once.")
stages()
layout.section("What was made from what", "Each table knows the digests of the tables it was made from.")
provenance()
layout.section("Software")
software()
