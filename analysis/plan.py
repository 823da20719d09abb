"""The analysis part of a plan: what is tested and how, fixed before there are data.

A plan is YAML with the fields of `AnalysisPlan`, either alone in a file or under the key `analysis` of a study's plan.
An unknown key, a wrong type or an impossible value is an error that names file, field, what was found and what is
allowed. The plan's hash is the SHA-256 of its canonical JSON: comments, order and defaults spelt out do not change it.

    focal: own
    contrasts: [own:other, own:unoptimised]
    confidence: 0.95
    population: new-people,new-prompts
    exclusions: {votes_below: 20, median_ms_below: 400}
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from analysis.errors import UserError
from analysis.results import Population

Ties = Literal["davidson", "rao-kupper"]
SECTION = "analysis"
"""Key under which a study's plan holds this part."""


@dataclass(frozen=True)
class ExclusionRules:
    """Which participants a per-protocol analysis leaves out; everybody is in the intention-to-treat one.

    A rule looks at a participant's own effort only. Rules that ask for agreement with other people, or that look at
    conditions, would delete the private taste under study and cannot be written here. Repeated trials exclude nobody.

    Attributes
    ----------
    votes_below : int or None
        Fewer main votes than this: did not finish.
    median_ms_below : int or None
        Median response time of the main votes, milliseconds.
    catch_failures : int or None
        This many catch trials or more answered otherwise than their column `expected` says.
    side_p_below : float or None
        Two-sided exact binomial p of one half for the left share of the main votes that are no ties.
    run_p_below : float or None
        Chance of so long a run of one side among these votes, in the order of the column `order`.
    """

    votes_below: int | None = None
    median_ms_below: int | None = None
    catch_failures: int | None = None
    side_p_below: float | None = None
    run_p_below: float | None = None

    @property
    def any(self) -> bool:
        """Whether any rule is set."""
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class PlannedSize:
    """How many of each the study set out to have; a shortfall is a deviation. None: not planned."""

    participants: int | None = None
    prompts: int | None = None
    votes: int | None = None


