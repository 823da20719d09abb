"""Cross-validation as a stage over keyed items: one model on one fold, in whatever process has a worker.

An item says which fold, which model and what the model may use; what comes back is a file of arrays in the store. So an
evaluation that is killed goes on, another model costs its own folds only, and folds run side by side. A worker loads
the tables once and learns the design of a set of held-out prompts once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.store import Store
from beholder.taste.base import Ratings
from beholder.taste.evaluate import CrossValidation, FoldPrediction, Folds
from beholder.taste.fusion import Fusion
from beholder.taste.people import People
from beholder.taste.profiles import told_people
from beholder.taste.registry import taste_model

if TYPE_CHECKING:
    import pandas as pd

    from beholder.taste.designs import Pictures

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Allowed:
    """What a model may use; the full model has everything that is there.

    Attributes
    ----------
    others : bool
        Ratings and images of the other data sets.
    text : bool
        The embeddings of prompts.
    demographics : bool
    user : bool
        The own ratings of those who are predicted.
    profiles : bool
        The embeddings of people's texts.
    """

    others: bool = True
    text: bool = True
    demographics: bool = True
    user: bool = True
    profiles: bool = True

    def said(self) -> dict[str, bool]:
        """As an item says it: where nothing is said of profiles they may be used, so older results keep their keys."""
        return {name: value for name, value in asdict(self).items() if name != "profiles" or not value}


EVERYTHING = Allowed()


@dataclass(frozen=True)
class SetTables:
    """The tables of a data set in a store, by name, and the digest of each.

    Attributes
    ----------
    name : str
        Stands before the ids where several sets are joined; "" leaves them as they are.
    ratings, images, features, vectors : str
    users : str or None
        Where demographics are to be used.
    digests : tuple of str
        Of the tables above and of `profiles`, in this order: what they must be when a worker loads them.
    profiles : str or None
        Where embeddings of people's texts are to be used.
    """

    name: str
    ratings: str
    images: str
    features: str
    vectors: str
    users: str | None
    digests: tuple[str, ...]
    profiles: str | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, in the order of `digests`."""
        told = (name for name in (self.users, self.profiles) if name is not None)
        return (self.ratings, self.images, self.features, self.vectors, *told)


