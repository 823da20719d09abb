"""Changing one field of a plan's file, and nothing else: comments, order and layout stay as their author wrote them."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from beholder.errors import PlanError

if TYPE_CHECKING:
    from beholder.plans import Plan

Field = tuple[str | int, ...]
"""Keys and places in lists from the top, such as ("score", "scorers", 0, "batch_size")."""


def batch_size_field(plan: Plan, stage: str) -> Field:
    """Where a plan says the batch size of a stage, named as in the ledger.

    Raises
    ------
    PlanError
        If the plan does not decide it.
    """
    fields: dict[str, Field] = {"generate": ("generate", "batch_size"), "embed": ("embed", "batch_size")}
    if plan.embed.text_encoder is not None:
        fields["embed_text"] = ("embed", "text_encoder", "batch_size")
    for place, scorer in enumerate(plan.score.scorers if plan.score is not None else ()):
        if not isinstance(scorer, str):
            fields[f"score_{scorer.title}"] = ("score", "scorers", place, "batch_size")
    if stage not in fields:
        raise PlanError(f"the plan sets no batch size of stage {stage!r}", f"stages: {', '.join(fields)}")
    return fields[stage]


def write_field(path: Path, field: Field, value: int) -> None:
    """Set one whole number in a YAML file; it is replaced in one step.

    Raises
    ------
    PlanError
        If the file has something else where the field's sections should be.
    """
    text = path.read_text(encoding="utf-8")
    wanted = _content_with(yaml.safe_load(text), field, value)
    changed = _changed(text, field, value)
    try:
        found = yaml.safe_load(changed)
    except yaml.YAMLError:
        found = None
    if wanted is None or found != wanted:
        raise PlanError(f"{path} has no place for {dotted(field)}", remedy=f"write {dotted(field)}={value} by hand")
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(changed, encoding="utf-8")
    draft.replace(path)


def dotted(field: Field) -> str:
    """The field as people write it."""
    return ".".join(map(str, field))


def _content_with(content: Any, field: Field, value: int) -> Any:
    """The content as it should read afterwards; None if it has no place for the field."""
    content = copy.deepcopy(content)
    place = content
    for step in field[:-1]:
        if isinstance(place, dict):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            return None
    if not isinstance(place, dict):
        return None
    place[field[-1]] = value
    return content


def _changed(text: str, field: Field, value: int) -> str:
    """The text with the field replaced, or put into the innermost mapping there is."""
    node: Any = yaml.compose(text)
    for depth, step in enumerate(field):
        inner = _child(node, step)
        if inner is None:
            return _inserted(text, node, field[depth:], value)
        node = inner
    return f"{text[: node.start_mark.index]}{value}{text[node.end_mark.index :]}"


def _child(node: Any, step: str | int) -> Any:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


def _inserted(text: str, node: Any, rest: Sequence[str | int], value: int) -> str:
    """The text with a new key at the start of a mapping; of the outermost one, at the end of the file."""
    entry = str(value)
    for step in reversed(rest):
        entry = f"{step}: {entry}" if step == rest[0] else f"{{{step}: {entry}}}"
    if not isinstance(node, yaml.MappingNode):
        return text
    if not node.value:
        at = node.start_mark.index + 1
        return f"{text[:at]}{entry}{text[at:]}"
    first = node.value[0][0].start_mark
    if node.flow_style:
        return f"{text[: first.index]}{entry}, {text[first.index :]}"
    if first.column == 0:
        return f"{text}{'' if text.endswith(chr(10)) else chr(10)}{entry}\n"
    return f"{text[: first.index]}{entry}\n{' ' * first.column}{text[first.index :]}"
