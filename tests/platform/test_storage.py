"""A bucket does what a folder does; both are asked the same questions, the bucket through a real S3 server."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beholder.bucket import FIRST_WAIT, LONGEST_WAIT, Bucket
from beholder.errors import StorageError, StoreError
from beholder.storage import Folder, storage_of
from beholder.store import Store


@pytest.fixture
def bucket(bucket_url):
    return Bucket(bucket_url)


NAMES = st.sampled_from(["a", "b/one.json", "b/two.json", "b/c/one.json", "bc/one.json", "d e/ü+%.json"])
DATA = st.binary(max_size=20)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, DATA),
        st.tuples(st.just("create"), NAMES, DATA),
        st.tuples(st.just("read"), NAMES),
        st.tuples(st.just("exists"), NAMES),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("names"), st.sampled_from(["", "b", "b/c"]), st.sampled_from(["", "e.json", "/one.json"])),
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path):
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket_url")


def answer(storage, below, operation):
    """What an operation says about names below a folder, told without it."""
    name, where, *arguments = operation
    try:
        found = getattr(storage, name)(f"{below}/{where}".rstrip("/"), *arguments)
    except FileNotFoundError:
        return "not there"
    return [each.removeprefix(f"{below}/") for each in found] if name == "names" else found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_bucket_answers_as_a_folder_does(bucket, tmp_path, operations):
    folder, below = Folder(tmp_path), uuid.uuid4().hex
    for operation in operations:
        assert answer(bucket, below, operation) == answer(folder, below, operation), operation
    names = folder.names(below)
    assert list(bucket.read_many(names)) == list(folder.read_many(names))


def test_names_of_everything(bucket, bucket_url, tmp_path):
    whole = Bucket(bucket_url.removesuffix("/studies/one"))
    for storage in (bucket, Folder(tmp_path)):
        storage.write("b/c.json", b"")
        storage.write("a", b"")
        assert storage.names("") == ["a", "b/c.json"]
    assert whole.names("") == ["studies/one/a", "studies/one/b/c.json"]
    assert whole.read("studies/one/a") == b""


def test_what_lies_below_a_name_is_a_storage_of_its_own(root):
    whole = storage_of(root)
    place = whole.below("report")
    place.below("bundle").write("a.csv", b"1")
    place.write_many((f"{number}.csv", b"%d" % number) for number in range(70))
    assert whole.read("report/bundle/a.csv") == b"1"
    assert whole.names("report") == sorted(["report/bundle/a.csv", *(f"report/{number}.csv" for number in range(70))])
    assert place.read("69.csv") == b"69"
    assert (place.url, place.below("bundle").names("")) == (f"{root}/report", ["a.csv"])
    assert pickle.loads(pickle.dumps(place)).read("7.csv") == b"7"


def test_stamp_changes_when_a_blob_is_written_anew(root):
    storage = storage_of(root)
    for name in ("tables/a.parquet", "tables/b.parquet", "tables/c.csv", "else/a.parquet"):
        storage.write(name, b"1")
    before = storage.stamps("tables", ".parquet")
    assert list(before) == ["tables/a.parquet", "tables/b.parquet"]
    assert storage.stamps("tables", ".parquet") == before
    storage.write("tables/b.parquet", b"2")
    after = storage.stamps("tables", ".parquet")
    assert after["tables/a.parquet"] == before["tables/a.parquet"]
    assert after["tables/b.parquet"] != before["tables/b.parquet"]
    assert storage.stamps("nowhere") == {}


def test_folder_to_fill_takes_the_place_of_what_had_its_names(root):
    place = storage_of(root).below("report")
    with place.folder_to_fill() as folder:
        (folder / "bundle" / "tables").mkdir(parents=True)
        for name in ("page.html", "bundle/old.csv", "bundle/tables/a.csv"):
            (folder / name).write_text("first")
        assert place.names("") == []
    place.write("notes.txt", b"somebody's own")
    with pytest.raises(TypeError), place.folder_to_fill() as folder:
        (folder / "page.html").write_bytes(None)
    assert place.read("page.html") == b"first"
    with place.folder_to_fill() as folder:
        (folder / "bundle").mkdir()
        (folder / "bundle" / "new.csv").write_text("second")
        (folder / "page.html").write_text("second")
    assert place.names("") == ["bundle/new.csv", "notes.txt", "page.html"]
    assert [place.read(name) for name in place.names("")] == [b"second", b"somebody's own", b"second"]
    with place.folder_to_read() as folder:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: place.read(name) for name in place.names("")}


def test_full_disk_while_a_folder_is_filled_is_told_and_changes_nothing(tmp_path):
    place = Folder(tmp_path)
    place.write("model/a", b"first")
    with pytest.raises(StorageError, match="No space left on device; to do: free some space"), place.folder_to_fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), place.folder_to_fill() as folder:
        (folder / "no such file").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert place.names("") == ["model/a"]


def test_of_many_writers_exactly_one_creates(root):
    storages = [storage_of(root) for _ in range(4)]
    start = threading.Barrier(4)

    def writer(number):
        start.wait()
        return [storages[number].create(f"race/{name}", f"{number}".encode()) for name in range(15)]

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(writer, range(4)))
    for name in range(15):
        winners = [number for number in range(4) if won[number][name]]
        assert len(winners) == 1
        assert storages[0].read(f"race/{name}") == f"{winners[0]}".encode()
    assert storages[0].names("race") == sorted(f"race/{name}" for name in range(15))


def test_two_processes_make_one_store(root):
    code = "import sys; from beholder.store import Store; print(Store(sys.argv[1]).is_there())"
    both = [subprocess.Popen([sys.executable, "-c", code, root], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["True\n"] * 2
    assert Store.existing(root).storage.names("") == ["store.json"]


def test_store_holds_tables_records_images_and_files(root):
    store = Store(root)
    assert not store.has_table("votes")
    with pytest.raises(StoreError, match="tables there: none"):
        store.read_table("votes")
    frame = pd.DataFrame({"user_id": ["ü", "b"], "score": [1.5, None]})
    for name in ("votes", "ratings"):
        store.write_table(name, frame)
    store.write_record("table-votes", {"digest": "d"})
    path = store.put_image("ab" * 32, b"picture")
    again = pickle.loads(pickle.dumps(store))
    pd.testing.assert_frame_equal(again.read_table("votes"), frame)
    assert again.tables() == ["ratings", "votes"]
    assert (again.read_record("table-votes"), again.read_record("none")) == ({"digest": "d"}, None)
    assert again.records() == ["table-votes"]
    assert (path, again.read(path)) == (f"images/ab/{'ab' * 32}.png", b"picture")
    assert again.url == root
    assert again.read_records("table-") == {"table-votes": {"digest": "d"}}
    again.delete_table("votes")
    assert (again.tables(), again.records(), again.has_table("votes")) == (["ratings"], [], False)


def test_what_needs_a_folder_is_refused_in_one_line(bucket_url):
    store = Store(bucket_url)
    for ask in (lambda: store.root, lambda: store.path("report/report.html")):
        with pytest.raises(StoreError, match="which a bucket does not have; allowed: a folder") as refused:
            ask()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/x", "s3://", "s3:///prefix"])
def test_other_addresses_are_refused(url):
    with pytest.raises(StoreError, match=r"s3://BUCKET/PREFIX"):
        Store(url)


def test_bucket_that_is_not_there_is_refused(bucket_url):
    with pytest.raises(StorageError, match="there is no bucket 'test-nowhere'; to do: make it"):
        Store("s3://test-nowhere/x")
    with pytest.raises(StoreError, match="is no store"):
        Store.existing(bucket_url)


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self):
        self.now, self.slept, self.said = 0.0, [], []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def bucket(self, url, **options):
        options = {"patience": 60.0, "jitter": lambda: 0.75} | options
        return Bucket(url, say=self.said.append, clock=lambda: self.now, sleep=self.sleep, **options)


def test_throttled_requests_are_tried_again_with_growing_waits(proxy, bucket_url):
    time = Time()
    bucket = time.bucket(bucket_url)
    bucket.write("a", b"1")
    proxy.troubles.extend(["throttle"] * 8)
    assert bucket.read("a") == b"1"
    bounds = [min(FIRST_WAIT * 2**n, LONGEST_WAIT) for n in range(8)]
    assert time.slept == [0.75 * bound for bound in bounds]
    assert time.said[0] == f"{bucket_url}: it answers 503 SlowDown; trying to read a again in 0.4 s"
    assert len(time.said) == 8
    assert not any("\n" in line for line in time.said)


@pytest.mark.parametrize("trouble", ["throttle", "lose", "stall"])
def test_patience_ends_with_one_error(proxy, bucket_url, trouble):
    time = Time()
    bucket = time.bucket(bucket_url, patience=3.0, timeout=0.5)
    proxy.troubles.extend([trouble] * 50)
    with pytest.raises(StorageError, match=r"could not list runs: .*, for 3 s; to do: is the bucket reachable") as gone:
        bucket.names("runs")
    assert "\n" not in str(gone.value)
    assert 0 < sum(time.slept) <= 3
    assert len(proxy.requests) > len(time.slept)


def test_every_operation_survives_every_passing_trouble(proxy, bucket_url):
    bucket = Time().bucket(bucket_url, timeout=1.0)
    for trouble in ("throttle", "lose", "stall"):
        for operation, expected in [
            (lambda: bucket.write("w", b"1"), None),
            (lambda: bucket.create("c", b"2"), True),
            (lambda: bucket.create("c", b"3"), False),
            (lambda: bucket.read("c"), b"2"),
            (lambda: bucket.exists("c"), True),
            (lambda: bucket.exists("none"), False),
            (lambda: bucket.names(""), ["c", "w"]),
            (lambda: list(bucket.read_many(["w", "c"])), [b"1", b"2"]),
            (lambda: bucket.delete("c"), None),
        ]:
            proxy.troubles.append(trouble)
            assert operation() == expected
            assert not proxy.troubles


def test_lost_answer_of_a_creation_is_no_other_writer(proxy, bucket_url):
    """The first put arrives and its answer does not; the second is refused because of the first."""
    bucket = Time().bucket(bucket_url)
    proxy.troubles.extend(["lose"])
    assert bucket.create("shard", b"mine")
    assert [method for method, _ in proxy.requests] == ["PUT", "PUT", "HEAD"]
    proxy.troubles.extend(["throttle"])
    assert not bucket.create("shard", b"mine")


def test_server_that_ignores_conditions_is_refused(proxy, bucket_url):
    proxy.dropped.add("if-none-match")
    with pytest.raises(StorageError, match=r"ignores If-None-Match: .*; allowed: a server with conditional puts"):
        Store(bucket_url)
    assert not Bucket(bucket_url).exists("store.json")


def test_more_objects_than_a_page_of_the_list(bucket, monkeypatch):
    monkeypatch.setattr("beholder.bucket.PAGE", 2)
    names = [f"many/{number}" for number in range(5)]
    for name in names:
        bucket.write(name, name.encode())
    assert bucket.names("many") == names
    assert [data.decode() for data in bucket.read_many(names)] == names


def test_refused_user_is_told_at_once(proxy, bucket_url):
    time = Time()
    bucket = time.bucket(bucket_url)
    proxy.troubles.extend(["deny"])
    with pytest.raises(StorageError, match="may not write a: Access Denied; to do: check the AWS credentials"):
        bucket.write("a", b"1")
    assert not time.said


def test_nobody_answers(bucket_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    time = Time()
    with pytest.raises(StorageError, match="the connection failed"):
        time.bucket(bucket_url, patience=2.0).read("a")
    assert time.said
