"""A stage whose model is asked its canary at every start, before it writes a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from beholder.models.canary import SHIPPED, Probe, Verdict, check, image_encoder_probe, text_encoder_probe
from beholder.models.configured import Named, NextToken, embedded_identity
from beholder.models.interfaces import Needs
from beholder.models.resizing import Resizable
from beholder.models.rewriters.smollm import SmolLM
from beholder.models.stages import EmbedImages, EmbedTexts, GenerateScenes, RewritePrompts
from beholder.models.weights import cache_folder
from beholder.store import Store

Item = Mapping[str, Any]
_RECORDED_AT = {"size": 224, "batch_size": 8}
"""What the shipped record of the embedded image encoder was made at."""


class _Stage(Protocol):
    name: str
    version: int

    @property
    def batch_size(self) -> int: ...

    @property
    def needs(self) -> Needs: ...

    def identity(self) -> Mapping[str, Any]: ...

    def setup(self, store: Store) -> None: ...

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]: ...


@dataclass
class Checked:
    """Another stage, with its canary: same name, same keys, same results.

    A model that answers otherwise than recorded, or was never recorded, lets no worker start.

    Parameters
    ----------
    stage : stage
        One with a method `canary`, or one of the embedded models'.
    models : str
        Folder of the model cache; records lie in its `canary/`, besides those that ship.
    allow_unrecorded : bool
        Let a model pass that was never recorded; its answers must still not depend on neighbours.

    Raises
    ------
    CanaryError
        From `setup`.
    """

    stage: _Stage
    models: str
    allow_unrecorded: bool = False
    verdict: Verdict | None = field(default=None, repr=False)
    name: str = field(init=False)
    version: int = field(init=False)
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.version, self.batch_size = self.stage.name, self.stage.version, self.stage.batch_size

    @property
    def needs(self) -> Needs:
        """What the stage asks of its worker."""
        return self.stage.needs

    @property
    def resizable(self) -> bool:
        """As the stage itself; its canary was asked at the size it was loaded at."""
        return bool(getattr(self.stage, "resizable", False))

    def resize(self, batch_size: int) -> None:
        """Bring the loaded stage to another batch size."""
        if not isinstance(self.stage, Resizable):
            raise TypeError(f"stage {type(self.stage).__name__} is loaded for one batch size")
        self.stage.resize(batch_size)
        self.batch_size = batch_size

    def identity(self) -> Mapping[str, Any]:
        """The stage's identity: a canary changes no result."""
        return self.stage.identity()

    def setup(self, store: Store) -> None:
        """Load the model and ask it."""
        self.stage.setup(store)
        folders = [SHIPPED, cache_folder(self.models) / "canary"]
        self.verdict = check(probe_of(self.stage), folders, allow_unrecorded=self.allow_unrecorded)

    def process(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """What the stage gives."""
        return self.stage.process(items)


def probe_of(stage: Any) -> Probe:
    """The canary of a stage that was set up; TypeError for one that has none (services, formulas)."""
    if isinstance(stage, EmbedImages) and stage._encoder is not None:
        # The loaded network is asked as it was recorded, whatever size and batch size the plan uses it at.
        recorded = copy(stage._encoder)
        recorded.size, recorded.batch_size = _RECORDED_AT["size"], _RECORDED_AT["batch_size"]
        identity = embedded_identity("efficientnet_lite0", Path(stage.models)) | _RECORDED_AT
        return image_encoder_probe("efficientnet_lite0", Named(recorded, identity))
    if isinstance(stage, EmbedTexts | GenerateScenes) and stage._encoder is not None:
        return text_encoder_probe("minilm", Named(stage._encoder, embedded_identity("minilm", Path(stage.models))))
    if isinstance(stage, RewritePrompts) and isinstance(stage._rewriter, SmolLM):
        return text_encoder_probe(
            "smollm2", NextToken(stage._rewriter, embedded_identity("smollm2", Path(stage.models)))
        )
    if not hasattr(stage, "canary"):
        raise TypeError(f"stage {type(stage).__name__} has no canary")
    probe: Probe = stage.canary()
    return probe
