"""Ensembles of networks as arrays and JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from beholder.taste.base import State
from beholder.taste.embed_newcomers import Prior
from beholder.taste.network_scores import Known
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.networks import Network
from beholder.taste.training_set import Scaling, Told, Vocabulary


def state_of(model: NetworkTaste) -> State:
    """All that predictions depend on."""
    known = {name: a for name, a in vars(model.known).items() if name not in ("user_ids", "told")}
    arrays = {
        **{f"member_{m}.{name}": a for m, member in enumerate(model.members) for name, a in member.items()},
        **{f"scaling.{name}": a for name, a in vars(model.scaling).items()},
        **{f"known.{name}": a for name, a in known.items()},
        **{f"told.{name}": a for name, a in vars(model.known.told).items()},
        "prior.mean": np.stack([p.mean for p in model.priors]),
        "prior.covariance": np.stack([p.covariance for p in model.priors]),
        "prior.variance": np.array([p.variance for p in model.priors]),
        "profile_centre": model.vocabulary.profile_centre,
        "reference": model.reference,
        "sds": np.array([model.own_variance, model.noise_sd]),
    }
    about: dict[str, Any] = {
        "kind": model.kind,
        "name": model.name,
        "network": {"kind": model.network.kind, **asdict(cast(Any, model.network))},
        "members": len(model.members),
        "block_sizes": list(model.block_sizes),
        "demographics": [[name, list(c)] for name, c in model.vocabulary.demographics.items()],
        "datasets": list(model.vocabulary.datasets),
        "user_ids": model.user_ids.tolist(),
        "inputs": list(model.inputs),
        "settings": dict(model.settings),
    }
    return State(arrays, about)


def model_of(state: State) -> NetworkTaste:
    """The model that `state_of` gave."""
    s = state.settings

    def part(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in state.arrays.items() if k.startswith(prefix)}

    told = Told(**part("told."))
    priors = zip(*(state.arrays[f"prior.{name}"] for name in ("mean", "covariance", "variance")), strict=True)
    return NetworkTaste(
        s["name"],
        network_of(s["network"]),
        [part(f"member_{m}.") for m in range(s["members"])],
        tuple(s["block_sizes"]),
        Vocabulary({n: tuple(c) for n, c in s["demographics"]}, tuple(s["datasets"]), state.arrays["profile_centre"]),
        Scaling(**part("scaling.")),
        Known(user_ids=np.array(s["user_ids"], dtype=str), told=told, **part("known.")),
        [Prior(mean, covariance, float(variance)) for mean, covariance, variance in priors],
        state.arrays["reference"],
        float(state.arrays["sds"][0]),
        float(state.arrays["sds"][1]),
        tuple(s["inputs"]),
        s["settings"],
    )


def network_of(settings: Mapping[str, Any]) -> Network:
    """A network from its settings and its `kind`."""
    from beholder.taste.fusion_network import FusionNetwork
    from beholder.taste.mlp import MLPNetwork

    kinds: dict[str, Any] = {kind.kind: kind for kind in (MLPNetwork, FusionNetwork)}
    return cast(Network, kinds[settings["kind"]](**{k: v for k, v in settings.items() if k != "kind"}))
