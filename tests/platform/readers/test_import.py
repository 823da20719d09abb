"""`beholder import`: what it shows, writes and refuses, through the real command and in the store."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from analysis.tables import check_images, check_ratings, check_users, check_votes, read_table
from beholder.cli import app
from beholder.engine.runlog import run_states
from beholder.errors import EngineError, StoreError, TableError, UserError
from beholder.readers.about import ABOUT
from beholder.readers.csv import CsvReader
from beholder.readers.flickr_aes import RATINGS, FlickrAesReader
from beholder.readers.registry import READERS, any_reader_of, reader_of
from beholder.readers.storing import Imported, store_dataset
from beholder.records import table_digest
from beholder.store import Store
from beholder.storelock import StoreLock

MAPPING = """
ratings: {file: ratings.csv, scale: {min: 0, max: 10}}
images: {folder: images, pattern: "{image_id}.png"}
"""


@pytest.fixture
def flickr(tmp_path: Path, draw) -> Path:
    """A small FLICKR-AES of three pictures."""
    folder = tmp_path / "flickr"
    for k, name in enumerate("abc"):
        draw(folder / "40K" / f"{name}.jpg", k, (90, 70))
    rows = [
        "worker, imagePair, score",
        "w1,a.jpg,1",
        "w1,b.jpg,5",
        "w2,a.jpg,2",
        "w2,a.jpg,2",
        "w2,c.jpg,4",
        "w2,d.jpg,4",
    ]
    (folder / RATINGS[0]).write_text("\n".join(rows))
    return folder


@pytest.fixture
def own(tmp_path: Path, flickr: Path, draw) -> Path:
    """A set of one's own: two pictures are smaller copies of two of FLICKR-AES, one is new."""
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    for theirs, ours in (("a", "1"), ("b", "2")):
        with Image.open(flickr / "40K" / f"{theirs}.jpg") as image:
            image.resize((60, 46)).save(folder / "images" / f"{ours}.png")
    draw(folder / "images" / "3.png", 9)
    (folder / "ratings.csv").write_text("user_id,image_id,score\nflickr_aes_w1,1,0\nme,1,10\nme,2,5\nme,3,7\n")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return folder


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "beholder.cli", "import", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shown(*arguments: str | Path) -> str:
    """What the command prints, in this process."""
    done = CliRunner().invoke(app, ["import", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def put(store: Store, reader: str, dataset) -> Imported:
    return store_dataset(store, reader, dataset, {"folder": "here", "versions": {}}, 4)


def test_the_command_shows_what_it_read_and_writes_checked_tables(flickr: Path, tmp_path: Path) -> None:
    done = run("--reader", "flickr_aes", "--data", flickr, "--to", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    for line in (
        "flickr_aes: FLICKR-AES. Licence: Creative Commons photographs; none stated for the ratings.",
        "4  ratings",
        "2  people",
        "3  images",
        "Scale 1...5 as ticks 0...1000: round((score - 1) / 4 * 1000)",
        "Ratings a person: 2 to 2, median 2; an image: mean 1.3",
        "- rows that repeat another one in every answer, dropped: 1",
        "- images left out, missing: flickr_aes_d: 1",
        "No pictures and no people in common with other sets of this store.",
    ):
        assert line in done.stdout
    tables = tmp_path / "store" / "tables"
    assert len(check_ratings(read_table(tables / "flickr_aes_ratings.parquet", "ratings"))) == 4
    assert len(check_images(read_table(tables / "flickr_aes_images.parquet", "images"))) == 3
    assert len(check_users(read_table(tables / "flickr_aes_users.parquet", "users"))) == 2
    assert read_table(tables / "flickr_aes_set_aside.parquet")["reason"].tolist() == ["image missing"]


def test_pictures_and_people_in_common_are_shown(flickr: Path, own: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    put(Store(store), "flickr_aes", FlickrAesReader().read(flickr))
    command = ("--reader", "csv", "--mapping", tmp_path / "mapping.yaml", "--data", own, "--to", store)
    text = shown(*command)
    assert "2 of these images are probably in flickr_aes too (pairs in own_overlap)" in text
    assert "1 ids of people are also in flickr_aes: they are taken to be the same people." in text
    pairs = pd.read_parquet(store / "tables" / "own_overlap.parquet")
    assert pairs[["image_id", "other_image_id", "other_dataset"]].to_numpy().tolist() == [
        ["1", "flickr_aes_a", "flickr_aes"],
        ["2", "flickr_aes_b", "flickr_aes"],
    ]
    record = json.loads(shown(*command, "--json"))
    assert record == json.loads((store / "records" / "import-own.json").read_text())
    assert record["overlaps"] == {"flickr_aes": 2}
    assert record["scale"]["raw"] == [0, 10]
    assert record["versions"]["pandas"] == pd.__version__


def test_what_cannot_be_understood_is_one_line_and_nothing_is_written(flickr: Path, tmp_path: Path) -> None:
    path = flickr / RATINGS[0]
    path.write_text(path.read_text().replace("w2,c.jpg,4", "w2,c.jpg,9"))
    done = run("--reader", "flickr_aes", "--data", flickr, "--to", tmp_path / "store")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "score off the scale in 1 of 6 rows, first row 5 (user_id=w2, file=c.jpg, score=9)" in done.stderr
    assert not (tmp_path / "store" / "tables").exists()


def test_records_hold_digests_that_jobs_check(flickr: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    done = put(store, "flickr_aes", FlickrAesReader().read(flickr))
    for name, digest in done.record["tables"].items():
        assert table_digest(store.read_table(f"flickr_aes_{name}")) == digest
        record = store.read_record(f"table-flickr_aes_{name}")
        assert record is not None
        assert record["digest"] == digest
        assert record["reader"] == "flickr_aes"


def test_a_second_import_replaces_the_first_and_leaves_nothing_of_it(flickr: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = put(store, "flickr_aes", FlickrAesReader().read(flickr))
    again = put(store, "flickr_aes", FlickrAesReader().read(flickr))
    assert first.record == again.record
    path = flickr / RATINGS[0]
    path.write_text(path.read_text().replace("w2,d.jpg,4", ""))
    put(store, "flickr_aes", FlickrAesReader().read(flickr))
    assert "set_aside" in first.rows
    assert not store.has_table("flickr_aes_set_aside")
    assert store.read_record("table-flickr_aes_set_aside") is None


def test_another_reader_may_not_take_a_name(flickr: Path, tmp_path: Path, own: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, "flickr_aes", FlickrAesReader().read(flickr))
    own.rename(tmp_path / "flickr_aes")
    dataset = CsvReader(tmp_path / "mapping.yaml").read(tmp_path / "flickr_aes")
    with pytest.raises(StoreError, match="from reader 'flickr_aes'"):
        put(store, "csv", dataset)


def test_one_id_for_two_pictures_is_refused(tmp_path: Path, own: Path, draw) -> None:
    store = Store(tmp_path / "store")
    reader = CsvReader(tmp_path / "mapping.yaml")
    put(store, "csv", reader.read(own))
    own.rename(tmp_path / "other")
    draw(tmp_path / "other" / "images" / "3.png", 10)
    with pytest.raises(TableError, match="1 image ids of other are other pictures in own, first '3'"):
        put(store, "csv", reader.read(tmp_path / "other"))
    assert not store.has_table("other_ratings")


def test_hashes_are_computed_for_tables_without_them(tmp_path: Path, flickr: Path, own: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, "flickr_aes", FlickrAesReader().read(flickr))
    images = store.read_table("flickr_aes_images").drop(columns="dhash")
    relative = [f"../flickr/40K/{Path(p).name}" for p in images["path"]]
    store.write_table("flickr_aes_images", images.assign(path=relative))
    done = put(store, "csv", CsvReader(tmp_path / "mapping.yaml").read(own))
    assert done.overlaps == {"flickr_aes": 2}


def test_comparisons_are_stored_as_votes_with_their_pictures(tmp_path: Path, draw) -> None:
    content = {uid: draw(tmp_path / "drawn" / f"{uid}.jpg", k).read_bytes() for k, uid in enumerate("ab")}
    row = {"user_id": 1, "caption": "x", "image_0_uid": "a", "image_1_uid": "b", "label_0": 0.5, "label_1": 0.5}
    (tmp_path / "data").mkdir()
    pd.DataFrame([row | {"jpg_0": content["a"], "jpg_1": content["b"]}]).to_parquet(
        tmp_path / "data" / "test-0.parquet"
    )
    text = shown("--reader", "pickapic", "--data", tmp_path / "data", "--to", tmp_path / "store")
    for line in ("1  votes", "1  people", "2  images", "1  ties"):
        assert line in text
    tables = tmp_path / "store" / "tables"
    assert check_votes(read_table(tables / "pickapic_votes.parquet", "votes"))["choice"].tolist() == ["tie"]
    paths = pd.read_parquet(tables / "pickapic_images.parquet")["path"]
    assert [Path(p).parent for p in paths] == [tmp_path / "store" / "images" / "pickapic"] * 2


def test_ratings_alone_are_imported_when_asked_for(flickr: Path, tmp_path: Path) -> None:
    for path in (flickr / "40K").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="--no-pictures for the ratings alone"):
        FlickrAesReader().read(flickr)
    text = shown("--reader", "flickr_aes", "--data", flickr, "--to", tmp_path / "store", "--no-pictures")
    assert "5  ratings" in text
    assert "images of which only the names are known: 4" in text
    tables = tmp_path / "store" / "tables"
    assert len(check_ratings(read_table(tables / "flickr_aes_ratings.parquet", "ratings"))) == 5
    assert len(pd.read_parquet(tables / "flickr_aes_image_metadata.parquet")) == 4
    assert not (tables / "flickr_aes_images.parquet").exists()
    with pytest.raises(UserError, match="'avt' without pictures"):
        any_reader_of("avt", None, tmp_path, False)


def test_every_reader_is_found_and_says_what_it_reads(tmp_path: Path) -> None:
    assert set(READERS) == set(ABOUT)
    for name in READERS:
        mapping = tmp_path / "m.yaml" if name == "csv" else None
        assert any_reader_of(name, mapping, tmp_path).name == name
        if ABOUT[name].kind == "ratings":
            assert reader_of(name, mapping).name == name
        else:
            with pytest.raises(UserError, match=f"'{name}' reads comparisons, not ratings"):
                reader_of(name)
    with pytest.raises(UserError, match="'hpdv3' with a mapping"):
        any_reader_of("hpdv3", tmp_path / "m.yaml", tmp_path)


def test_the_page_on_data_names_every_set_with_its_licence() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    for name, about in ABOUT.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert about.licence in row
        assert about.title in row


def test_readers_load_neither_pandas_nor_networks() -> None:
    check = "import sys, beholder.readers.registry, beholder.readers.storing; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "torch", "pyarrow", "PIL"} & set(loaded)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_an_import_waits_for_nobody_and_disturbs_nobody(
    kind: str, flickr: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A store that another run holds is left alone; without one the import is told among the runs."""
    to = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("bucket_url")
    command = ["import", "--reader", "flickr_aes", "--data", str(flickr), "--to", to]
    store = Store(to)
    with StoreLock(store, "draw-1", "draw", "p"):
        refused = CliRunner().invoke(app, command)
        assert isinstance(refused.exception, EngineError)
        assert "run draw-1 is at work on" in str(refused.exception)
        assert store.tables() == []
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    (state,) = run_states(store, datetime.now(UTC))
    assert (state.job, state.state, [s.label for s in state.stages]) == ("import", "done", ["Read", "Store"])


def test_an_import_into_a_bucket_is_that_into_a_folder_with_its_pictures(
    flickr: Path, tmp_path: Path, bucket_url: str
) -> None:
    folder, bucket = Store(tmp_path / "store"), Store(bucket_url)
    dataset = FlickrAesReader().read(flickr)
    for store in (folder, bucket):
        put(store, "flickr_aes", dataset)
    assert bucket.tables() == folder.tables()
    for name in folder.tables():
        if name != "flickr_aes_images":
            pd.testing.assert_frame_equal(bucket.read_table(name), folder.read_table(name))
    here, there = (store.read_table("flickr_aes_images") for store in (folder, bucket))
    pd.testing.assert_frame_equal(there.drop(columns="path"), here.drop(columns="path"))
    for local, remote, digest in zip(here["path"], there["path"], there["sha256"], strict=True):
        assert remote == f"images/{digest[:2]}/{digest}{Path(local).suffix}"
        assert bucket.read(remote) == folder.read(local) == Path(local).read_bytes()
    written = bucket.storage.stamps("images")
    put(bucket, "flickr_aes", dataset)
    assert bucket.storage.stamps("images") == written
