"""Scorers as stages over keyed items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.models.canary import Probe, scorer_probe
from beholder.models.interfaces import Needs, Scorer
from beholder.models.resizing import ResizableStage
from beholder.models.scorers import ONE_AT_A_TIME, ScorerSettings, load_scorer, scorer_identity, scorer_spec
from beholder.models.scorers.environments import PLATFORM, environment
from beholder.models.scorers.image_statistics import StatisticsScorer
from beholder.models.scorers.user_python import UserScorer
from beholder.models.stages import read_image
from beholder.models.weights import sha256_of
from beholder.store import Store

Item = Mapping[str, Any]


@dataclass
class ScoreImages(ResizableStage):
    """`{image, prompt, _path}` -> a number, higher is better. `image` names the content, `_path` says where it lies.

    Parameters
    ----------
    settings : ScorerSettings
    needs : Needs
        What a worker must have; `needs.environment` must be the scorer's.
    offline : bool
        Never ask the hub.
    """

    settings: ScorerSettings
    needs: Needs
    offline: bool = False
    name: str = "score"
    version: int = 1
    _identity: dict[str, Any] | None = field(default=None, repr=False)
    _scorer: Scorer | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        wanted = scorer_spec(self.settings.scorer).environment
        if self.needs.environment != wanted:
            raise UserError(
                f"environment {self.needs.environment!r} for scorer {self.settings.scorer}", f"{wanted!r}, its own"
            )

    @property
    def batch_size(self) -> int:
        """Pictures in every call of the network."""
        return self.settings.batch_size

    @property
    def resizable(self) -> bool:
        """Whether the scorer takes more than one picture in a call."""
        return self.settings.scorer not in ONE_AT_A_TIME

    def _loaded(self) -> Scorer | None:
        return self._scorer

    def identity(self) -> Mapping[str, Any]:
        """Checkpoints, settings, device and environment; the files of a folder are hashed once."""
        if self._identity is None:
            self._identity = scorer_identity(self.settings)
        return self._identity

    def setup(self, store: Store) -> None:
        """Fetch and load the scorer; a folder with another content than the plan's is refused.

        Raises
        ------
        EngineError
            This process does not run in the scorer's environment.
        """
        _require_environment(self.needs.environment)
        self._scorer = load_scorer(self.settings, identity=self.identity(), offline=self.offline)
        self._store = store

    def canary(self) -> Probe:
        """How to ask the loaded scorer its golden inputs; after `setup`."""
        if self._scorer is None:
            raise RuntimeError("setup was not called")
        return scorer_probe(self.settings.scorer, self._scorer, self.identity())

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One score a picture."""
        if self._scorer is None or self._store is None:
            raise RuntimeError("setup was not called")
        return _rows(self._scorer, self._store, items, self.settings.scorer)


@dataclass
class ScoreWithPython:
    """`{image, prompt, _path}` -> a number, by the function `score` of a Python file; see `scorers.user_python`.

    Parameters
    ----------
    path : str
    batch_size : int
        Pictures in one call; scores may not depend on it.
    needs_prompt : bool
    options : mapping
        Keyword arguments of the function.
    needs : Needs
        `needs.environment` names a locked environment, if the file imports what the platform does not have.
    """

    path: str
    batch_size: int
    needs_prompt: bool
    options: Mapping[str, Any]
    needs: Needs
    name: str = "score"
    version: int = 1
    _scorer: Scorer | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """The file's SHA-256, options, and the environment's lock."""
        if not Path(self.path).is_file():
            raise UserError(f"no scorer file {self.path}", remedy="check the path")
        name = self.needs.environment
        lock = None if name == PLATFORM else environment(name).digest
        return {"scorer": "user", "code": sha256_of(Path(self.path)), "options": dict(self.options), "lock": lock}

    def setup(self, store: Store) -> None:
        """Run the file, in its environment (EngineError elsewhere)."""
        _require_environment(self.needs.environment)
        self._scorer = UserScorer(Path(self.path), needs_prompt=self.needs_prompt, options=self.options)
        self._store = store

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One score a picture."""
        if self._scorer is None or self._store is None:
            raise RuntimeError("setup was not called")
        return _rows(self._scorer, self._store, items, Path(self.path).stem)


@dataclass
class ScoreStatistics:
    """`{image, _path}` -> the score of image statistics, a formula without network."""

    batch_size: int = 16
    name: str = "score"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.5))
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Terms and version; pictures are scored alone, so the batch size does not matter."""
        return StatisticsScorer().identity()

    def setup(self, store: Store) -> None:
        """Nothing to load."""
        self._store = store

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One score a picture."""
        if self._store is None:
            raise RuntimeError("setup was not called")
        return _rows(StatisticsScorer(), self._store, items, "statistics")


def _require_environment(name: str) -> None:
    if name != PLATFORM:
        environment(name).require_here()


def _rows(scorer: Scorer, store: Store, items: Sequence[Item], name: str) -> list[dict[str, Any]]:
    prompts = [item.get("prompt", "") for item in items]
    images: list[np.ndarray] = [read_image(store, item["_path"]) for item in items]
    scores = scorer.score(images, prompts)
    return [
        {"image": item["image"], "prompt": prompt, "scorer": name, "score": float(score)}
        for item, prompt, score in zip(items, prompts, scores, strict=True)
    ]
