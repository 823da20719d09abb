"""The dashboards: did steering work, which model knows whom, who disagrees with whom, and can it be trusted.

    streamlit run dashboards/app.py -- --store store

Pages lie in `views/`: in a folder named `pages` Streamlit would run a deep-linked page without this frame until the
first visit to the start page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import streamlit as st

import layout
import loaders
from beholder.errors import StorageError, StoreError
from beholder.store import Store

HERE = Path(__file__).parent
PAGES = {
    "Results": [
        st.Page("views/overview.py", title="Overview", icon=":material/visibility:", default=True),
        st.Page("views/ladder.py", title="Reward models", icon=":material/stairs:"),
        st.Page("views/adds.py", title="What inputs add", icon=":material/add_chart:"),
        st.Page("views/newcomers.py", title="Newcomers", icon=":material/person_add:"),
        st.Page("views/steering.py", title="Steering", icon=":material/explore:"),
    ],
    "Data": [
        st.Page("views/taste.py", title="Taste", icon=":material/diversity_3:"),
        st.Page("views/study.py", title="Blind study", icon=":material/how_to_vote:"),
    ],
    "Trust": [
        st.Page("views/checks.py", title="Model checks", icon=":material/fact_check:"),
        st.Page("views/health.py", title="Run health", icon=":material/monitor_heart:"),
    ],
}


def arguments() -> argparse.Namespace:
    """The command line after `--`."""
    parser = argparse.ArgumentParser(prog="dashboards/app.py", description="Dashboards on a store.")
    parser.add_argument("--store", default="store", help="folder or s3://BUCKET/PREFIX of the jobs (%(default)s)")
    return parser.parse_args()


def sidebar(store: Store) -> None:
    """Whose numbers these are."""
    with st.sidebar:
        st.caption(f"Store `{store.url.rpartition('/')[2]}` · plan `{loaders.plan_name(store) or 'none yet'}`")
        if loaders.is_simulated(store):
            st.badge("simulated people", icon=":material/smart_toy:", color="orange")
            st.caption("Their true taste is stored beside their answers.")


st.set_page_config(page_title="Beholder", page_icon=str(HERE / "icon.svg"), layout="wide")
st.logo(str(HERE / "logo.svg"), size="large")
page = st.navigation(PAGES)
try:
    opened = loaders.open_store(arguments().store)
except StoreError as error:
    st.error(f"{error}. Make one with `make demo`, or give another: `-- --store FOLDER`.", icon=":material/folder_off:")
    st.stop()
layout.start_page(opened)
try:
    sidebar(opened)
    page.run()
    layout.foot()
except StorageError as error:  # a bucket that does not answer any more
    st.error(f"{error}.", icon=":material/cloud_off:")
