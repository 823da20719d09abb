"""What the parts of a plan have in common: frozen records, and mistakes told in one line.

A field that is None by default and was not given says nothing. It is left out of a section's content, so a plan keeps
its hash when the platform learns a new option.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen part of a plan; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _content(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        silent = {n for n, f in type(self).model_fields.items() if f.default is None and getattr(self, n) is None}
        return {name: value for name, value in content.items() if name not in silent}


def explain(plan: type[Section], error: Any) -> str:
    """One sentence for a pydantic error: field, found, allowed."""
    shown, kinds = _place(plan, error["loc"])
    field = ".".join(shown) or "plan"
    if error["type"] == "extra_forbidden":
        _, kinds = _place(plan, error["loc"][:-1])
        names = sorted({name for kind in kinds for name in kind.model_fields})
        near = difflib.get_close_matches(shown[-1], names, 1)
        return (
            f"unknown key {field!r}"
            + (f", did you mean {near[0]!r}?" if near else "")
            + f"; allowed: {', '.join(names)}"
        )
    if error["type"] == "missing":
        return f"{field} is missing"
    message = error["msg"].removeprefix("Value error, ")
    found = "" if error["type"] == "value_error" else f", found {error['input']!r}"
    return f"{field}: {message[0].lower() + message[1:]}{found}"


def _place(plan: type[Section], location: Sequence[str | int]) -> tuple[list[str], list[type[Section]]]:
    """A pydantic location as the user wrote it, and the sections that may stand there.

    Where a field may hold one of several sections, pydantic puts the class's name between the keys.
    """
    shown: list[str] = []
    kinds = [plan]
    for part in location:
        named = [kind for kind in kinds if kind.__name__ == part]
        if named:
            kinds = named
            continue
        shown.append(str(part))
        if any(part in kind.model_fields for kind in kinds):  # else a place in a list, or a name in a mapping
            fields = [kind.model_fields[str(part)] for kind in kinds if part in kind.model_fields]
            kinds = [section for field in fields for section in _sections(field.annotation)]
    return shown, kinds


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections an annotation allows, through unions, tuples and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
