"""A data set into a store: all tables checked first, compared with the sets that are there, written with records."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.tables import check_images, check_ratings, check_users, check_votes
from beholder.errors import StoreError, TableError
from beholder.readers.about import ABOUT
from beholder.readers.base import Dataset
from beholder.readers.comparisons import Comparisons
from beholder.readers.overlap import overlap
from beholder.readers.pictures import content_facts, within_reach
from beholder.records import table_digest
from beholder.store import Store

if TYPE_CHECKING:
    import pandas as pd


AT_ONCE = 8
"""Pictures that are looked at side by side."""


@dataclass(frozen=True, eq=False)
class Imported:
    """What was written.

    Attributes
    ----------
    name : str
        Of the data set; tables are called `<name>_<table>`.
    rows : mapping
        Rows of every table.
    counts : mapping
        People, images, prompts, ratings or votes, repeats.
    overlaps : mapping
        For each other set in the store that shares pictures: how many of this set's images are there too.
    same_people : mapping
        For each other set that has ids of people in common: how many. They are taken to be the same people.
    record : mapping
        As stored in `records/import-<name>.json`.
    """

    name: str
    rows: Mapping[str, int]
    counts: Mapping[str, int]
    overlaps: Mapping[str, int]
    same_people: Mapping[str, int]
    record: Mapping[str, Any]


def store_dataset(
    store: Store, reader: str, dataset: Dataset | Comparisons, provenance: Mapping[str, Any], near: int
) -> Imported:
    """Check and write all tables of a data set; an older import under the same name is replaced.

    Parameters
    ----------
    store : Store
    reader : str
        Name of the reader.
    dataset : Dataset or Comparisons
    provenance : mapping
        Where it was read from, and versions; goes into the records.
    near : int
        Bits in which the hashes of two copies of a picture may differ.

    Raises
    ------
    TableError
        If a table breaks its definition, or an image id of another set in the store is another picture here. Nothing
        has been written then.
    StoreError
        If another reader's set has that name in the store.
    """
    import pandas as pd

    before = store.read_record(f"import-{dataset.name}")
    if before is not None and before["reader"] != reader:
        raise StoreError(
            f"{dataset.name} is in {store.url} from reader {before['reader']!r}",
            remedy="use another --to, or name the folder of your set differently",
        )
    tables = _tables(store, dataset)
    shared, same_people = [], {}
    for other in _others(store, dataset.name):
        if "images" in tables and store.has_table(f"{other}_images"):
            theirs = _with_hashes(store, store.read_table(f"{other}_images"))
            _refuse_clash(dataset.name, tables["images"], other, theirs)
            shared.append(overlap(tables["images"], theirs, near).assign(other_dataset=other))
        people = _people(store, other) & set(tables["users"]["user_id"] if "users" in tables else ())
        if people:
            same_people[other] = len(people)
    if shared and any(map(len, shared)):
        tables["overlap"] = pd.concat(shared, ignore_index=True)
    if "images" in tables:
        tables["images"] = within_reach(store, tables["images"])
    overlaps = {str(s["other_dataset"].iloc[0]): int(s["image_id"].nunique()) for s in shared if len(s)}
    record = {
        "name": dataset.name,
        "reader": reader,
        "about": asdict(ABOUT[reader]),
        "scale": dict(dataset.scale) if isinstance(dataset, Dataset) else None,
        "notes": [asdict(note) for note in dataset.notes],
        "counts": _counts(tables),
        "overlaps": overlaps,
        "same_people": same_people,
        "near": near,
        "tables": {name: table_digest(frame) for name, frame in tables.items()},
        **provenance,
    }
    _write(store, dataset.name, tables, record, provenance)
    for stale in set(before["tables"] if before else ()) - set(tables):
        store.delete_table(f"{dataset.name}_{stale}")
    rows = {name: len(frame) for name, frame in tables.items()}
    return Imported(dataset.name, rows, record["counts"], overlaps, same_people, record)


def _tables(store: Store, dataset: Dataset | Comparisons) -> dict[str, pd.DataFrame]:
    """The tables that have rows, checked."""
    tables: dict[str, pd.DataFrame] = {}
    if isinstance(dataset, Dataset):
        tables["ratings"] = check_ratings(dataset.ratings)
    else:
        if len(dataset.votes):
            tables["votes"] = check_votes(dataset.votes)
        if len(dataset.preferences):
            tables["preferences"] = dataset.preferences
        if not tables:
            raise TableError(f"{dataset.name}: no pair with an answer", "at least one vote or preference")
    if len(dataset.images) and "path" in dataset.images.columns:
        tables["images"] = _with_hashes(store, check_images(dataset.images))
    elif len(dataset.images):
        tables["image_metadata"] = dataset.images
    if len(dataset.users):
        tables["users"] = check_users(dataset.users)
    tables["prompts"] = dataset.prompts
    if len(dataset.set_aside):
        tables["set_aside"] = dataset.set_aside
    return tables


def _write(
    store: Store,
    name: str,
    tables: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Tables, then their records, then the record of the import: its presence says that all of it is there."""
    for table, frame in tables.items():
        store.write_table(f"{name}_{table}", frame)
    for table, frame in tables.items():
        made = {"digest": record["tables"][table], "rows": len(frame), "reader": record["reader"], "inputs": {}}
        store.write_record(f"table-{name}_{table}", {**made, **provenance})
    store.write_record(f"import-{name}", record)


