"""A reward: a fitted taste model together with the maps from an image's raw features to the rows it was fitted on.

A model alone knows design rows. The text-aligned projection and the map to components were learned with it, mean
nothing apart from it, and are saved with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import TableError
from beholder.records import unpack
from beholder.taste.alignment import Alignment
from beholder.taste.base import FittedModel, Prediction, Strings
from beholder.taste.designs import LearnedDesign, Pictures
from beholder.taste.features import ALIGNED, Design, FeatureMap, Features
from beholder.taste.registry import load_model, load_state, save_model, save_state

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = ("network", "statistics")
"""Columns of the `features` table: raw features as packed float32."""
EVERYBODY = ""
"""Whose rating is asked for when it is the mean person's."""


def raw_features(table: pd.DataFrame) -> Features:
    """Raw features of the images of a `features` table (`image_id`, `network`, `statistics`), in its order.

    Raises
    ------
    TableError
        If a column is missing, or an image is there twice.
    """
    missing = [name for name in ("image_id", *BLOCKS) if name not in table.columns]
    if missing:
        raise TableError(f"features without column {', '.join(missing)}", f"columns there: {list(table.columns)}")
    blocks = {name: unpack(table[name]).astype(np.float64) for name in BLOCKS}
    return Features(table["image_id"].to_numpy().astype(str), blocks)


def pictures_of(images: pd.DataFrame, features: pd.DataFrame, prompt_vectors: pd.DataFrame) -> Pictures:
    """What the three tables of a store say of its images.

    Raises
    ------
    TableError
        If an image has no row in `images`, or a prompt no vector.
    """
    raw = raw_features(features)
    prompt_of = dict(zip(images["image_id"].astype(str), images["prompt_id"].astype(str), strict=True))
    vector_of = dict(zip(prompt_vectors["prompt_id"].astype(str), unpack(prompt_vectors["vector"]), strict=True))
    strangers = [i for i in raw.image_ids.tolist() if prompt_of.get(i) not in vector_of]
    if strangers:
        raise TableError(
            f"{len(strangers)} images without a prompt, or of prompts without a vector, first {strangers[0]!r}",
            "images and features of one run",
            "run the embed job again",
        )
    prompts = np.array([prompt_of[i] for i in raw.image_ids.tolist()], dtype=str)
    return Pictures(raw, prompts, np.stack([vector_of[p] for p in prompts.tolist()]).astype(np.float64))


@dataclass(frozen=True, eq=False)
class Reward:
    """A taste model ready for any image.

    Attributes
    ----------
    model : FittedModel
    map : FeatureMap
        Raw (and aligned) features to design rows.
    alignment : Alignment or None
        The text-aligned projection, where the map asks for it.
    """

    model: FittedModel
    map: FeatureMap
    alignment: Alignment | None

    @classmethod
    def of(cls, model: FittedModel, learned: LearnedDesign) -> Reward:
        """The model with the maps of the design it was fitted on."""
        return cls(model, learned.map, learned.alignment)

    def design(self, raw: Features) -> Design:
        """Design rows of images of other prompts than those it was trained on."""
        if self.alignment is not None:
            raw = raw.with_block(ALIGNED.name, self.alignment.transform(raw))
        return self.map.transform(raw)

    def predict(self, user_ids: Sequence[str] | Strings, design: Design) -> Prediction:
        """Row i: the expected rating, in ticks, of image i of `design` by `user_ids[i]`, or by the mean person.

        A row's bits do not depend on the other rows.

        Raises
        ------
        UserError
            For a user the model does not know.
        """
        rows, users = design.matrix, np.asarray(user_ids, dtype=str)
        everybody = users == EVERYBODY
        population = self.model.predict_population(rows)
        mean, sd = population.mean.copy(), population.sd.copy()
        if not everybody.all():
            own = self.model.predict(users[~everybody], rows[~everybody])
            mean[~everybody], sd[~everybody] = own.mean, own.sd
        return Prediction(mean, sd, population.noise_sd)

    def save(self, folder: Path) -> str:
        """Write model and maps to a folder; returns `folder_digest`."""
        if self.alignment is not None:
            save_state(self.alignment.state(), "alignment", folder)
        save_state(self.map.state(), "map", folder)
        save_model(self.model, folder)
        return folder_digest(folder)

    @classmethod
    def load(cls, folder: Path) -> Reward:
        """What `save` wrote: the same predictions to the bit.

        Raises
        ------
        StoreError
            If files are missing or of another format.
        """
        feature_map = FeatureMap.from_state(load_state("map", folder))
        aligned = any(ALIGNED.name in group.sources for group in feature_map.groups)
        alignment = Alignment.from_state(load_state("alignment", folder)) if aligned else None
        return cls(load_model(folder), feature_map, alignment)


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the files of a saved reward."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
