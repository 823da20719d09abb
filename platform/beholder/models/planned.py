"""From a plan's entries to stages: each model with its canary, its needs, and a name of its own in the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from beholder.models.catalogue import entry as catalogued
from beholder.models.checked_stage import Checked
from beholder.models.configured import configured
from beholder.models.entries import (
    HostedEntry,
    ImageEncoderEntry,
    NetworkEntry,
    PipelineEntry,
    PrecomputedEntry,
    PythonEntry,
    ScorerEntry,
    TextEncoderEntry,
)
from beholder.models.interfaces import Needs
from beholder.models.scorers import scorer_spec
from beholder.models.scorers.environments import PLATFORM, environment
from beholder.models.stages import EmbedImages, EmbedTexts, GenerateScenes, RewritePrompts

if TYPE_CHECKING:
    from beholder.engine.stage import Stage

HEADROOM_GB = 1.0
"""Main memory beside the weights, for a model whose plan names none: torch itself, and a batch."""

_OF_PLANS = {"model", "name", "memory_gb", "gpu_memory_gb", "offline", "not_recorded"}
"""Keys of an entry that are no settings of the model itself."""


def generator_stage(entry: Literal["scenes"] | PipelineEntry, size: int, batch_size: int, models: str) -> Stage:
    """`{prompt, seed}` -> a picture. `size` is the side where a pipeline's entry names none."""
    if entry == "scenes":
        return Checked(GenerateScenes(size, batch_size, models), models)
    from beholder.models.diffusers_stage import GenerateDiffusers

    settings = configured(generator_settings(entry, size, batch_size)).settings
    return _checked(GenerateDiffusers(settings, _needs(entry), entry.offline), entry, models)


def hosted_stage(entry: HostedEntry, spent: float) -> Stage:
    """`{prompt, seed}` -> a picture of a service; `spent` is what the ledger's rows of this model have cost."""
    from beholder.models.generators.hosted import HostedSettings
    from beholder.models.hosted_stage import GenerateHosted

    return GenerateHosted(HostedSettings(**entry.model_dump(exclude={"budget"})), entry.budget, spent)


def image_encoder_stage(
    entry: Literal["efficientnet_lite0"] | ImageEncoderEntry | PrecomputedEntry, size: int, batch_size: int, models: str
) -> Stage:
    """`{image, _path}` -> a vector (`network` of the embedded encoder, else `vector`) and `statistics`."""
    if entry == "efficientnet_lite0":
        return Checked(EmbedImages(size, batch_size, models), models)
    from beholder.models.encode_stages import EncodeImages, ReadVectors

    if isinstance(entry, PrecomputedEntry):
        return ReadVectors(str(Path(entry.file).absolute()), batch_size, entry.id_column)
    settings = configured(image_encoder_settings(entry, batch_size)).settings
    return _checked(EncodeImages(settings, _needs(entry), entry.offline), entry, models)


def text_encoder_stage(entry: TextEncoderEntry | None, models: str) -> Stage:
    """`{text}` -> `vector`; the embedded MiniLM where the plan names no other."""
    if entry is None:
        return Checked(EmbedTexts(models), models)
    from beholder.models.encode_stages import EncodeTexts

    settings = configured(text_encoder_settings(entry)).settings
    return _checked(EncodeTexts(settings, _needs(entry), entry.offline), entry, models)


def rewriter_stage(rewriter: Literal["smollm2", "phrases"], models: str) -> Stage:
    """`{prompt, base, n, seed}` -> `prompts`; phrases are put together without a network."""
    stage = RewritePrompts(rewriter, models)
    return stage if rewriter == "phrases" else Checked(stage, models)


def scorer_stage(entry: Literal["statistics"] | ScorerEntry | PythonEntry, models: str) -> Stage:
    """`{image, _path}`, with `prompt` where the scorer needs one -> `score`."""
    from beholder.models.score_stages import ScoreImages, ScoreStatistics, ScoreWithPython

    name = f"score_{scorer_name(entry)}"
    if entry == "statistics":
        return ScoreStatistics(name=name)
    if isinstance(entry, PythonEntry):
        needs = in_environment(Needs(memory_gb=1.0, environment=entry.environment or PLATFORM), models)
        file = str(Path(entry.file).absolute())
        return ScoreWithPython(file, entry.batch_size, entry.needs_prompt, entry.options, needs, name=name)
    settings = configured(scorer_settings(entry)).settings
    needs = in_environment(_needs(entry, scorer_spec(entry.model).environment), models)
    return _checked(ScoreImages(settings, needs, entry.offline, name=name), entry, models)


def generator_settings(entry: PipelineEntry, size: int, batch_size: int) -> dict[str, Any]:
    """A pipeline as `configured` reads it."""
    sides = {"width": entry.width or size, "height": entry.height or size}
    return _settings(entry, "generator") | sides | {"batch_size": batch_size, "guidance": entry.guidance}


def image_encoder_settings(entry: ImageEncoderEntry, batch_size: int) -> dict[str, Any]:
    """An image encoder as `configured` reads it."""
    return _settings(entry, "image encoder") | {"batch_size": batch_size}


def text_encoder_settings(entry: TextEncoderEntry) -> dict[str, Any]:
    """A text encoder as `configured` reads it."""
    if entry.is_tower:
        return _settings(entry, "text encoder")
    found = _settings(entry, "sentence encoder")
    return {name: value for name, value in found.items() if name != "normalise"}


def scorer_settings(entry: ScorerEntry) -> dict[str, Any]:
    """A scorer as `configured` reads it: there its name is its id."""
    return _settings(entry, "scorer") | {"name": entry.model}


def _settings(entry: NetworkEntry, role: str) -> dict[str, Any]:
    return entry.model_dump(exclude=_OF_PLANS) | {"role": role, "checkpoint": entry.source}


def scorer_name(entry: Literal["statistics"] | ScorerEntry | PythonEntry) -> str:
    """The scorer's name in tables."""
    return entry if isinstance(entry, str) else entry.title


def reads_prompts(entry: Literal["statistics"] | ScorerEntry | PythonEntry) -> bool:
    """Whether the score depends on the prompt."""
    if isinstance(entry, str):
        return False
    return entry.needs_prompt if isinstance(entry, PythonEntry) else scorer_spec(entry.model).needs_prompt


def in_environment(needs: Needs, models: str) -> Needs:
    """The same needs, with the Python of their environment in this model cache."""
    if needs.environment == PLATFORM:
        return needs
    return replace(needs, python=str(environment(needs.environment).python(Path(models))))


def _needs(entry: NetworkEntry, environment: str = PLATFORM) -> Needs:
    memory = entry.memory_gb or catalogued(entry.model).memory_gb + HEADROOM_GB
    return Needs(memory_gb=memory, gpu_memory_gb=entry.gpu_memory_gb or 0.0, environment=environment)


def _checked(stage: Any, entry: NetworkEntry, models: str) -> Checked:
    return Checked(stage, models, allow_unrecorded=entry.not_recorded == "allow")
