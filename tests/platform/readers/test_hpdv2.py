"""HPDv2 in both layouts: pairs with the rater, and rankings that are expanded to pairs."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.tables import check_images, check_users, check_votes
from beholder.errors import StoreError, TableError
from beholder.readers.hpdv2 import HpdV2Reader

PAIRS = [
    {"user_id": 4, "prompt": "a boat", "image_left_id": "i1", "image_right_id": "i2", "pref": 1, "ranking_id": "r1"},
    {"user_id": 4, "prompt": "a boat", "image_left_id": "i1", "image_right_id": "i2", "pref": 1, "ranking_id": "r1"},
    {"user_id": 4, "prompt": "a boat", "image_left_id": "i2", "image_right_id": "i1", "pref": 1, "ranking_id": "r2"},
    {"user_id": 5, "prompt": "a boat", "image_left_id": "i1", "image_right_id": "i3", "pref": -1, "ranking_id": "r3"},
    {"user_id": 5, "prompt": "a boat", "image_left_id": "i1", "image_right_id": "i1", "pref": -1, "ranking_id": "r4"},
]
RANKED = [
    {
        "prompt": "a mill",
        "image_path": ["00.jpg", "01.jpg", "02.jpg"],
        "rank": [1, 2, 3],
        "raw_annotations": [{"rank": [1, 2, 3], "user_hash": "u"}, {"rank": [2, 1, 1], "user_hash": "v"}],
    },
    {"prompt": "a barn", "image_path": ["03.jpg", "04.jpg"], "rank": [2, 1], "raw_annotations": []},
]
TRAIN = [{"prompt": "a road", "file_path": ["07.jpg", "08.jpg"], "human_preference": [0, 1]}]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The layout of pairs, as Parquet."""
    folder = tmp_path / "pairs"
    (folder / "data").mkdir(parents=True)
    pd.DataFrame(PAIRS).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture
def rankings(tmp_path: Path, draw) -> Path:
    """The layout of rankings; one picture is missing."""
    folder = tmp_path / "hpdv2"
    folder.mkdir()
    write(folder, "test", RANKED)
    write(folder, "train", TRAIN)
    for k in (0, 1, 2, 3, 7, 8):
        draw(folder / ("train" if k > 6 else "test") / f"{k:02d}.jpg", k)
    return folder


def write(folder: Path, split: str, rows: list[Any]) -> None:
    (folder / f"{split}.json").write_text(json.dumps(rows))


def test_pairs_become_votes_of_known_people(pairs: Path, noted, accounted) -> None:
    d = HpdV2Reader().read(pairs)
    votes = check_votes(d.votes)
    check_users(d.users)
    accounted(d, len(PAIRS))
    assert votes[["participant_id", "left_image_id", "choice", "kind", "ranking_id"]].to_numpy().tolist() == [
        ["hpdv2_4", "hpdv2_i1", "left", "main", "r1"],
        ["hpdv2_4", "hpdv2_i2", "left", "repeat", "r2"],
        ["hpdv2_5", "hpdv2_i1", "right", "main", "r3"],
    ]
    assert not votes["side_known"].any()
    assert len(d.images) == len(d.preferences) == 0
    assert noted(d, "pairs of which an image is not there, kept") == 3
    assert d.set_aside["reason"].tolist() == ["an image against itself"]


def test_rankings_become_all_their_pairs(rankings: Path, noted, accounted) -> None:
    d = HpdV2Reader().read(rankings)
    votes = check_votes(d.votes)
    check_images(d.images)
    accounted(d, 2 * 3 + 1 + 1)
    for user, ranks in (("u", [1, 2, 3]), ("v", [2, 1, 1])):
        own = votes[votes["participant_id"] == f"hpdv2_{user}"]
        found = dict(zip(zip(own["left_image_id"], own["right_image_id"], strict=True), own["choice"], strict=True))
        for a, b in combinations(range(3), 2):
            expected = "tie" if ranks[a] == ranks[b] else "left" if ranks[a] < ranks[b] else "right"
            assert found[f"hpdv2_0{a}", f"hpdv2_0{b}"] == expected
        assert len(set(own["ranking_id"])) == 1
    assert noted(d, "rankings read from test.json") == 3
    assert noted(d, "images left out, missing: hpdv2_04") == 1


def test_unnamed_choices_are_preferences_without_sides(rankings: Path) -> None:
    d = HpdV2Reader().read(rankings)
    chosen = d.preferences[["preferred_image_id", "other_image_id", "tied", "split"]].to_numpy().tolist()
    assert chosen == [["hpdv2_04", "hpdv2_03", False, "test"], ["hpdv2_08", "hpdv2_07", False, "train"]]
    assert not [c for c in d.preferences.columns if "left" in c or "right" in c]


def test_ranks_that_run_against_the_average_are_refused(rankings: Path) -> None:
    write(rankings, "test", [RANKED[0] | {"rank": [3, 2, 1], "raw_annotations": RANKED[0]["raw_annotations"][:1]}])
    with pytest.raises(TableError, match="run against the averaged rank"):
        HpdV2Reader().read(rankings)


def test_what_cannot_be_understood_is_refused(pairs: Path, rankings: Path) -> None:
    pd.DataFrame([PAIRS[0] | {"pref": 0}]).to_parquet(pairs / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(TableError, match=r"pref that is no choice in 1 of 1 rows, first row 1 \(user_id=4"):
        HpdV2Reader().read(pairs)
    write(rankings, "test", [RANKED[0] | {"image_path": ["00.jpg", "01.jpg"]}])
    with pytest.raises(TableError, match="row 1 holds 3 ranks for 2 images"):
        HpdV2Reader().read(rankings)
    write(rankings, "test", [{"text": "a mill"}])
    with pytest.raises(TableError, match=r"row 1 is \{'text': 'a mill'\}"):
        HpdV2Reader().read(rankings)
    (rankings / "test.json").unlink()
    (rankings / "train.json").unlink()
    with pytest.raises(StoreError, match=r"neither pairs nor test\.json"):
        HpdV2Reader().read(rankings)
