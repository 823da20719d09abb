"""Models from a plan's mapping, and their canaries: one place that knows which settings belong to which role.

role: image encoder            # generator, image encoder, text encoder, sentence encoder, scorer
name: siglip2                  # shown in tables; of a scorer, its name in the catalogue
checkpoint: google/siglip2-so400m-patch14-384
revision: 0123456789abcdef0123456789abcdef01234567
device: cuda
dtype: bfloat16
batch_size: 16
normalise: true
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.errors import UserError
from beholder.models import weights
from beholder.models.canary import Probe, generator_probe, image_encoder_probe, scorer_probe, text_encoder_probe
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing

if TYPE_CHECKING:
    from beholder.models.rewriters.smollm import SmolLM

ROLES = ("generator", "image encoder", "text encoder", "sentence encoder", "scorer")
EMBEDDED = ("efficientnet_lite0", "minilm", "smollm2")


@dataclass(frozen=True)
class Configured:
    """A model of a plan: its settings, and how to load it and make it answer its canary.

    `probe(batch_size, offline)` loads the model; None keeps the plan's batch size.
    """

    name: str
    settings: Any
    probe: Callable[[int | None, bool], Probe]


def configured(content: Mapping[str, Any]) -> Configured:
    """A model from a mapping.

    Raises
    ------
    UserError
        An unknown role or key, a key that is missing, or a value that does not fit.
    """
    given = dict(content)
    role = str(given.pop("role", ""))
    if role not in ROLES:
        raise UserError(f"role {role!r}", ", ".join(ROLES))
    if "checkpoint" not in given:
        raise UserError("a model without checkpoint", "a folder, or owner/name of the hub")
    given["checkpoint"] = Checkpoint(str(given["checkpoint"]), given.pop("revision", None))
    missing = [key for key in ("device", "dtype") if key not in given]
    if missing:
        raise UserError(f"a model without {', '.join(missing)}", "device: cpu or cuda; dtype: float32, bfloat16, ...")
    given["computing"] = Computing(given.pop("device"), given.pop("dtype"), given.pop("card", None))
    name = str(given.pop("name", given["checkpoint"].name))
    return {
        "generator": _generator,
        "image encoder": _image_encoder,
        "text encoder": _text_encoder,
        "sentence encoder": _sentence_encoder,
        "scorer": _scorer,
    }[role](name, given)


def _generator(name: str, given: Mapping[str, Any]) -> Configured:
    from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings

    settings = _filled(PipelineSettings, given)

    def probe(size: int | None, offline: bool) -> Probe:
        return generator_probe(name, DiffusersGenerator(_sized(settings, size), offline=offline))

    return Configured(name, settings, probe)


def _image_encoder(name: str, given: Mapping[str, Any]) -> Configured:
    from beholder.models.encoders.towers import ImageEncoder, TowerSettings

    settings = _filled(TowerSettings, given)

    def probe(size: int | None, offline: bool) -> Probe:
        return image_encoder_probe(name, ImageEncoder(_sized(settings, size), offline=offline))

    return Configured(name, settings, probe)


def _text_encoder(name: str, given: Mapping[str, Any]) -> Configured:
    from beholder.models.encoders.towers import TextEncoder, TowerSettings

    settings = _filled(TowerSettings, given)

    def probe(size: int | None, offline: bool) -> Probe:
        return text_encoder_probe(name, TextEncoder(_sized(settings, size), offline=offline))

    return Configured(name, settings, probe)


def _sentence_encoder(name: str, given: Mapping[str, Any]) -> Configured:
    from beholder.models.encoders.sentences import SentenceEncoder, SentenceSettings

    settings = _filled(SentenceSettings, given)

    def probe(size: int | None, offline: bool) -> Probe:
        return text_encoder_probe(name, SentenceEncoder(_sized(settings, size), offline=offline))

    return Configured(name, settings, probe)


def _scorer(name: str, given: Mapping[str, Any]) -> Configured:
    from beholder.models.scorers import ScorerSettings, load_scorer, scorer_identity, scorer_spec

    parts = {
        part: Checkpoint(str(where["checkpoint"]), where.get("revision"))
        for part, where in dict(given.get("parts", {})).items()
    }
    settings = _filled(ScorerSettings, {**given, "scorer": name, "parts": parts})
    scorer_spec(name)

    def probe(size: int | None, offline: bool) -> Probe:
        sized = _sized(settings, size)
        return scorer_probe(name, load_scorer(sized, offline=offline), scorer_identity(sized))

    return Configured(name, settings, probe)


def _filled(kind: type, given: Mapping[str, Any]) -> Any:
    """Settings of a kind; UserError for keys that it lacks or does not know."""
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(given.keys() - known.keys()):
        allowed = ", ".join(sorted(known.keys() - {"computing"} | {"device", "dtype", "card", "revision"}))
        raise UserError(f"unknown key {', '.join(unknown)}", allowed)
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in given]
    if needed:
        raise UserError(f"a model without {', '.join(needed)}", f"{kind.__name__} needs it")
    return kind(**given)


def _sized(settings: Any, size: int | None) -> Any:
    return settings if size is None else replace(settings, batch_size=size)


def embedded_identity(name: str, cache: Path | str | None = None) -> dict[str, Any]:
    """What tells an embedded model's answers apart: weights as published, versions, device. Size comes on top."""
    # The digest as published: what conversion makes of it may differ in bytes from one torch to the next.
    identity: dict[str, Any] = {"model": name, "weights": weights.manifest(name, cache)["source_sha256"]}
    identity |= {"device": "cpu", "dtype": "float32", "threads": 1, "torch": version("torch")}
    return identity if name == "efficientnet_lite0" else identity | {"transformers": version("transformers")}


def embedded_probe(name: str, cache: Path | str | None = None) -> Probe:
    """The canary of an embedded model, loaded from the cache; UserError for an unknown one."""
    if name not in EMBEDDED:
        raise UserError(f"embedded model {name!r}", ", ".join(EMBEDDED))
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder, identity = weights.folder(name, cache), embedded_identity(name, cache)
    if name == "efficientnet_lite0":
        from beholder.models.encoders.efficientnet import EfficientNetLite0

        images = EfficientNetLite0(folder, size=224, batch_size=8)
        return image_encoder_probe(name, Named(images, identity | {"size": 224, "batch_size": 8}))
    if name == "minilm":
        from beholder.models.encoders.minilm import MiniLM

        return text_encoder_probe(name, Named(MiniLM(folder), identity))
    from beholder.models.rewriters.smollm import SmolLM

    return text_encoder_probe(name, NextToken(SmolLM(folder), identity))


class Named:
    """An encoder with an identity beside it."""

    def __init__(self, encoder: Any, identity: Mapping[str, Any]) -> None:
        self._identity, self.encode = identity, encoder.encode

    def identity(self) -> Mapping[str, Any]:
        """The identity given."""
        return self._identity


class NextToken:
    """The language model of a rewriter as an encoder for its canary: scores of the next token after each text."""

    def __init__(self, rewriter: SmolLM, identity: Mapping[str, Any]) -> None:
        self._identity, self._tokenizer, self._network = identity, rewriter._tokenizer, rewriter._network

    def identity(self) -> Mapping[str, Any]:
        """The identity given."""
        return self._identity

    def encode(self, inputs: Any) -> Any:
        """The first 512 scores, each text alone: enough to tell one network from another."""
        import numpy as np
        import torch

        with torch.inference_mode():
            rows = [
                self._network(**self._tokenizer(text, return_tensors="pt")).logits[0, -1, :512].numpy()
                for text in inputs
            ]
        return np.stack(rows).astype(np.float32)
