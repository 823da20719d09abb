from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables import check_images, check_ratings
from beholder.errors import StoreError
from beholder.readers.avt import AvtReader
from beholder.readers.base import Dataset, data_root

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def everybody() -> Dataset:
    return AvtReader(participants="all").read(data_root() / "avt_ai_images")


def note(dataset: Dataset, text: str) -> int:
    (found,) = [n.rows for n in dataset.notes if text in n.what]
    return found


def test_counts_are_those_of_the_data_readme(everybody: Dataset) -> None:
    r = pd.concat([everybody.ratings, everybody.set_aside])
    assert r.groupby("study")["user_id"].nunique().to_dict() == {1: 27, 2: 28}
    assert note(everybody, "ratings read") == 3385 + 3677
    assert r["image_id"].nunique() == 146
    assert len(everybody.images) == 145
    assert int(everybody.images["photograph"].sum()) == 11
    assert len(everybody.prompts) == 27
    assert len(everybody.set_aside) == note(everybody, "avt_midjourney_p25") == 49


def test_six_doubles_are_five_copies_and_one_second_occasion(everybody: Dataset) -> None:
    assert note(everybody, "dropped") == 5
    assert note(everybody, "occasion 2") == 1
    second = everybody.ratings[everybody.ratings["occasion"] == 2]
    assert second[["user_id", "image_id"]].to_numpy().tolist() == [["avt_study1_u7", "avt_glide_p20"]]


def test_every_row_is_accounted_for(everybody: Dataset) -> None:
    for dataset in (everybody, AvtReader().read(data_root() / "avt_ai_images")):
        dropped = sum(n.rows for n in dataset.notes if "dropped" in n.what)
        assert len(dataset.ratings) + len(dataset.set_aside) + dropped == 3385 + 3677


def test_image_means_of_the_completed_are_the_published_ones() -> None:
    """The authors' own averages of study 1: correlation .99996, largest difference .07 (as the data README says)."""
    folder = data_root() / "avt_ai_images"
    dataset = AvtReader().read(folder)
    first = pd.concat([dataset.ratings, dataset.set_aside]).query("study == 1")
    assert first["user_id"].nunique() == 22
    ours = first.groupby("image_id")["score"].mean() / 250 + 1
    published = pd.read_csv(folder / "published_mos_study1.csv")
    published.index = "avt_" + published["image_key"].str.replace("/", "_")
    both = pd.concat([ours, published["appeal_mean"]], axis=1, join="inner")
    assert len(both) >= 145
    assert both.corr().iloc[0, 1] > 0.9999
    assert (both["score"] - both["appeal_mean"]).abs().max() < 0.075


def test_tables_pass_the_definition(everybody: Dataset) -> None:
    check_ratings(everybody.ratings)
    check_images(everybody.images)
    assert set(everybody.ratings["score"]) == set(everybody.scale["levels"])
    assert not set(everybody.users.query("study == 1")["user_id"]) & set(everybody.users.query("study == 2")["user_id"])


def test_another_folder_is_named(tmp_path) -> None:
    with pytest.raises(StoreError, match="no images"):
        AvtReader().read(tmp_path)


def test_the_sensitivity_selection_is_everybody() -> None:
    variants = AvtReader().variants()
    assert variants == {"all": AvtReader("all")}
    assert not variants["all"].variants()
