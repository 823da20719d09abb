"""Tables on the way in: what is wrong is counted, shown and never dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import TableError
from analysis.tables import (
    Scale,
    check_predictions,
    check_ratings,
    check_split_disjoint,
    check_steered,
    check_table,
    check_users,
    check_votes,
    read_table,
)


def ratings() -> pd.DataFrame:
    return pd.DataFrame({"user_id": [1, 1, 2], "image_id": ["a", "b", "a"], "score": [0, 1000, 250], "note": "x"})


def votes() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "participant_id": ["p", "p", "q"],
            "prompt_id": ["1", "2", "1"],
            "left_condition": "own",
            "right_condition": "other",
            "choice": ["left", "tie", "right"],
        }
    )


def test_ids_become_text_and_extra_columns_pass() -> None:
    frame = ratings()
    checked = check_ratings(frame)
    assert checked["user_id"].tolist() == ["1", "1", "2"]
    assert checked["note"].tolist() == ["x"] * 3
    assert frame["user_id"].tolist() == [1, 1, 2]  # the caller's table is left alone


def test_whole_decimals_are_scores_and_halves_are_not() -> None:
    assert check_ratings(ratings().assign(score=[0.0, 1000.0, 250.0]))["score"].dtype == np.int64
    with pytest.raises(TableError, match=r"1 of 3 rows: row 2 \(score=0.5\); allowed: whole numbers from 0 to 1000"):
        check_ratings(ratings().assign(score=[0, 0.5, 250]))


@pytest.mark.parametrize("bad", [-1, 1001, np.nan, np.inf])
def test_scores_off_the_scale(bad: float) -> None:
    with pytest.raises(TableError, match="score off the scale in 3 of 3 rows: row 1"):
        check_ratings(ratings().assign(score=[bad] * 3))


def test_text_among_scores_is_shown() -> None:
    with pytest.raises(TableError, match=r"row 3 \(score=good\)"):
        check_ratings(ratings().assign(score=pd.Series([1, 2, "good"], dtype=object)))


def test_other_scales_are_explicit() -> None:
    frame = ratings().assign(score=[1, 7, 3])
    assert check_ratings(frame, Scale(1, 7))["score"].tolist() == [1, 7, 3]
    with pytest.raises(TableError, match="one of 1, 4, 7"):
        check_ratings(frame, Scale(1, 7, (1, 4, 7)))
    assert Scale.parse("1:7") == Scale(1, 7)
    for text in ("7:1", "1", "a:b", "1:7.5"):
        with pytest.raises(TableError):
            Scale.parse(text)


def test_only_the_first_three_rows_are_shown() -> None:
    frame = pd.DataFrame({"user_id": "u", "image_id": range(9), "score": -5})
    with pytest.raises(TableError, match=r"9 of 9 rows: row 1 \(score=-5\), row 2 \(score=-5\), row 3 \(score=-5\), …"):
        check_ratings(frame)


def test_repeated_ratings_need_an_occasion() -> None:
    frame = pd.concat([ratings(), ratings().iloc[:1]])
    with pytest.raises(TableError, match=r"2 of 4 rows: row 1 .*row 4 .*occasion"):
        check_ratings(frame)
    assert len(check_ratings(frame.assign(occasion=[1, 1, 1, 2]))) == 4


def test_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="no column score"):
        check_ratings(ratings().drop(columns="score"))


def test_unknown_choice_is_never_a_tie() -> None:
    with pytest.raises(TableError, match=r"choice not allowed in 1 of 3 rows: row 2 \(choice=both\).*left, right, tie"):
        check_votes(votes().assign(choice=["left", "both", "right"]))
    with pytest.raises(TableError, match="choice not allowed"):
        check_votes(votes().assign(choice=["left", None, "right"]))
    with pytest.raises(TableError, match=r"kind not allowed.*main, repeat, catch, practice"):
        check_votes(votes().assign(kind="test"))


def test_all_kinds_of_problems_are_counted() -> None:
    with pytest.raises(TableError, match="more problems in other columns"):
        check_votes(votes().assign(choice="x", kind="y"))


def test_empty_ids_and_decimal_ids() -> None:
    with pytest.raises(TableError, match="empty prompt_id in 1 of 3 rows"):
        check_votes(votes().assign(prompt_id=["1", None, "1"]))
    with pytest.raises(TableError, match="decimal numbers"):
        check_users(pd.DataFrame({"user_id": [1.0, 2.0]}))


def test_trial_ids_are_unique_within_a_participant() -> None:
    check_votes(votes().assign(trial_id=["1", "2", "1"]))
    with pytest.raises(TableError, match="same participant_id \\+ trial_id in 2 of 3 rows"):
        check_votes(votes().assign(trial_id=["1", "1", "1"]))


def test_categories_pass_as_they_are() -> None:
    frame = votes().astype({"participant_id": "category", "choice": "category"})
    assert check_votes(frame)["participant_id"].dtype == "category"


def test_predictions_must_be_finite_and_unique() -> None:
    frame = pd.DataFrame({"model": "m", "user_id": ["u", "v"], "image_id": "i", "score": [0.2, np.nan]})
    with pytest.raises(TableError, match="1 of 2 rows: row 2"):
        check_predictions(frame)
    with pytest.raises(TableError, match="score is no number"):
        check_predictions(frame.assign(score=["1.5", "high"]))
    with pytest.raises(TableError, match="same model"):
        check_predictions(frame.assign(score=1.0, user_id="u"))
    with pytest.raises(TableError, match="0 or more"):
        check_predictions(frame.assign(score=1.0, sd=[0.1, -0.1]))


def test_embeddings_of_one_length() -> None:
    frame = pd.DataFrame({"user_id": ["u", "v"], "prompt_id": "p", "run": 1, "embedding": ["[1, 2]", "[3, 4]"]})
    assert np.array_equal(np.stack(check_steered(frame)["embedding"]), [[1, 2], [3, 4]])
    for broken in ("[3]", "[3, null]", "nonsense"):
        with pytest.raises(TableError, match="embedding unusable in 1 of 2 rows: row 2"):
            check_steered(frame.assign(embedding=["[1, 2]", broken]))


def test_split_with_a_user_on_both_sides() -> None:
    check_split_disjoint(["a", "b"], ["c"])
    with pytest.raises(TableError, match=r"2 user_id on both sides \(a, b\)"):
        check_split_disjoint(["a", "b"], ["b", "a", "c"])


def test_csv_keeps_ids_as_written(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(
        "participant_id,prompt_id,left_condition,right_condition,choice,response_ms\n"
        "007,1,None,own,left,NA\nNA,1,own,None,tie,250\n"
    )
    checked = check_votes(read_table(tmp_path / "v.csv", "votes"))
    assert checked["participant_id"].tolist() == ["007", "NA"]
    assert checked["left_condition"].tolist() == ["None", "own"]
    assert checked["response_ms"].isna().tolist() == [True, False]


def test_parquet_and_csv_give_the_same_table(tmp_path: Path) -> None:
    frame = check_votes(votes())
    frame.to_parquet(tmp_path / "v.parquet")
    frame.to_csv(tmp_path / "v.csv", index=False)
    one, other = (check_table("votes", read_table(tmp_path / f, "votes")) for f in ("v.parquet", "v.csv"))
    pd.testing.assert_frame_equal(one.astype(str), other.astype(str))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(TableError, match="unknown kind of file"):
        read_table(tmp_path / "x.txt")
    (tmp_path / "x.parquet").write_text("not parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "x.parquet")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "empty.csv")


def test_no_rows() -> None:
    with pytest.raises(TableError, match="no rows"):
        check_ratings(ratings().iloc[:0])