def _others(store: Store, name: str) -> list[str]:
    """Other sets with a table of images or people."""
    found = {table.rpartition("_")[0] for table in store.tables() if table.endswith(("_images", "_users"))}
    return sorted(found - {name})


def _with_hashes(store: Store, images: pd.DataFrame) -> pd.DataFrame:
    """Images with `dhash`, computed from the files where a table has none; missing where a file is gone."""
    import pandas as pd

    if "dhash" in images.columns:
        return images
    with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
        hashes = list(threads.map(partial(_hash_of, store), images["path"]))
    return images.assign(dhash=pd.Series(hashes, index=images.index, dtype="str"))


def _hash_of(store: Store, path: str) -> str | None:
    try:
        facts = content_facts(store.read(path))
    except FileNotFoundError:
        return None
    return None if facts is None else str(facts["dhash"])


def _refuse_clash(name: str, ours: pd.DataFrame, other: str, theirs: pd.DataFrame) -> None:
    if "sha256" not in theirs.columns:
        return
    both = ours[["image_id", "sha256"]].merge(theirs[["image_id", "sha256"]], on="image_id", suffixes=("", "_there"))
    clash = both[both["sha256"] != both["sha256_there"]]
    if len(clash):
        raise TableError(
            f"{len(clash)} image ids of {name} are other pictures in {other}, first {clash['image_id'].iloc[0]!r}",
            "one picture an id in a store",
            "put the set's name before its ids, or use another --to",
        )


def _people(store: Store, name: str) -> set[str]:
    return set(store.read_table(f"{name}_users")["user_id"]) if store.has_table(f"{name}_users") else set()


def _counts(tables: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """What a reader of the output wants to know first."""
    counts = {name: len(tables[name]) for name in ("ratings", "votes", "preferences") if name in tables}
    counts |= {"people": len(tables.get("users", ())), "images": len(tables.get("images", ()))}
    counts |= {"prompts": len(tables["prompts"]), "set_aside": len(tables.get("set_aside", ()))}
    if "ratings" in tables:
        counts["repeats"] = int((tables["ratings"]["occasion"] > 1).sum())
    if "votes" in tables:
        counts["repeats"] = int((tables["votes"]["kind"] == "repeat").sum())
        counts["ties"] = int((tables["votes"]["choice"] == "tie").sum())
    if "preferences" in tables:
        counts["ties"] = counts.get("ties", 0) + int(tables["preferences"]["tied"].sum())
    return counts