@dataclass(eq=False)
class PredictFold:
    """`{fold, model, settings, allowed, tokens}` -> a file with the predictions of one model on one fold.

    Attributes
    ----------
    sets : tuple of SetTables
        The first is tested; the others train where an item allows it.
    folds : Folds
    seed : int
    released : bool
        Keep the release's own splits, in place of folds.
    first_occasion : bool
        Train on, and test, the first rating of every person and image only.
    """

    sets: tuple[SetTables, ...]
    folds: Folds
    seed: int
    released: bool = False
    first_occasion: bool = False
    name: str = "evaluate"
    version: int = 3
    batch_size: int = 1
    _store: Store | None = field(default=None, repr=False)
    _prepared: dict[tuple[bool, bool, bool, bool], CrossValidation] = field(default_factory=dict, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Names' meaning, digests of all tables, folds and seed."""
        return {
            "sets": [[one.name, list(one.digests)] for one in self.sets],
            "folds": {**asdict(self.folds), "splits": list(self.folds.splits)},
            "seed": self.seed,
            "released": self.released,
            "first_occasion": self.first_occasion,
        }

    def setup(self, store: Store) -> None:
        """Check that the tables are those that were planned for. They are loaded at the first fold."""
        for one in self.sets:
            for table, digest in zip(one.tables, one.digests, strict=True):
                record = store.read_record(f"table-{table}")
                if record is None or record["digest"] != digest:
                    raise StoreError(f"table {table!r} was written anew since this run began", remedy="run it again")
        self._store = store

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Predict each item's fold."""
        return [self._predict(item) for item in items]

    def items(
        self, models: Sequence[str], allowed: Allowed = EVERYTHING, *, tokens: bool = False
    ) -> list[dict[str, Any]]:
        """Every fold by every model, the folds of a model in a row; fusion predictors also without their `tokens`."""
        folds = range(len(self.prepared(allowed).splits))
        each = [(name, taste_model(name)) for name in models]
        return [
            {"fold": fold, "model": name, "settings": repr(model), "allowed": allowed.said()}
            | ({"tokens": True} if tokens and isinstance(model, Fusion) else {})
            for name, model in each
            for fold in folds
        ]

    def prepared(self, allowed: Allowed = EVERYTHING) -> CrossValidation:
        """The folds as a model sees them that may use so much."""
        key = (allowed.others and len(self.sets) > 1, allowed.text, allowed.demographics, allowed.profiles)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(*key)
        return self._prepared[key]

    def _predict(self, item: Item) -> dict[str, Any]:
        if self._store is None:
            raise RuntimeError("setup was not called")
        allowed = Allowed(**item["allowed"])
        model = taste_model(item["model"])
        folded, tokens = self.prepared(allowed), bool(item.get("tokens"))
        found = folded.predict(item["fold"], [model], personal=allowed.user, tokens=tokens)
        data = pack_predictions(found)
        path = f"folds/{item['_key'][:2]}/{item['_key']}.safetensors"
        self._store.write_file(path, data)
        return {"path": path, "sha256": hashlib.sha256(data).hexdigest()}

    def _prepare(self, others: bool, text: bool, demographics: bool, profiles: bool) -> CrossValidation:
        loaded = self._loaded if others else self._loaded[:1]
        pictures = join_pictures([one.pictures for one in loaded])
        people = [one.people for one in loaded if one.people is not None]
        told = join_people(people) if len(people) == len(loaded) else None
        if told is not None and not demographics:
            told = replace(told, demographics={})
        if told is not None and not profiles:
            told = replace(told, profiles=None)
        return CrossValidation.of(
            loaded[0].ratings,
            pictures if text else replace(pictures, texts=None),
            self.folds,
            self.seed,
            told,
            others=join_ratings([one.ratings for one in loaded[1:]]) if others else None,
            release=loaded[0].table if self.released else None,
        )

    @cached_property
    def _loaded(self) -> list[_Loaded]:
        if self._store is None:
            raise RuntimeError("setup was not called")
        return [_load(self._store, one, self.first_occasion) for one in self.sets]

    def __getstate__(self) -> dict[str, Any]:
        """Settings only: a worker loads its own tables."""
        return {k: v for k, v in vars(self).items() if k != "_loaded"} | {"_store": None, "_prepared": {}}


@dataclass(frozen=True, eq=False)
class _Loaded:
    table: pd.DataFrame
    ratings: Ratings
    pictures: Pictures
    people: People | None


def _load(store: Store, one: SetTables, first_occasion: bool) -> _Loaded:
    table, images, features, vectors = (store.read_table(name) for name in one.tables[:4])
    users = None if one.users is None else store.read_table(one.users)
    texts = None if one.profiles is None else store.read_table(one.profiles)
    if first_occasion and "occasion" in table.columns:
        table = table.sort_values("occasion", kind="stable").drop_duplicates(["user_id", "image_id"]).sort_index()
    if one.name:
        # A set without prompts has each image as its own.
        table = table if "prompt_id" in table.columns else table.assign(prompt_id=table["image_id"])
        table, images, features, vectors = (named_ids(frame, one.name) for frame in (table, images, features, vectors))
        users, texts = (None if frame is None else named_ids(frame, one.name) for frame in (users, texts))
    people = told_people(users, texts, one.name)
    return _Loaded(table, Ratings.from_frame(table), pictures_from(images, features, vectors), people)


def named_ids(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The same rows with the set's name before every id."""
    ids = [c for c in ("user_id", "image_id", "prompt_id") if c in frame.columns]
    return frame.assign(**{c: name + ":" + frame[c].astype(str) for c in ids})


def pictures_from(images: pd.DataFrame, features: pd.DataFrame, vectors: pd.DataFrame) -> Pictures:
    """Features, prompts and embeddings of the prompts; without any embedding there is no text-aligned block."""
    from beholder.steering.reward import pictures_of, raw_features
    from beholder.taste.designs import Pictures

    if len(vectors):
        return pictures_of(images, features, vectors)
    raw = raw_features(features)
    prompt_of = dict(zip(images["image_id"], images["prompt_id"].astype(str), strict=True))
    return Pictures(raw, np.array([prompt_of[image] for image in raw.image_ids.tolist()], dtype=str))


def join_ratings(sets: Sequence[Ratings]) -> Ratings:
    """The ratings of several sets, whose ids differ."""
    columns = [np.concatenate([getattr(r, c) for r in sets]) for c in ("user_id", "image_id", "prompt_id", "score")]
    return Ratings(*columns)


def join_pictures(sets: Sequence[Pictures]) -> Pictures:
    """The images of several sets; embeddings of prompts only where all sets have them."""
    from beholder.taste.designs import Pictures
    from beholder.taste.features import Features

    if len(sets) == 1:
        return sets[0]
    blocks = [name for name in sets[0].features.blocks if all(name in one.features.blocks for one in sets)]
    features = Features(
        np.concatenate([one.features.image_ids for one in sets]),
        {name: np.vstack([one.features.blocks[name] for one in sets]) for name in blocks},
    )
    texts = [one.texts for one in sets if one.texts is not None]
    prompts = np.concatenate([one.prompt_ids for one in sets])
    return Pictures(features, prompts, np.vstack(texts) if len(texts) == len(sets) else None)


def join_people(sets: Sequence[People]) -> People:
    """The people of several sets; "" where one does not ask what another does, zeros where it has no profiles.

    Raises
    ------
    TableError
        For profiles of different widths: they are of different encoders.
    """
    if len(sets) == 1:
        return sets[0]
    ids = np.concatenate([one.user_ids for one in sets])
    order = np.argsort(ids)
    names = sorted({name for one in sets for name in one.demographics})
    told = {
        name: np.concatenate([one.demographics.get(name, np.full(len(one), "", dtype="<U1")) for one in sets])[order]
        for name in names
    }
    widths = sorted({one.profiles.shape[1] for one in sets if one.profiles is not None})
    if len(widths) > 1:
        raise TableError(f"profiles of {' and '.join(map(str, widths))} numbers", "one encoder for all sets")
    profiles = None
    if widths:
        empty = [np.zeros((len(one), widths[0])) if one.profiles is None else one.profiles for one in sets]
        profiles = np.vstack(empty)[order]
    return People(ids[order], told, np.concatenate([one.dataset for one in sets])[order], profiles)


def pack_predictions(found: Sequence[FoldPrediction]) -> bytes:
    """A safetensors file: arrays as they are, names and settings as JSON beside them."""
    from safetensors.numpy import save

    arrays = {f"{k}.{n}": np.ascontiguousarray(getattr(f, n)) for k, f in enumerate(found) for n in _ARRAYS}
    about = [
        {
            "model": f.model,
            "users": f.users.tolist(),
            "images": f.images.tolist(),
            "settings": f.settings,
            "aligned": None if np.isnan(f.aligned) else f.aligned,
            "inputs": list(f.inputs),
            "vector_spread": None if np.isnan(f.vector_spread) else f.vector_spread,
        }
        for f in found
    ]
    return save(arrays, {"predictions": json.dumps(about, sort_keys=True)})


_ARRAYS = ("score", "sd", "reference")


def unpack_predictions(data: bytes) -> list[FoldPrediction]:
    """What `pack_predictions` wrote, to the bit."""
    from safetensors.numpy import load

    arrays, header = load(data), json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [
        FoldPrediction(
            about["model"],
            np.array(about["users"], dtype=str),
            np.array(about["images"], dtype=str),
            arrays[f"{k}.score"],
            arrays[f"{k}.sd"],
            arrays[f"{k}.reference"],
            about["settings"],
            float("nan") if about["aligned"] is None else about["aligned"],
            tuple(about["inputs"]),
            float("nan") if about["vector_spread"] is None else about["vector_spread"],
        )
        for k, about in enumerate(json.loads(header["__metadata__"]["predictions"]))
    ]


def read_predictions(store: Store, row: Mapping[str, Any]) -> list[FoldPrediction]:
    """The predictions of a row of the stage.

    Raises
    ------
    StoreError
        If the file is gone, or not what was written.
    """
    try:
        data = store.read(row["path"])
    except FileNotFoundError as error:
        raise StoreError(f"{row['path']} is gone", remedy="remove the folder ledger/evaluate and run again") from error
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise StoreError(f"{row['path']} is not what was written", remedy="remove it and ledger/evaluate, run again")
    return unpack_predictions(data)
