"""Plans: the YAML that fixes a study and its analysis before there are data.

A plan is read once, at the edge, into frozen records. An unknown key, a wrong type or an impossible value is a
`PlanError` that names file, field, what was found and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from analysis.plan import AnalysisPlan
from beholder.errors import PlanError, UserError
from beholder.models.entries import (
    AnyScorer,
    EncoderEntry,
    GeneratorEntry,
    ImageEncoderEntry,
    PrecomputedEntry,
    TextEncoderEntry,
)
from beholder.records import key_of
from beholder.sections import Count, Section, Share, explain

Condition = Literal["own", "other", "population", "statistics", "unoptimised"]


class Generate(Section):
    """Images to make: `prompts` x `seeds`, and more images of other prompts that nobody rates."""

    generator: GeneratorEntry = "scenes"
    size: Annotated[int, Field(ge=64, le=1024)] = 256
    batch_size: Count = 4
    prompts: Count = 40
    seeds_per_prompt: Count = 4
    calibration_prompts: Annotated[int, Field(ge=0)] = 200
    """Prompts with one image each for the text-aligned projection, which needs no ratings."""


class Rate(Section):
    """Simulated raters with a known taste."""

    raters: Annotated[int, Field(ge=4)] = 40
    per_image: Count = 15
    repeat_share: Share = 0.1


class Embed(Section):
    """Frozen features of images and prompts. `size` is that of the embedded encoder's input."""

    encoder: EncoderEntry = "efficientnet_lite0"
    size: Annotated[int, Field(ge=64, le=512)] = 224
    batch_size: Count = 8
    text_encoder: TextEncoderEntry | None = None
    """For prompts; none: the embedded MiniLM."""

    @property
    def encoder_name(self) -> str:
        """The image encoder's id in the catalogue."""
        if isinstance(self.encoder, str):
            return self.encoder
        return "precomputed" if isinstance(self.encoder, PrecomputedEntry) else self.encoder.model


