"""A report's results as one flat list of values, each under a path that names section and field.

Lists of records are addressed by what identifies a record (its condition, model, pair of conditions, …) rather than by
position, so that `contrasts/contrasts[own:other]/estimate` keeps its name when the plan gains a contrast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

IDENTIFYING = (
    "focal",
    "against",
    "condition",
    "model",
    "a",
    "b",
    "level",
    "split",
    "margin",
    "first",
    "second",
    "name",
)
"""Fields that together say which record of a list this is."""

UNSTABLE = ("provenance", "versions")
"""Parts that say how a number was made and are compared apart."""


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of (path, leaf) of plain JSON; leaves are text, numbers, booleans and null. Provenance is left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in UNSTABLE:
                yield from flatten(item, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list):
        for label, item in zip(_labels(value), value, strict=True):
            yield from flatten(item, f"{path}[{label}]")
    else:
        yield path, value


def _labels(items: list[Any]) -> list[str]:
    """Names of a list's records by their identifying fields; positions where these do not tell them apart."""
    if items and all(isinstance(item, Mapping) for item in items):
        keys = [key for key in IDENTIFYING if all(isinstance(item.get(key), str | int) for item in items)]
        labels = [":".join(str(item[key]) for key in keys) for item in items]
        if keys and len(set(labels)) == len(items):
            return labels
    return [str(k) for k in range(len(items))]


def is_number(value: Any) -> bool:
    """Whether a leaf is a number (booleans are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
