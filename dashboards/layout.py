"""What the pages share: the store, cached tables, headings, charts with their numbers, pictures, missing tables."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import pandas as pd
import streamlit as st

import loaders
import words
from beholder.store import Store
from charts import Chart

T = TypeVar("T")
STORE, USED = "store", "used"


def start_page(store: Store) -> None:
    """Say which store this run of the script reads; the list of tables used starts anew."""
    st.session_state[STORE] = store
    st.session_state[USED] = {}


def current_store() -> Store:
    """The store of this session."""
    store: Store = st.session_state[STORE]
    return store


@st.cache_data(max_entries=64, show_spinner=False)
def _read(url: str, name: str, digest: str, written: str) -> pd.DataFrame:
    """A table by its content; digest and time are what makes two calls differ."""
    return loaders.open_store(url).read_table(name)


def table(name: str) -> pd.DataFrame | None:
    """The table as it is now, or None where no job has written it; it is listed at the foot of the page."""
    store = current_store()
    version = loaders.version_of(store, name)
    if version is None:
        return None
    st.session_state[USED][name] = version.digest
    return _read(store.url, name, version.digest, version.written)


def tables(*names: str) -> list[pd.DataFrame] | None:
    """All of these tables; where one is absent, a message that names the job to run, and None."""
    found = [table(name) for name in names]
    missing = [name for name, frame in zip(names, found, strict=True) if frame is None]
    if missing:
        say_missing(missing)
        return None
    return [frame for frame in found if frame is not None]


def version(name: str) -> str:
    """What cached results that are made from a table are kept under."""
    found = loaders.version_of(current_store(), name)
    return f"{found.digest}-{found.written}" if found else ""


def choose_data(*, released: bool = False) -> str:
    """Which ratings a page is about, where the store holds several: what stands before the names of their tables.

    `released` offers what was evaluated on a release's own splits, too.
    """
    found = (loaders.evaluations if released else loaders.data_sets)(current_store())
    if len(found) == 1:
        return found[0]
    return choose("Data", found, "data", name=_data_name)


def _data_name(data: str) -> str:
    own = data.removesuffix(loaders.RELEASE)
    name = own.rstrip("_").replace("_", " ") or "this study"
    return name if own == data else f"{name}, release's splits"


def say_missing(names: Sequence[str]) -> None:
    """Which tables are not there yet, and the command that writes each."""
    store = current_store()
    commands = "\n".join(dict.fromkeys(said for name in names if (said := loaders.command_of(name, store))))
    noun = "table" if len(names) == 1 else "tables"
    listed = ", ".join(f"`{name}`" for name in names)
    st.info(
        f"Nothing to show yet: this needs the {noun} {listed}. Run\n```sh\n{commands}\n```",
        icon=":material/hourglass_empty:",
    )


def page_title(title: str, lead: str) -> None:
    """The page's question and one sentence on how to read it."""
    st.title(title, anchor=False)
    st.markdown(f":gray[{lead}]")


def section(title: str, text: str = "") -> None:
    """A heading, and what the reader is looking at."""
    st.subheader(title, anchor=False)
    if text:
        st.markdown(text)


def choose(
    label: str,
    options: Sequence[T],
    key: str,
    *,
    name: Callable[[T], str] = str,
    usual: T | None = None,
    form: Literal["buttons", "list"] = "buttons",
) -> T:
    """A choice that stands in the page's address, so that a link brings back the view.

    A link that asks for what is not here shows the usual choice and says so.
    """
    first = options[0] if usual is None else usual
    if key not in st.session_state:
        asked, known = st.query_params.get(key), {str(option): option for option in options}
        if asked is not None and asked not in known:
            warn([f"The link asks for {key} {asked!r}, which is not here. Shown is {name(first)}"])
            del st.query_params[key]
        st.session_state[key] = known.get(asked or "", first)
    elif st.session_state[key] not in options:
        st.session_state[key] = first
    if form == "buttons":
        chosen: T = st.segmented_control(label, options, required=True, format_func=name, key=key)
    else:
        chosen = st.selectbox(label, options, format_func=name, key=key)
    if chosen != first or key in st.query_params:
        st.query_params[key] = str(chosen)
    return chosen


def show(chart: Chart, alt: str, caption: str, numbers: pd.DataFrame | None = None) -> None:
    """A chart, what it estimates from how many, and the numbers drawn."""
    st.altair_chart(chart, width="stretch", theme=None, alt=alt)
    st.caption(caption)
    if numbers is not None:
        with st.expander("The numbers", icon=":material/table_rows:"):
            st.dataframe(numbers, hide_index=True)


def notes(table: pd.DataFrame) -> None:
    """Estimands, what was left out and what to know, as the evaluation wrote them."""
    with st.expander("What to know about these numbers", icon=":material/info:"):
        for about, rows in table.groupby("about", sort=False):
            st.markdown(f"**{words.sentence_case(str(about))}**")
            st.markdown("\n".join(f"* {note}" for note in rows["note"]))


def warn(texts: Sequence[str]) -> None:
    """What the reader must know before he believes the numbers above."""
    for text in texts:
        st.warning(f"{words.sentence_case(text).rstrip('.')}.", icon=":material/warning:")


@dataclass(frozen=True)
class Picture:
    """An image of the store (its path there) with what is written under it."""

    path: str
    title: str
    text: str
    note: str = ""
    highlight: bool = False


def pictures(items: Sequence[Picture], columns: int) -> None:
    """Pictures in rows of `columns`, each with title, text and note. The texts may come from anybody."""
    for start in range(0, len(items), columns):
        for place, item in zip(st.columns(columns, gap="medium"), items[start : start + columns], strict=False):
            with place:
                try:
                    st.image(current_store().read(item.path), width="stretch", alt=f"{item.title}: {item.text}")
                except FileNotFoundError:
                    st.warning("The file is missing.", icon=":material/broken_image:")
                st.html(_legend(item))


def _legend(item: Picture) -> str:
    colour = "#b5482a" if item.highlight else "#1f3a5f"
    return (
        f'<div style="line-height:1.35"><div style="font-weight:600;color:{colour}">{html.escape(item.title)}</div>'
        f'<div style="font-size:0.86rem">{html.escape(item.text)}</div>'
        f'<div style="font-size:0.8rem;opacity:0.65;margin-top:0.2rem">{html.escape(item.note)}</div></div>'
    )


def foot() -> None:
    """Which contents the page was made from, so that a screenshot can be traced."""
    used: dict[str, str] = st.session_state[USED]
    listed = " · ".join(f"{name} `{digest[:8]}`" for name, digest in sorted(used.items()))
    with st.container(key="foot"):
        st.divider()
        st.caption(f"Made from {listed or 'the records of the store'}")
