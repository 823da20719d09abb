"""User mistakes of the platform: the same family as `analysis.errors`."""

from __future__ import annotations

from analysis.errors import EstimateError, TableError, UserError

__all__ = [
    "EngineError",
    "EstimateError",
    "OutOfMemoryError",
    "PlanError",
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
