"""Changing the batch size of a model that is loaded: weights stay, what is said of the size changes.

A probe tries many sizes; loading a large model for each would take minutes. A resized model answers as one that was
loaded at that size: the size only says how many inputs each call of the network is filled up to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Resizable(Protocol):
    """A loaded model whose calls can be filled up to another number."""

    def resize(self, batch_size: int) -> None:
        """From now on, fill every call up to `batch_size` inputs."""
        ...


class ResizableStage(ABC):
    """For stages with `settings` that name the batch size, an identity that is worked out once, and one model."""

    settings: Any
    _identity: dict[str, Any] | None

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """As of every stage."""

    @abstractmethod
    def _loaded(self) -> Any:
        """The model; None before `setup`."""

    def resized(self, batch_size: int) -> Any:
        """A stage of another batch size, not set up; the files of a checkpoint are not hashed again for its keys."""
        stage: Any = self
        left_out = {f.name: f.default for f in fields(stage) if f.init and f.name.startswith("_")}
        settings = replace(self.settings, batch_size=batch_size)
        known = at_size(self.identity(), batch_size)
        return replace(stage, **{**left_out, "settings": settings, "_identity": known})

    @property
    def resizable(self) -> bool:
        """Whether the stage, once set up, can be brought to another batch size without loading it again."""
        return True

    def resize(self, batch_size: int) -> None:
        """Bring the stage, which was set up, to another batch size: results and identity are those of that size."""
        model = self._loaded()
        if model is None:
            raise RuntimeError("setup was not called")
        if not self.resizable or not isinstance(model, Resizable):
            raise TypeError(f"{type(model).__name__} is loaded for one batch size")
        model.resize(batch_size)
        self.settings = replace(self.settings, batch_size=batch_size)
        if self._identity is not None:
            self._identity = at_size(self._identity, batch_size)


def at_size(identity: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """The identity of the same model at another batch size."""
    return {**identity, "batch_size": batch_size}
