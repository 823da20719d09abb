"""User mistakes of the platform: the same family as `analysis.errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.errors import EstimateError, TableError, UserError

__all__ = [
    "EngineError",
    "EstimateError",
    "OutOfMemoryError",
    "PlanError",
    "StoppedError",
    "StorageError",
    "StoreError",
    "TableError",
    "UserError",
    "WeightsError",
]


class PlanError(UserError):
    """A plan with an unknown key, a wrong type or an impossible value."""


class StoreError(UserError):
    """A store that cannot be read or written, or was made by another version."""


class WeightsError(UserError):
    """Model weights that are missing, or whose digest is not the expected one."""


class EngineError(UserError):
    """A run that cannot go on: too many failed items, no worker can be started."""


class StorageError(StoreError, EngineError):
    """A place that cannot be written to or does not answer: full, read-only, refused, too slow.

    It is no property of an item, so a run that meets it stops and quarantines nothing.
    """


class OutOfMemoryError(EngineError):
    """A stage does not fit into memory at its batch size: no property of an item, so the run stops."""


class StoppedError(EngineError):
    """A stage cannot go on, but has done a part of its batch, which the run keeps before it stops.

    Parameters
    ----------
    error : EngineError
        Why it cannot go on: what the user is told.
    results : sequence of mapping or None
        One an item of the batch, in order; None for those it did not do.
    """

    def __init__(self, error: EngineError, results: Sequence[Mapping[str, Any] | None]) -> None:
        self.error, self.results = error, list(results)
        super().__init__(error.found, error.allowed, error.remedy)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.error, self.results)
