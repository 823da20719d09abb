"""Scorers by name. Nothing heavy is imported before one is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from beholder.errors import UserError
from beholder.models.interfaces import Scorer
from beholder.models.scorers.base import ScorerSettings
from beholder.models.scorers.environments import PLATFORM, environment

__all__ = ["ONE_AT_A_TIME", "SCORERS", "ScorerSettings", "ScorerSpec", "load_scorer", "scorer_identity", "scorer_spec"]


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """Where a scorer's class is, and the environment it runs in."""

    module: str
    name: str
    environment: str
    needs_prompt: bool
    parts: tuple[str, ...] = ()
    """Further checkpoints it is made of."""


SCORERS: Mapping[str, ScorerSpec] = {
    "clip_similarity": ScorerSpec("similarity", "Similarity", PLATFORM, True),
    "siglip_similarity": ScorerSpec("similarity", "Similarity", PLATFORM, True),
    "pickscore": ScorerSpec("similarity", "PickScore", PLATFORM, True),
    "laion_aesthetic": ScorerSpec("aesthetic", "LaionAesthetic", PLATFORM, False, ("head",)),
    "qalign": ScorerSpec("levels", "QAlign", "pyiqa", False),
    "deqa": ScorerSpec("levels", "DeQA", "pyiqa", False),
    "hpsv2": ScorerSpec("hpsv2", "HPSv2", "open_clip", True),
    "hpsv3": ScorerSpec("hpsv3", "HPSv3", "hpsv3", True, ("base",)),
    "image_reward": ScorerSpec("image_reward", "ImageReward", "image_reward", True, ("tokenizer",)),
}
"""Scorers that load a checkpoint. Scorers of one's own are `user_python.UserScorer`."""
ONE_AT_A_TIME = frozenset({"hpsv3", "image_reward"})
"""Scorers whose packages look at one picture in a call: their batch size is 1."""


def scorer_spec(name: str) -> ScorerSpec:
    """The entry of a scorer; UserError for an unknown one."""
    if name not in SCORERS:
        raise UserError(f"scorer {name!r}", ", ".join(SCORERS))
    return SCORERS[name]


def scorer_identity(settings: ScorerSettings) -> dict[str, Any]:
    """Everything that can change a score but picture and prompt, without loading weights or packages.

    In the platform's own environment versions are those of this process; elsewhere the lock's digest stands for them.
    Hashes the files of folders, so keep the answer.
    """
    spec = scorer_spec(settings.scorer)
    if spec.environment == PLATFORM:
        return settings.identity({name: version(name) for name in ("torch", "transformers", "tokenizers", "pillow")})
    return settings.identity({"lock": environment(spec.environment).digest})


def load_scorer(
    settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
) -> Scorer:
    """A scorer ready for use; to be called in its own environment.

    Raises
    ------
    UserError
        An unknown scorer, or settings that do not fit it.
    WeightsError
        A checkpoint that is missing, not allowed, without safetensors, or not the plan's.
    """
    spec = scorer_spec(settings.scorer)
    module = importlib.import_module(f"beholder.models.scorers.{spec.module}")
    scorer: Scorer = getattr(module, spec.name)(settings, identity=identity, offline=offline)
    return scorer
