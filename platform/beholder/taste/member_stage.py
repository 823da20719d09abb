"""Members of ensembles as a stage over keyed items: each network is trained once, in whatever process has a worker.

What a member learns from is a file of the store named by its content, so an item is small, and the same ratings give
the same items whoever asks. A training that is killed goes on with the members that are missing, and an ensemble that
grows costs its new members only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EngineError, StoreError
from beholder.store import Store
from beholder.taste.base import TasteModel
from beholder.taste.fusion import Fusion
from beholder.taste.group import ALONE, Group
from beholder.taste.mlp import MLP
from beholder.taste.network_files import network_of
from beholder.taste.network_fit import Draw, Trainer
from beholder.taste.networks import Network, Training
from beholder.taste.stack import Stack
from beholder.taste.train_network import Member, train_one
from beholder.taste.training_set import Scaling, Told, TrainingSet, Vocabulary

Item = Mapping[str, Any]
OF_THE_ENSEMBLE = ("seeds", "folds")
"""Settings of a training that say nothing of one member: its seed and fold are told apart."""


@dataclass(eq=False)
class TrainMember:
    """`{data, network, training, seed, fold}` -> a file with one trained network.

    Attributes
    ----------
    device : str
        Where torch trains. On a GPU, each process has one for itself.
    processes : int
        So many share the batches of one network.
    """

    device: str = "cpu"
    processes: int = 1
    name: str = "train_member"
    version: int = 2
    batch_size: int = 1
    _store: Store | None = field(default=None, repr=False)
    _group: Group = field(default=ALONE, repr=False)
    _loaded: tuple[str, TrainingSet] | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Device, processes and torch's version; everything else is the item's."""
        return {"device": self.device, "processes": self.processes, "torch": metadata.version("torch")}

    def join(self, group: Group) -> None:
        """Share what is trained from now on with these processes."""
        self._group = group

    def setup(self, store: Store) -> None:
        """Nothing is loaded before the first item says what."""
        self._store = store

    def items(self, data: str, network: Network, training: Training, draws: Sequence[Draw]) -> list[dict[str, Any]]:
        """An item a member; `data` is what `write_training_set` gave."""
        settings = {name: value for name, value in training.settings().items() if name not in OF_THE_ENSEMBLE}
        about = {"kind": network.kind, **asdict(cast(Any, network))}
        shared = {"data": data, "network": about, "training": settings}
        return [{**shared, "seed": list(draw.seed), "fold": draw.fold} for draw in draws]

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Train each item's network."""
        return [self._train(item) for item in items]

    def _train(self, item: Item) -> dict[str, Any]:
        if self._store is None:
            raise RuntimeError("setup was not called")
        if self._group.size != self.processes:
            raise EngineError(
                f"{self.processes} processes for a network, and {self._group.size} here",
                remedy="leave out --in-process",
            )
        if self._loaded is None or self._loaded[0] != item["data"]:
            self._loaded = item["data"], read_training_set(self._store, item["data"])
        training, network = Training(**item["training"]), network_of(item["network"])
        member = train_one(self._loaded[1], network, training, item["seed"], item["fold"], self._group)
        data = pack_member(member)
        path = f"members/{item['_key'][:2]}/{item['_key']}.safetensors"
        if self._group.rank == 0:
            self._store.write_file(path, data)
        return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "losses": list(member.losses)}

    def __getstate__(self) -> dict[str, Any]:
        """Settings only: a worker loads its own data."""
        return {**vars(self), "_store": None, "_group": ALONE, "_loaded": None}


def trained_by(model: TasteModel, trainer: Trainer) -> TasteModel:
    """The recipe with its networks, and those of its parts, trained by `trainer`; others as they are."""
    if isinstance(model, (Fusion, MLP)):
        return replace(model, trainer=trainer)
    if isinstance(model, Stack):
        return replace(model, models=tuple(trained_by(part, trainer) for part in model.models))
    return model


def write_training_set(store: Store, data: TrainingSet) -> str:
    """Write what networks are trained on, unless it is there; returns its digest, by which it is found."""
    packed = pack_training_set(data)
    digest = hashlib.sha256(packed).hexdigest()
    if not store.exists(_data_path(digest)):
        store.write_file(_data_path(digest), packed)
    return digest


def read_training_set(store: Store, digest: str) -> TrainingSet:
    """What `write_training_set` wrote, to the bit.

    Raises
    ------
    StoreError
        If the file is gone, or not what was written.
    """
    return unpack_training_set(_read(store, _data_path(digest), digest, "run the training again"))


def read_member(store: Store, row: Mapping[str, Any]) -> Member:
    """The network of a row of the stage.

    Raises
    ------
    StoreError
        If the file is gone, or not what was written.
    """
    remedy = "remove it and the folder ledger/train_member, and run again"
    return unpack_member(_read(store, row["path"], row["sha256"], remedy))


def pack_member(member: Member) -> bytes:
    """A safetensors file of the arrays."""
    from safetensors.numpy import save

    arrays = {f"parameter.{name}": np.ascontiguousarray(a) for name, a in member.parameters.items()}
    rest: dict[str, NDArray[Any]] = {
        "held_out": member.held_out,
        "predicted": member.predicted,
        "losses": np.array(member.losses),
    }
    return save({**arrays, **rest})


def unpack_member(data: bytes) -> Member:
    """What `pack_member` wrote, to the bit."""
    from safetensors.numpy import load

    arrays = load(data)
    parameters = {n.removeprefix("parameter."): a for n, a in arrays.items() if n.startswith("parameter.")}
    return Member(parameters, arrays["held_out"], arrays["predicted"], tuple(arrays["losses"].tolist()))


_ARRAYS = ("images", "levels", "who", "which", "target", "folds")


def pack_training_set(data: TrainingSet) -> bytes:
    """A safetensors file: arrays as they are, names as JSON beside them."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {
        **{name: getattr(data, name) for name in _ARRAYS},
        **_named("told.", data.told),
        **_named("scaling.", data.scaling),
        "profile_centre": data.vocabulary.profile_centre,
    }
    about = {
        "block_sizes": list(data.block_sizes),
        "user_ids": data.user_ids.tolist(),
        "demographics": [[name, list(c)] for name, c in data.vocabulary.demographics.items()],
        "datasets": list(data.vocabulary.datasets),
    }
    return save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, {"about": json.dumps(about)})


def unpack_training_set(data: bytes) -> TrainingSet:
    """What `pack_training_set` wrote, to the bit."""
    from safetensors.numpy import load

    arrays, header = load(data), json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["about"])

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

    demographics = {name: tuple(categories) for name, categories in about["demographics"]}
    return TrainingSet(
        block_sizes=tuple(about["block_sizes"]),
        user_ids=np.array(about["user_ids"], dtype=str),
        told=Told(**part("told.")),
        vocabulary=Vocabulary(demographics, tuple(about["datasets"]), arrays["profile_centre"]),
        scaling=Scaling(**part("scaling.")),
        **{name: arrays[name] for name in _ARRAYS},
    )


def _named(prefix: str, part: Told | Scaling) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = vars(part)
    return {prefix + name: a for name, a in arrays.items()}


def _data_path(digest: str) -> str:
    return f"training_sets/{digest[:2]}/{digest}.safetensors"


def _read(store: Store, path: str, digest: str, remedy: str) -> bytes:
    try:
        data = store.read(path)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is gone", remedy=remedy) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"{path} is not what was written", remedy=remedy)
    return data
