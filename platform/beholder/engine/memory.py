"""Running out of memory: how it is recognised, and the same stage at another batch size."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from beholder.engine.stage import Stage
from beholder.errors import OutOfMemoryError

INNER = ("stage", "settings")
"""Fields in which a stage may keep its batch size: the stage it wraps, its model's settings."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that main memory or a GPU's memory ran out."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch has no class of its own for main memory.
    return type(error) is RuntimeError and "DefaultCPUAllocator: can't allocate memory" in str(error)


def release() -> None:
    """Give back what an abandoned batch held, as far as Python and torch keep it for later."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def does_not_fit(stage: Stage, doing: str, error: str) -> OutOfMemoryError:
    """The error of a stage that ran out of memory."""
    return OutOfMemoryError(
        f"stage {stage.name!r} ran out of memory {doing} at its batch size of {stage.batch_size}: {error}",
        remedy="a smaller batch_size in the plan (--probe finds it), or workers with more memory",
    )


def with_size(error: OutOfMemoryError, size: int) -> OutOfMemoryError:
    """The same error, naming the largest batch size that fits."""
    if size < 1:
        return OutOfMemoryError(error.found, "no batch fits, not even of 1 item", "workers with more memory")
    return OutOfMemoryError(error.found, f"{size} fits", f"set batch_size to {size} in the plan")


def resized(stage: Stage, batch_size: int) -> Stage | None:
    """A stage not yet set up that differs in nothing but its batch size; None if the stage cannot be changed.

    It, or what it wraps, may have a method `resized(batch_size)`. Else it must be a dataclass with a field
    `batch_size`, in itself, in its `settings`, or in the `stage` that it wraps. What it has loaded or remembers (fields
    that start with "_") is left out.
    """
    made = _made(stage, batch_size)
    if made is not None and made.batch_size != batch_size:
        raise ValueError(f"stage {stage.name!r} asked for batch size {batch_size} is at {made.batch_size}")
    return made


def _made(thing: Any, batch_size: int) -> Any:
    own = getattr(thing, "resized", None)
    return own(batch_size) if own is not None else _replaced(thing, batch_size)


def _replaced(thing: Any, batch_size: int) -> Any:
    if not is_dataclass(thing) or isinstance(thing, type):
        return None
    names = {field.name for field in fields(thing) if field.init}
    changes: dict[str, Any] = {}
    if "batch_size" in names:
        changes["batch_size"] = batch_size
    else:
        for name in INNER:
            if name in names and (inner := _made(getattr(thing, name), batch_size)) is not None:
                changes[name] = inner
                break
        else:
            return None
    for field in fields(thing):
        if field.init and field.name.startswith("_"):
            changes[field.name] = field.default_factory() if field.default_factory is not MISSING else field.default
    return replace(thing, **changes)


def longest_first(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items in the order in which they are likely to need memory: the longest text first."""
    return sorted(items, key=lambda item: -len(str(item)))
