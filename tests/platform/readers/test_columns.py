"""Raw tables, folders and picture names: every way in which releases differ, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from beholder.errors import StoreError, TableError
from beholder.readers.columns import flat, json_rows, named, plain, read_rows, ticks
from beholder.readers.folder import ReleaseFolder
from beholder.readers.release import image_split


def test_names_are_compared_without_case_spaces_and_dashes() -> None:
    assert {plain(n) for n in ("User ID", "user_id", "userId", " USER-ID", "\ufeffuser_id")} == {"userid"}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json", "jsonl"])
def test_the_same_table_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"User ID": ["007", "NA"], "score": [1.5, 2.0], "note": ["a", None]})
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        frame.assign(jpg=[b"x", b"y"]).to_parquet(path)
    elif suffix in ("json", "jsonl"):
        frame.to_json(path, orient="records", lines=suffix == "jsonl")
    else:
        frame.to_csv(path, index=True, sep="\t" if suffix == "tsv" else ",")
    found, notes = read_rows(path, ["user_id"])
    assert notes == []
    assert list(found.columns) == ["User ID", "score", "note"]  # neither row numbers nor pictures
    assert found["User ID"].tolist() == ["007", "NA"]
    assert found["score"].tolist() == [1.5, 2.0]
    assert found["note"].isna().tolist() == [False, True]


def test_whole_numbers_made_decimal_by_an_empty_cell_are_ids_again(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"user": 12}, {"user": None}]))
    found, _ = read_rows(tmp_path / "t.json", ["user"])
    assert found["user"].tolist()[0] == "12"
    assert found["user"].isna().tolist() == [False, True]
    (tmp_path / "t.json").write_text(json.dumps([{"user": 1.5}]))
    with pytest.raises(TableError, match=r"user holds 1\.5"):
        read_rows(tmp_path / "t.json", ["user"])


def test_mixed_kinds_in_one_column_become_text(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"u": 1, "x": 1}, {"u": 2, "x": "two"}, {"u": 3, "x": None}]))
    found, _ = read_rows(tmp_path / "t.json", ["u"])
    assert found["x"].tolist()[:2] == ["1", "two"]
    found.to_parquet(tmp_path / "t.parquet")


def test_nested_objects_are_flattened_and_lists_kept_as_text() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [1, "x"]}, "e": None}) == {"a.b.c": 1, "a.d": '[1, "x"]', "e": None}


def test_json_lines_with_a_single_line_are_rows(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n')
    assert json_rows(tmp_path / "t.jsonl") == [{"a": 1}]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
@pytest.mark.parametrize("escaped", [False, True])
def test_json_lines_end_at_line_feeds_alone(tmp_path: Path, name: str, escaped: bool) -> None:
    rows = [{"prompt": f"one\u2028two\x85three\x0b\x1e\r\n {n} \U0001f98a"} for n in range(3)]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=escaped) for row in rows)
    (tmp_path / name).write_text(lines, encoding="utf-8", newline="")
    assert json_rows(tmp_path / name) == rows


def test_text_cut_inside_a_character_is_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "\\ud83e\\udd8a"}\n{"prompt": "a fox \\uD83E"}\n')
    with pytest.raises(TableError, match=r"row 2 holds half of a surrogate pair"):
        read_rows(tmp_path / "t.jsonl", [])


def test_the_likeliest_name_wins_and_clashing_names_are_kept(tmp_path: Path) -> None:
    frame = pd.DataFrame({"rating": [1], "original_score": [2], "score": [3]})
    found = named(frame, {"score": ("original_score", "rating")}, ("score",), tmp_path)
    assert found.to_dict("list") == {"rating": [1], "score": [2], "score_original": [3]}


def test_equal_doubles_of_a_column_are_one_and_others_are_refused(tmp_path: Path) -> None:
    aliases = {"user_id": ("user_id",)}
    assert list(named(pd.DataFrame({"userId": [1], "user_id": [1]}), aliases, (), tmp_path)) == ["user_id"]
    with pytest.raises(TableError, match="two columns for user_id: userId, user_id"):
        named(pd.DataFrame({"userId": [1], "user_id": [2]}), aliases, (), tmp_path)


def test_ticks_are_exact_at_both_ends_and_halfway(tmp_path: Path) -> None:
    found = ticks(pd.DataFrame({"score": ["1", 3, 5.0, None]}), 1, 5, tmp_path)
    assert found["score"].tolist()[:3] == [0, 500, 1000]
    assert found["score"].isna().tolist() == [False] * 3 + [True]
    assert found["raw_score"].tolist()[:3] == [1, 3, 5]


def test_files_are_found_nearest_first_and_archives_named(tmp_path: Path) -> None:
    for place in ("deep/er", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / " Votes .csv").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "users.csv").write_text("x")
    (tmp_path / "all.zip").write_bytes(b"")
    folder = ReleaseFolder(tmp_path, "a set")
    assert folder.find("none.csv", "votes.csv") == tmp_path / " Votes .csv"
    assert folder.find("users.csv") is None
    with pytest.raises(StoreError, match=r"no users\.csv in .*unpack all\.zip"):
        folder.need("users.csv")
    with pytest.raises(StoreError, match="is no folder"):
        ReleaseFolder(tmp_path / "all.zip", "a set")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("a/x.jpg", "a/x.jpg"),
        ("./release/b/x.jpg", "b/x.jpg"),
        ("b\\x.jpg", "b/x.jpg"),
        ("y", "y.png"),
        ("12", "0012.png"),
        ("012", "0012.png"),
        ("Y.PNG", "y.png"),
        (unicodedata.normalize("NFD", "café.jpg"), "café.jpg"),
        ("cafÃ©.jpg", "café.jpg"),
        ("caf?.jpg", "café.jpg"),
        ("cafe.jpg", "café.jpg"),
        ("caffè.jpg", None),
        ("z.jpg", None),
        ("y.jpg", None),
    ],
)
def test_pictures_are_found_by_the_names_a_release_may_use(
    tmp_path: Path, draw, wanted: str, found: str | None
) -> None:
    for k, name in enumerate(("a/x.jpg", "b/x.jpg", "y.png", "café.jpg", "0012.png")):
        draw(tmp_path / name, k)
    path = ReleaseFolder(tmp_path, "a set").pictures.find(wanted)
    assert path == (None if found is None else tmp_path / found)


def test_two_pictures_that_fit_equally_well_are_refused(tmp_path: Path, draw) -> None:
    draw(tmp_path / "a" / "x.jpg", 1)
    draw(tmp_path / "b" / "x.jpg", 2)
    with pytest.raises(TableError, match=r"'x.jpg' may be any of a/x\.jpg, b/x\.jpg"):
        ReleaseFolder(tmp_path, "a set").pictures.find("x.jpg")


def test_an_image_on_two_lists_is_in_no_split() -> None:
    images = pd.Series(["p/a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    split, notes = image_split(images, {"train": frozenset({"a.jpg", "b.jpg"}), "test": frozenset({"b.jpg", "c.jpg"})})
    assert split is not None
    assert split.fillna("").tolist() == ["train", "", "test", ""]
    assert notes[0].rows == 1
    assert image_split(images, {"train": None}) == (None, [])