class Score(Section):
    """Scorers that every image is given to: names of the catalogue with their settings, or Python files."""

    scorers: tuple[AnyScorer, ...]

    @model_validator(mode="after")
    def _names_differ(self) -> Score:
        if not self.scorers:
            raise ValueError("scorers: name one, or leave the section out")
        names = [scorer if isinstance(scorer, str) else scorer.title for scorer in self.scorers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two scorers are called {twice[0]!r}; give one of them another name")
        return self


class Taste(Section):
    """The ladder of reward models and how it is cross-validated."""

    models: tuple[str, ...] = ("constant", "user_mean", "population", "population_bias", "user_ridge", "eb_slopes")
    prompt_folds: Annotated[int, Field(ge=2)] = 5
    user_folds: Annotated[int, Field(ge=2)] = 4
    context: Count = 15
    """Rated images an unseen user brings."""
    margins: tuple[int, int, int] = (0, 500, 25)
    """Tie margins in ticks: from, to, step."""
    demographics: bool | None = None
    """Whether models are told what `users` says of people; no if not given."""
    profiles: bool | None = None
    """Whether models are told the texts in `users.profile`, as embeddings; no if not given."""
    processes: Count | None = None
    """How many workers train each network of `train_taste` together, sharing its batches; one if not given."""


class Steer(Section):
    """Prompt search under a reward."""

    raters: Annotated[int, Field(ge=2)] = 8
    prompts: Annotated[int, Field(ge=2)] = 6
    runs: Count = 2
    rounds: Count = 2
    candidates: Count = 8
    parents: Count | None = 2
    """Prompts of a pool that are rewritten in a round; none: every search goes alone (`steering.search.Settings`)."""
    seeds: Count = 1
    heldout_seeds: Count = 2
    """Images of each result at seeds the search has not seen; the first one is shown."""
    model: str = "eb_slopes"
    """The reward model that speaks for people, one of `taste.models`."""
    caution: Annotated[float, Field(ge=0)] = 0.0
    """Posterior SDs taken off a person's expected rating."""
    rewriter: Literal["smollm2", "phrases"] = "smollm2"
    embedding: EncoderEntry | None = None
    """An image encoder that no reward reads, whose vectors say in `steered` what the images look like. None: the
    parameters of scenes; images of other generators then have no table `steered`."""


class Study(Section):
    """The blind side-by-side study."""

    conditions: tuple[Condition, ...] = ("own", "other", "population", "statistics", "unoptimised")
    trials: Count = 30
    """Main trials a participant; at least 40 % of them show own against other."""
    repeats: Annotated[int, Field(ge=0)] = 2
    """Trials a participant sees again with sides swapped (reported only)."""

    @model_validator(mode="after")
    def _own_is_compared(self) -> Study:
        if (
            "own" not in self.conditions
            or len(set(self.conditions)) != len(self.conditions)
            or len(self.conditions) < 2
        ):
            raise ValueError("conditions need 'own', at least one other, and none twice")
        return self


class Analysis(Section):
    """What is tested, fixed before the data; `analysis_plan` spells it out."""

    focal: Condition = "own"
    contrasts: tuple[str, ...] = ()
    """`own:other`, …; the first is the primary one. None given: focal against every other condition, in their order."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    permutations: Annotated[int, Field(ge=99)] = 9999
    population: str = "new-people,new-prompts"
    ties: Literal["davidson", "rao-kupper"] = "davidson"
    exclusions: dict[str, int | float] = Field(default_factory=dict)
    """Rules of `analysis.plan.ExclusionRules` for the per-protocol analysis."""


class Prices(Section):
    """What a core and a GPU cost an hour: what runs report as cost. Results do not depend on it."""

    cpu_hour: Annotated[float, Field(ge=0)] | None = None
    gpu_hour: Annotated[float, Field(ge=0)] | None = None


class Plan(Section):
    """One study from prompts to claims."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    seed: Annotated[int, Field(ge=0)] = 1
    generate: Generate = Generate()
    rate: Rate = Rate()
    embed: Embed = Embed()
    score: Score | None = None
    taste: Taste = Taste()
    steer: Steer = Steer()
    study: Study = Study()
    analysis: Analysis = Analysis()
    prices: Prices | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        if self.rate.per_image > self.rate.raters:
            raise ValueError(f"rate.per_image is {self.rate.per_image}, but rate.raters is only {self.rate.raters}")
        if self.steer.raters > self.rate.raters:
            raise ValueError(f"steer.raters is {self.steer.raters}, but rate.raters is only {self.rate.raters}")
        if self.steer.model not in self.taste.models:
            raise ValueError(f"steer.model is {self.steer.model!r}, which is not among taste.models")
        if isinstance(self.steer.embedding, PrecomputedEntry):
            raise ValueError("steer.embedding is a file, which knows no images that are drawn later: name an encoder")
        if _weights(self.steer.embedding) == _weights(self.embed.encoder):
            raise ValueError("steer.embedding is embed.encoder, which the rewards read: name another image encoder")
        if self.analysis.focal not in self.study.conditions:
            raise ValueError(f"analysis.focal {self.analysis.focal!r} is not among study.conditions")
        try:
            analysis_plan(self)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's content: names, order of keys and comments of the file do not matter."""
        return key_of(self.model_dump(mode="json"))


def _weights(encoder: EncoderEntry | None) -> object:
    """What tells encoders apart, whatever their settings."""
    return encoder.source if isinstance(encoder, ImageEncoderEntry) else encoder


def analysis_plan(plan: Plan) -> AnalysisPlan:
    """The analysis part of a study's plan as the statistics read it, with name, seed and sizes of the study.

    Raises
    ------
    UserError
        A contrast, population or rule that the statistics do not know.
    """
    section, study = plan.analysis, plan.study
    against = [name for name in study.conditions if name != section.focal]
    named = {name.strip() for pair in section.contrasts for name in pair.split(":")}
    if named - set(study.conditions):
        raise UserError(
            f"analysis.contrasts name {', '.join(sorted(named - set(study.conditions)))}", "study.conditions"
        )
    content = section.model_dump(mode="json") | {
        "title": plan.name,
        "seed": plan.seed,
        "contrasts": list(section.contrasts) or [f"{section.focal}:{name}" for name in against],
        "margins": list(plan.taste.margins),
        "size": {
            "participants": plan.steer.raters,
            "prompts": plan.steer.prompts,
            "votes": plan.steer.raters * study.trials,
        },
    }
    return AnalysisPlan.of(content, "analysis.")


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a plan and apply `section.key=value` overrides (values are YAML).

    Raises
    ------
    PlanError
        Naming file, field, what was found and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"no plan file {path}", remedy="give --plan FILE") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise PlanError(f"{path} holds {type(content).__name__}", "a mapping of sections")
    for override in overrides:
        _apply(content, override)
    try:
        return Plan.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise PlanError(f"{path}: " + "; ".join(explain(Plan, e) for e in error.errors())) from None


def _apply(content: dict[str, Any], override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise PlanError(f"--set {override!r}", "section.key=value, such as rate.raters=20")
    *sections, last = name.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise PlanError(f"--set {override!r}: {section!r} is not a section")
    place[last] = yaml.safe_load(value)
