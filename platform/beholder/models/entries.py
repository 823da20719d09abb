"""How a plan names a model: which one, where its weights lie, how it computes. Checked when the plan is read.

A model is an id of the catalogue with its settings; without `checkpoint` the catalogue's source is meant. Nothing is
fetched or loaded here.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from beholder.models.catalogue import CATALOGUE, Entry, Role
from beholder.sections import Count, Section

Options = dict[str, Any]
Positive = Annotated[float, Field(gt=0)]
_ELSEWHERE = {
    "none": "write its name alone",
    "lock": "write its name alone",
    "service": "give service, model, price and budget",
    "file": "give file",
}
"""What to write for models whose weights are no checkpoint."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


def named(model: str, role: Role | None = None) -> Entry:
    """The catalogue's entry; ValueError that lists the models of the role."""
    for entry in CATALOGUE:
        if entry.id == model and role in (None, entry.role):
            return entry
    ids = [entry.id for entry in CATALOGUE if role in (None, entry.role)]
    near = difflib.get_close_matches(model, ids, 1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {role or 'model'} {model!r}{hint}; allowed: {', '.join(ids)}")


def _of(role: Role) -> AfterValidator:
    """Holds an id to the catalogue's models of a role."""
    return AfterValidator(lambda model: named(model, role).id)


class CheckpointEntry(Section):
    """A folder, or a model of the hub at a full commit."""

    checkpoint: str
    revision: str | None = None


class NetworkEntry(Section):
    """What all models with weights have.

    `gpu_memory_gb` is what one worker takes of a card at the plan's batch size; several share a card by it. None given:
    a card each. `not_recorded` lets a model pass whose canary nobody has recorded.
    """

    model: str
    checkpoint: str | None = None
    revision: str | None = None
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16", "float16"]
    card: str | None = None
    memory_gb: Positive | None = None
    gpu_memory_gb: Positive | None = None
    offline: bool = False
    not_recorded: Literal["refuse", "allow"] = "refuse"

    @property
    def source(self) -> str:
        """Where the weights lie: the checkpoint given, else the catalogue's."""
        return self.checkpoint or named(self.model).source

    @model_validator(mode="after")
    def _has_weights(self) -> NetworkEntry:
        found = named(self.model)
        if found.weights in _ELSEWHERE:
            raise ValueError(f"{self.model} has no checkpoint: {_ELSEWHERE[found.weights]}")
        if self.checkpoint is None and (found.weights != "commit" or " " in found.source):
            where = "a folder" if found.weights == "folder" else "a folder, or owner/name of the hub with revision"
            raise ValueError(f"{self.model} needs a checkpoint: {where}")
        return self


class PipelineEntry(NetworkEntry):
    """A text-to-image pipeline of diffusers. Pictures are `generate.size` wide and high unless said otherwise."""

    model: Annotated[str, _of("generator")]
    steps: Count
    guidance: float | None = None
    width: Count | None = None
    height: Count | None = None
    variant: str | None = None
    options: Options = Field(default_factory=dict)
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    offload: Literal["no", "model", "sequential"] = "no"
    remote_code: bool = False


class HostedEntry(Section):
    """A hosted image service: what is asked, how fast, and what it may cost in the plan's currency."""

    service: Literal["gemini", "openai"]
    model: str
    price: Annotated[float, Field(ge=0)]
    budget: Annotated[float, Field(ge=0)]
    per_minute: Positive
    concurrency: Count = 4
    options: Options = Field(default_factory=dict)
    address: str | None = None
    key_variable: str | None = None
    tries: Count = 5
    timeout: Positive = 120.0


class ImageEncoderEntry(NetworkEntry):
    """A checkpoint that turns pictures into vectors; the batch size is `embed.batch_size`."""

    model: Annotated[str, _of("image encoder")]
    normalise: bool = True
    pooling: Literal["own", "cls_mean"] = "own"


class PrecomputedEntry(Section):
    """Vectors computed elsewhere, by image id."""

    file: str
    id_column: str = "image_id"


class TextEncoderEntry(NetworkEntry):
    """A checkpoint that turns texts into vectors: the text side of SigLIP 2 or CLIP, or a sentence encoder."""

    model: Annotated[str, _of("text encoder")]
    batch_size: Count = 16
    normalise: bool = True
    max_tokens: Count | None = None
    prompt: str | None = None
    pooling: str | None = None

    @property
    def is_tower(self) -> bool:
        """Whether it is the text side of an image-text model."""
        return self.model == "siglip2-text"

    @model_validator(mode="after")
    def _fits(self) -> TextEncoderEntry:
        if self.is_tower and (self.max_tokens, self.prompt, self.pooling) != (None, None, None):
            raise ValueError("max_tokens, prompt and pooling are for sentence encoders")
        return self


class ScorerEntry(NetworkEntry):
    """A scorer of the catalogue. `name` is its name in tables, the id if not given."""

    model: Annotated[str, _of("scorer")]
    name: Name | None = None
    batch_size: Count = 4
    parts: dict[str, CheckpointEntry] = Field(default_factory=dict)
    options: Options = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name or self.model

    @model_validator(mode="after")
    def _has_parts(self) -> ScorerEntry:
        from beholder.models.scorers import scorer_spec

        if (wanted := scorer_spec(self.model).parts) != tuple(sorted(self.parts)):
            found = ", ".join(sorted(self.parts)) or "none"
            raise ValueError(f"{self.model} has parts: {', '.join(wanted) or 'none'}; found {found}")
        return self


class PythonEntry(Section):
    """A scorer of one's own: a Python file with a function `score(images, prompts)`.

    `file`, and `environment` where it is a `.lock` file, are paths from where the job is started.
    """

    file: str
    name: Name | None = None
    batch_size: Count = 8
    needs_prompt: bool = False
    options: Options = Field(default_factory=dict)
    environment: str | None = None

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name or Path(self.file).stem


def _bare(alone: Sequence[str], role: Role) -> BeforeValidator:
    """Lets only models that have no settings stand as a bare name."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in alone:
            found = named(value, role)
            raise ValueError(f"{value} needs settings: {{model: {found.id}, ...}}; see docs/models.md")
        if not isinstance(value, str | dict | Section):
            raise ValueError(f"a name or a mapping, found {value!r}")
        return value

    return BeforeValidator(check)


def _kind(**by_key: str) -> Discriminator:
    """Tells sections apart by a key that only one of them has; `other` is for the rest, `bare` for names."""

    def tell(value: Any) -> str:
        if isinstance(value, str):
            return "bare"
        if isinstance(value, Section):
            return type(value).__name__
        return next((kind for key, kind in by_key.items() if key in value), by_key["other"])

    return Discriminator(tell)


GeneratorEntry = Annotated[
    Annotated[Literal["scenes"], Tag("bare")]
    | Annotated[HostedEntry, Tag("HostedEntry")]
    | Annotated[PipelineEntry, Tag("PipelineEntry")],
    _kind(service="HostedEntry", other="PipelineEntry"),
    _bare(("scenes",), "generator"),
]
EncoderEntry = Annotated[
    Annotated[Literal["efficientnet_lite0"], Tag("bare")]
    | Annotated[PrecomputedEntry, Tag("PrecomputedEntry")]
    | Annotated[ImageEncoderEntry, Tag("ImageEncoderEntry")],
    _kind(file="PrecomputedEntry", other="ImageEncoderEntry"),
    _bare(("efficientnet_lite0",), "image encoder"),
]
AnyScorer = Annotated[
    Annotated[Literal["statistics"], Tag("bare")]
    | Annotated[PythonEntry, Tag("PythonEntry")]
    | Annotated[ScorerEntry, Tag("ScorerEntry")],
    _kind(file="PythonEntry", other="ScorerEntry"),
    _bare(("statistics",), "scorer"),
]
