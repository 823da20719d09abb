"""Names of the reward models, and models as folders: one safetensors file and one JSON file, never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import StoreError, UserError
from beholder.taste.base import FittedModel, State, TasteModel
from beholder.taste.eb_sized import SizedSlopes
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.factors import Factors, FactorTaste
from beholder.taste.fusion import LIGHT, Fusion
from beholder.taste.ideal_points import IdealPoints
from beholder.taste.linear import LinearTaste
from beholder.taste.lore import LoRe
from beholder.taste.mlp import MLP, SINGLE
from beholder.taste.models import Constant, Population, UserMean, UserRidge
from beholder.taste.neighbours import Neighbours, NeighbourTaste
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.simplex_taste import SimplexTaste
from beholder.taste.stack import Stack, StackTaste

FORMAT = 2


def known_models() -> dict[str, TasteModel]:
    """Every model that can be fitted, with its default settings, by id."""
    models: list[TasteModel] = [
        Constant(),
        UserMean(),
        Population(),
        Population(bias=True),
        UserRidge(),
        EBSlopes(),
        Factors(),
        LoRe(),
        IdealPoints(),
        Neighbours(),
        Neighbours(centred=False),
        MLP(),
        MLP(training=SINGLE),
        Stack((SizedSlopes(), Fusion(LIGHT))),
        Fusion(),
        Fusion(LIGHT),
    ]
    return {model.name: model for model in models}


def taste_model(name: str) -> TasteModel:
    """The model of this id with its default settings.

    Raises
    ------
    UserError
        For an unknown id.
    """
    known = known_models()
    if name not in known:
        raise UserError(f"reward model {name!r}", ", ".join(known))
    return known[name]


def save_state(state: State, kind: str, folder: Path) -> None:
    """Write a state as `<kind>.safetensors` and, last, `<kind>.json`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{kind}.safetensors.{os.getpid()}.tmp"
    save_file({name: np.ascontiguousarray(a) for name, a in state.arrays.items()}, temporary)
    os.replace(temporary, folder / f"{kind}.safetensors")
    text = json.dumps({"format": FORMAT, **state.settings}, indent=1, sort_keys=True, allow_nan=False)
    (folder / f"{kind}.json").write_text(text + "\n")


def load_state(kind: str, folder: Path) -> State:
    """The state that `save_state` wrote.

    Raises
    ------
    StoreError
        If files are missing or of another format.
    """
    from safetensors.numpy import load_file

    try:
        settings: Mapping[str, Any] = json.loads((folder / f"{kind}.json").read_text())
        arrays = load_file(folder / f"{kind}.safetensors")
    except FileNotFoundError as error:
        raise StoreError(f"{folder} holds no {kind}", remedy="train the model, or give its folder") from error
    if settings.get("format") != FORMAT:
        raise StoreError(f"{folder / kind}.json has format {settings.get('format')!r}", f"format {FORMAT}")
    return State(arrays, {k: v for k, v in settings.items() if k != "format"})


def save_model(model: FittedModel, folder: Path) -> None:
    """Write a fitted model to a folder."""
    save_state(model.state(), "model", folder)


def load_model(folder: Path) -> FittedModel:
    """The fitted model of a folder: the same predictions to the bit."""
    return model_from(load_state("model", folder))


def model_from(state: State) -> FittedModel:
    """The fitted model that `state` came from.

    Raises
    ------
    StoreError
        For a kind of model that this version does not know.
    """
    known = (LinearTaste, FactorTaste, SimplexTaste, NeighbourTaste, NetworkTaste, StackTaste)
    kinds: dict[str, Callable[[State], FittedModel]] = {kind.kind: kind.from_state for kind in known}
    kind = state.settings.get("kind")
    if kind not in kinds:
        raise StoreError(f"a model of kind {kind!r}", ", ".join(sorted(kinds)), "use the version that saved it")
    return kinds[kind](state)
