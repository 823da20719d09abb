"""Votes read in codes against the same file read as a data frame and checked, and against what was written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cli import main
from analysis.coded_votes import CodedVotes, read_coded_votes
from analysis.comparisons import comparisons
from analysis.errors import TableError
from analysis.ranking import rank_conditions
from analysis.results import Provenance
from analysis.tables import check_votes, read_table

STRENGTHS = {"own": 0.3, "other": 0.0, "unoptimised": -0.2}
TEXTS = ("participant_id", "prompt_id", "left_condition", "right_condition", "choice")


@pytest.fixture(scope="module")
def votes(draw_votes: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    table = draw_votes(np.random.default_rng(3), STRENGTHS, per_person=20)
    return table.assign(
        kind=np.where(np.arange(len(table)) % 9 == 0, "repeat", "main"),
        trial_id=[f"t{k:04d}" for k in range(len(table))],
    )


def written(table: pd.DataFrame, folder: Path, **options: Any) -> Path:
    path = folder / "votes.parquet"
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, **options)
    return path


def read(path: Path) -> CodedVotes:
    coded = read_coded_votes(path)
    assert coded is not None
    return coded


def text_of(coded: CodedVotes, name: str) -> list[str]:
    column = coded.columns[name]
    return np.array(column.texts(), dtype=object)[column.codes].tolist()


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal but for the last digits of floats: the order of clusters changes the order of sums."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-13)
    else:
        assert ours == theirs


IDS = st.one_of(
    st.lists(st.text("ab\0", min_size=3, max_size=3), min_size=1, max_size=5),
    st.lists(st.text("xyzé", min_size=0, max_size=12), min_size=1, max_size=5),
    st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(people=IDS, prompts=IDS, n=st.integers(1, 40), group=st.integers(1, 50), data=st.data())
def test_text_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, people: list[str], prompts: list[str], n: int, group: int, data: Any
) -> None:
    rng = np.random.default_rng(n)
    pool = {"participant_id": people, "prompt_id": prompts, "choice": ["left", "right", "tie"]}
    pool |= {"left_condition": ["own", "other"], "right_condition": ["a", "bb", "other"]}
    table = pd.DataFrame({name: rng.choice(np.array(pool[name], dtype=object), n) for name in TEXTS})
    kind = data.draw(st.sampled_from(["string", "large_string", "dictionary"]))
    types = {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "dictionary": pa.dictionary("int32", pa.string()),
    }
    arrays = {name: pa.array(table[name].tolist(), pa.string()).cast(types[kind]) for name in TEXTS}
    path = tmp_path_factory.mktemp("coded") / "votes.parquet"
    small_pages = data.draw(st.booleans())  # the dictionary is given up in the middle of a group of rows
    options = {"dictionary_pagesize_limit": 4, "data_page_size": 8} if small_pages else {}
    pq.write_table(pa.table(arrays), path, row_group_size=group, use_dictionary=data.draw(st.booleans()), **options)
    coded = read(path)
    assert len(coded) == n
    for name in TEXTS:
        assert text_of(coded, name) == table[name].tolist()


def test_many_ids_of_every_length(tmp_path: Path, rng: np.random.Generator) -> None:
    n = 30_000
    table = pd.DataFrame(
        {
            "participant_id": [f"u{k:07d}" for k in rng.permutation(n)],
            "prompt_id": [f"page {k}" for k in rng.integers(0, n, n)],
            "left_condition": "own",
            "right_condition": "other",
            "choice": rng.choice(["left", "right", "tie"], n),
        }
    )
    coded = read(written(table, tmp_path, row_group_size=7_000))
    for name in TEXTS:
        assert text_of(coded, name) == table[name].tolist()
    assert coded.clusters("participant_id", None)[1] == n
    codes, n_prompts = coded.clusters("prompt_id", np.arange(n) % 3 == 0)
    assert (n_prompts, set(codes.tolist())) == (table["prompt_id"][::3].nunique(), set(range(n_prompts)))


@pytest.mark.parametrize("rows", [10_000, 70])
def test_same_ranking_as_from_the_data_frame(votes: pd.DataFrame, tmp_path: Path, rows: int) -> None:
    twice = votes.copy()
    twice.loc[::50, "right_condition"] = twice.loc[::50, "left_condition"]
    path = written(twice, tmp_path, row_group_size=rows)
    ours = rank_conditions(read(path), provenance=Provenance()).to_json()
    theirs = rank_conditions(read_table(path), provenance=Provenance()).to_json()
    assert {c["condition"] for c in ours["conditions"]} == set(STRENGTHS)
    assert ours["exclusions"] == theirs["exclusions"]
    assert len(ours["exclusions"]["reasons"]) == 2
    assert_same(ours, theirs)


def test_counts_by_cluster_are_those_of_a_group_by(votes: pd.DataFrame, tmp_path: Path) -> None:
    path = written(votes, tmp_path)
    data = comparisons(read(path))
    main = votes[votes["kind"] == "main"]
    assert sorted(data.tables.by_people.sum(axis=1)) == sorted(main["participant_id"].value_counts())
    assert sorted(data.tables.by_items.sum(axis=1)) == sorted(main["prompt_id"].value_counts())
    assert data.tables.n_cells == len(main[["participant_id", "prompt_id"]].drop_duplicates())
    assert data.rows.tolist() == np.flatnonzero(votes["kind"] == "main").tolist()


FAULTS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "no column choice": lambda t: t.drop(columns="choice"),
    "empty participant_id": lambda t: t.assign(participant_id=t["participant_id"].where(t.index != 4)),
    "choice not allowed": lambda t: t.assign(choice=t["choice"].where(t.index != 4, "both")),
    "kind not allowed": lambda t: t.assign(kind=t["kind"].where(t.index != 4, "probe")),
    "the same participant_id + trial_id": lambda t: t.assign(trial_id="t1"),
    "decimal numbers": lambda t: t.assign(prompt_id=np.arange(len(t)) + 0.5),
    "empty left_image_id": lambda t: t.assign(left_image_id=t["prompt_id"].where(t.index != 4)),
    "no rows": lambda t: t.iloc[:0],
}


@pytest.mark.parametrize("problem", FAULTS)
def test_faults_are_left_to_the_checks(
    votes: pd.DataFrame, tmp_path: Path, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(FAULTS[problem](votes), tmp_path)
    assert read_coded_votes(path) is None
    with pytest.raises(TableError, match="votes") as error:
        check_votes(read_table(path, "votes"))
    assert main(["ranking", str(path)]) == 2
    shown = capsys.readouterr().err
    assert problem in shown
    assert shown == f"{path}: {' '.join(str(error.value).split())}\n"


def test_other_files_and_number_ids_are_read_by_pandas(votes: pd.DataFrame, tmp_path: Path) -> None:
    assert read_coded_votes(tmp_path / "none.parquet") is None
    votes.to_csv(tmp_path / "votes.csv", index=False)
    assert read_coded_votes(tmp_path / "votes.csv") is None
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no table PAR1")
    assert read_coded_votes(tmp_path / "broken.parquet") is None
    assert read_coded_votes(written(votes.assign(participant_id=np.arange(len(votes)) % 30), tmp_path)) is None
    nobody = votes.assign(left_source_user=None, right_source_user="u001").astype({"left_source_user": "str"})
    assert read_coded_votes(written(nobody, tmp_path)) is not None


def test_the_command_needs_no_pandas_and_says_the_same(votes: pd.DataFrame, tmp_path: Path) -> None:
    path = written(votes, tmp_path)
    answers = []
    for options in ([], ["--where", "order >= 0"]):
        call = ["ranking", str(path), "--json", *options]
        code = f"import sys; from analysis.cli import main; main({call!r}); print(*sys.modules, file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        found["provenance"]["settings"].pop("where")
        answers.append(found)
        assert ("pandas" in done.stderr.split()) == bool(options)
    assert answers[0] == answers[1]