@dataclass(frozen=True)
class AnalysisPlan:
    """What is tested, fixed before the data.

    Attributes
    ----------
    focal : str
        The condition every claim is about.
    contrasts : tuple of (str, str)
        All planned contrasts, focal first; the first contrast is the primary one. Written `own:other`.
    title : str
        Heading of the report.
    confidence : float
        Level of the intervals, between .5 and 1.
    permutations : int
        Draws of a permutation test when not all are tried.
    seed : int
        Of everything random in the analysis.
    population : Population
        To whom the win rates generalise. Written `new-people,new-prompts`.
    ties : {"davidson", "rao-kupper"}
        Model of ties in the ranking; the other one is the sensitivity analysis.
    margins : tuple of int
        Tie margins in ticks of the rating scale: first, last, step.
    exclusions : ExclusionRules
    size : PlannedSize
    """

    focal: str
    contrasts: tuple[tuple[str, str], ...]
    title: str = "Study"
    confidence: float = 0.95
    permutations: int = 9_999
    seed: int = 0
    population: Population = field(default_factory=Population)
    ties: Ties = "davidson"
    margins: tuple[int, int, int] = (0, 500, 10)
    exclusions: ExclusionRules = field(default_factory=ExclusionRules)
    size: PlannedSize = field(default_factory=PlannedSize)

    @classmethod
    def load(cls, path: Path) -> AnalysisPlan:
        """Read a plan, or the analysis part of a study's plan, whose name and seed then stand in for missing ones.

        Raises
        ------
        UserError
            Naming file, field, what was found and what is allowed.
        """
        content = _read_yaml(path)
        if isinstance(content, Mapping) and SECTION in content:
            part = content[SECTION]
            if isinstance(part, Mapping):
                study = {
                    ours: content[theirs] for ours, theirs in (("title", "name"), ("seed", "seed")) if theirs in content
                }
                part = {**study, **part}
            return cls.of(part, f"{path}: {SECTION}.")
        return cls.of(content, f"{path}: ")

    @classmethod
    def of(cls, content: Any, where: str = "") -> AnalysisPlan:
        """Validate plain values (as YAML or JSON hold them); `where` is put before the field's name in errors.

        Raises
        ------
        UserError
            Naming field, what was found and what is allowed.
        """
        plan = _record(cls, _FIELDS, content, where)
        if all(plan.focal not in pair for pair in plan.contrasts):
            listed = ", ".join(map(":".join, plan.contrasts))
            raise UserError(f"{where}focal {plan.focal!r} is in no contrast", listed, "plan a contrast of it")
        return plan

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, every field spelt out; `of` reads it back."""
        return {
            **dataclasses.asdict(self),
            "contrasts": [":".join(pair) for pair in self.contrasts],
            "population": f"{self.population.people}-people,{self.population.items}-prompts",
            "margins": list(self.margins),
        }

    def to_yaml(self) -> str:
        """The plan as a file that `load` reads back."""
        import yaml

        text: str = yaml.safe_dump(self.to_json(), sort_keys=False, allow_unicode=True, default_flow_style=None)
        return text

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON: sorted keys, no spaces, every field spelt out."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


class _ProblemError(Exception):
    """What a field allows, raised where a value is found that it does not."""


Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _ProblemError("text (write numbers and words such as `yes` in quotes)")
    return value


def _title(value: Any) -> str:
    if not _text(value).isprintable():
        raise _ProblemError("one line of printable text")
    return str(value)


def _condition(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or ":" in value or "," in value:
        raise _ProblemError("the name of a condition, without colon and comma")
    return value


def _number(low: float, high: float, what: str) -> Reader:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
            raise _ProblemError(what)
        return float(value)

    return read


def _whole(least: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _ProblemError(f"a whole number of {least} or more")
        return value

    return read


def _one_of(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        if value not in allowed:
            raise _ProblemError(" or ".join(allowed))
        return str(value)

    return read


def _or_none(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _contrasts(value: Any) -> tuple[tuple[str, str], ...]:
    allowed = "a list of FOCAL:AGAINST, each pair of conditions once, such as [own:other]"
    if not isinstance(value, list | tuple) or not value:
        raise _ProblemError(allowed)
    pairs = []
    for text in value:
        first, colon, second = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not (colon and first.strip() and second.strip()) or ":" in second or "," in text:
            raise _ProblemError(allowed)
        pairs.append((first.strip(), second.strip()))
    if len({frozenset(pair) for pair in pairs}) < len(pairs) or any(first == second for first, second in pairs):
        raise _ProblemError(allowed)
    return tuple(pairs)


def _population(value: Any) -> Population:
    try:
        return Population.parse(_text(value))
    except UserError as error:
        raise _ProblemError(error.allowed or "") from None


def _margins(value: Any) -> tuple[int, int, int]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or not all(isinstance(x, int) and not isinstance(x, bool) for x in value)
        or not 0 <= value[0] <= value[1]
        or value[2] < 1
    ):
        raise _ProblemError("[first, last, step] in whole ticks, such as [0, 500, 10]")
    return value[0], value[1], value[2]


_RULES: dict[str, Reader] = {
    "votes_below": _or_none(_whole(1)),
    "median_ms_below": _or_none(_whole(1)),
    "catch_failures": _or_none(_whole(1)),
    "side_p_below": _or_none(_number(0, 1, "a number between 0 and 1")),
    "run_p_below": _or_none(_number(0, 1, "a number between 0 and 1")),
}
_SIZE: dict[str, Reader] = {name: _or_none(_whole(1)) for name in ("participants", "prompts", "votes")}
_FIELDS: dict[str, Reader | tuple[type, dict[str, Reader]]] = {
    "focal": _condition,
    "contrasts": _contrasts,
    "title": _title,
    "confidence": _number(0.5, 1, "a number between .5 and 1"),
    "permutations": _whole(99),
    "seed": _whole(0),
    "population": _population,
    "ties": _one_of(*get_args(Ties)),
    "margins": _margins,
    "exclusions": (ExclusionRules, _RULES),
    "size": (PlannedSize, _SIZE),
}


def _record(kind: type, fields: Mapping[str, Any], content: Any, where: str) -> Any:
    """A record of `kind` from a mapping whose values `fields` read; errors say where in the file they are."""
    if not isinstance(content, Mapping):
        place = where.rstrip(". :") or "plan"
        raise UserError(f"{place}: found {content!r}", "a mapping with " + ", ".join(fields), "write one key a line")
    _refuse_unknown(kind, fields, content, where)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in content
    ]
    if missing:
        raise UserError(f"{where}{missing[0]} is missing", remedy="a plan names focal and contrasts at least")
    values: dict[str, Any] = {}
    for name, value in content.items():
        reader = fields[name]
        if isinstance(reader, tuple):
            values[name] = _record(reader[0], reader[1], value, f"{where}{name}.")
            continue
        try:
            values[name] = reader(value)
        except _ProblemError as problem:
            raise UserError(f"{where}{name}: found {value!r}", str(problem)) from None
    return kind(**values)


def _refuse_unknown(kind: type, fields: Mapping[str, Any], content: Mapping[Any, Any], where: str) -> None:
    unknown = [key for key in content if key not in fields]
    if not unknown:
        return
    near = difflib.get_close_matches(str(unknown[0]), list(fields), 1, cutoff=0.75)
    remedy = "remove it"
    if near:
        remedy = f"did you mean {near[0]!r}?"
    elif kind is ExclusionRules:
        remedy = "remove it: rules by agreement with others or by condition would delete the taste under study"
    raise UserError(f"{where}{unknown[0]}: unknown key", ", ".join(fields), remedy)


def _read_yaml(path: Path) -> Any:
    """The file's content; a key written twice is an error (YAML readers keep the last one without a word)."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Hashable, Any]:
        pairs = loader.construct_pairs(node, deep=True)
        keys = [key for key, _ in pairs]
        twice = [key for k, key in enumerate(keys) if key in keys[:k]]
        if twice:
            raise UserError(f"{path}: {twice[0]!r} is written twice", "each key once", "remove one of them")
        return dict(pairs)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a plan in YAML", "check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}", remedy="mend the file") from None
