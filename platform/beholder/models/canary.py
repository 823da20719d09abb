"""Canaries: known inputs whose answers must not change, asked before a model writes its first row.

A record holds a model's answers to fixed pictures or texts, with its whole identity. Asked again, the model must give
them to within a small tolerance if nothing of the identity changed, and to within a larger, stated one where package
versions, device or number type did. A model that answers otherwise is refused by name. The answers must also be the
same to the bit alone, together and in another order.

Embedded models ship their records; for others `beholder models canary --record` writes one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from beholder.errors import EngineError
from beholder.models.interfaces import Encoder, Generator, Scorer
from beholder.records import key_of, pack, unpack

Kind = Literal["vectors", "scores", "pictures"]
SHIPPED = Path(__file__).with_name("golden")
"""Records that come with the code."""
BATCHES = (1, 4, 8)
"""Batch sizes whose answers are compared when a record is made."""
SAME: Mapping[str, float] = {"vectors": 1e-5, "scores": 1e-5, "pictures": 0.0}
"""How far answers may move where nothing of the identity changed. On one machine they do not move at all; GPUs of one
name may add up in another order."""
ACROSS: Mapping[str, Mapping[str, float]] = {
    "vectors": {"float32": 1e-3, "bfloat16": 3e-2, "float16": 1e-2},
    "scores": {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2},
    "pictures": {"float32": 1.0, "bfloat16": 6.0, "float16": 4.0},
}
"""How far they may move across versions, devices and batch sizes, by the coarser number type: vectors relative to their
length, scores relative to their size or 1, pictures in levels of 255, averaged over 1/32 of each side."""
CHANGEABLE = ("torch", "transformers", "tokenizers", "diffusers", "pillow", "device", "card", "dtype", "environment",
              "threads", "batch_size")  # fmt: skip
"""Parts of an identity over which a model should still answer much the same."""
_THUMB = 32


class CanaryError(EngineError):
    """A model that does not answer as recorded, or was not recorded."""


class Probe(NamedTuple):
    """A loaded model and how to ask it."""

    name: str
    kind: Kind
    identity: Mapping[str, Any]
    inputs: int
    """Golden inputs there are."""
    ask: Callable[[Sequence[int]], np.ndarray]
    """Answers to the inputs with these numbers, one row each."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a canary found: `status` is "same", "agrees" (with a record of other versions) or "not recorded"."""

    name: str
    status: Literal["same", "agrees", "not recorded"]
    difference: float | None
    tolerance: float | None
    changed: tuple[str, ...]


def golden_pictures() -> list[np.ndarray]:
    """Three pictures: smooth colour, noise, and edges in other proportions. (height, width, 3), uint8."""
    y, x = np.mgrid[0:96, 0:128]
    smooth = np.stack([2 * x, 255 - 2 * y, 60 + (x + y) // 2], axis=2)
    noise = (np.indices((72, 64, 3)) * np.array([97, 193, 51]).reshape(3, 1, 1, 1)).sum(axis=0) ** 2 % 251
    edges = np.where((((x // 16) + (y // 12)) % 2)[..., None] == 1, [250, 240, 60], [20, 30, 90])[:, :80]
    return [picture.astype(np.uint8) for picture in (smooth, noise, edges)]


GOLDEN_TEXTS = ("a mountain lake at dawn", "Two red apples, oil painting", "fog")


def image_encoder_probe(name: str, encoder: Encoder) -> Probe:
    """Asks for vectors of the golden pictures."""
    pictures = golden_pictures()
    return Probe(name, "vectors", encoder.identity(), 3, lambda rows: encoder.encode([pictures[i] for i in rows]))


def text_encoder_probe(name: str, encoder: Encoder) -> Probe:
    """Asks for vectors of the golden texts."""
    return Probe(name, "vectors", encoder.identity(), 3, lambda rows: encoder.encode([GOLDEN_TEXTS[i] for i in rows]))


def scorer_probe(name: str, scorer: Scorer, identity: Mapping[str, Any]) -> Probe:
    """Asks for scores of the golden pictures with the golden texts as prompts."""
    pictures = golden_pictures()

    def ask(rows: Sequence[int]) -> np.ndarray:
        return scorer.score([pictures[i] for i in rows], [GOLDEN_TEXTS[i] for i in rows])[:, None]

    return Probe(name, "scores", identity, 3, ask)


def generator_probe(name: str, generator: Generator) -> Probe:
    """Asks for pictures of the golden texts, each with its number as seed; keeps them small."""

    def ask(rows: Sequence[int]) -> np.ndarray:
        made: list[np.ndarray] = []
        for start in range(0, len(rows), generator.batch_size):
            batch = rows[start : start + generator.batch_size]
            found = generator.generate([GOLDEN_TEXTS[i] for i in batch], list(batch))
            made += [_thumb(picture.pixels) for picture in found]
        return np.stack(made)

    return Probe(name, "pictures", generator.identity(), 3, ask)


def answers(probe: Probe) -> np.ndarray:
    """Answers to all golden inputs; CanaryError if an answer depends on what is asked beside it, or is not finite."""
    rows = list(range(probe.inputs))
    together = np.asarray(probe.ask(rows))
    if not np.isfinite(together).all():
        raise CanaryError(f"{probe.name} gives answers that are not finite", remedy="do not use this model here")
    others = {"in another order": np.asarray(probe.ask(rows[::-1]))[::-1]}
    if probe.kind != "pictures":  # a picture costs seconds; order alone shows whether neighbours matter
        others["alone"] = np.concatenate([np.asarray(probe.ask([i])) for i in rows])
    for how, other in others.items():
        if other.tobytes() != together.tobytes():
            raise CanaryError(
                f"{probe.name} answers otherwise {how}: {difference(probe.kind, together, other):.2g}",
                "the same to the bit, whatever is asked beside",
                "its batches are not filled up, or its kernels choose by content",
            )
    return together


def difference(kind: Kind, expected: np.ndarray, found: np.ndarray) -> float:
    """The largest over inputs: vectors relative to their length, scores to their size or 1, pictures in levels."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    if kind == "vectors":
        return float((np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-30)).max())
    if kind == "scores":
        return float((np.abs(a - b) / np.maximum(1, np.abs(a))).max())
    return float(np.abs(a - b).mean(axis=1).max())


def check(probe: Probe, folders: Sequence[Path], *, allow_unrecorded: bool = False) -> Verdict:
    """Ask a model its golden inputs and compare with the records.

    Parameters
    ----------
    probe : Probe
    folders : sequence of Path
        Where records lie; `SHIPPED` among them.
    allow_unrecorded : bool
        Let a model without a record pass (the neighbours are checked all the same).

    Raises
    ------
    CanaryError
        The model answers differently, or is not recorded.
    """
    found = answers(probe)
    records = [record for folder in folders for record in read_records(folder)]
    key = key_of(dict(probe.identity))
    exact = [record for record in records if record["key"] == key]
    near = [record for record in records if _core(record["identity"]) == _core(probe.identity)]
    if not exact and not near:
        if not allow_unrecorded:
            raise CanaryError(
                f"{probe.name} is not recorded",
                "a model whose answers are known",
                "run `beholder models canary --record` once, or allow unrecorded models in the plan",
            )
        return Verdict(probe.name, "not recorded", None, None, ())
    record = (exact or near)[0]
    changed = () if exact else changes(record["identity"], probe.identity)
    tolerance = SAME[probe.kind] if exact else _across(probe.kind, record["identity"], probe.identity)
    distance = difference(probe.kind, unpack(record["answers"]), found)
    if not distance <= tolerance:
        why = f"; since the record changed: {', '.join(changed)}" if changed else "; nothing it names has changed"
        raise CanaryError(
            f"{probe.name} answers differently: {distance:.2g}{why}",
            f"{tolerance:.2g}",
            "restore the recorded versions, or find out which one is right and record again",
        )
    return Verdict(probe.name, "same" if exact else "agrees", distance, tolerance, changed)


def record(probe: Probe, folder: Path, load: Callable[[int], Probe] | None = None) -> Path:
    """Write down a model's answers; an older record of the same identity is replaced.

    Parameters
    ----------
    probe : Probe
    folder : Path
    load : callable, optional
        Loads the model at another batch size; answers at 1, 4 and 8 are then compared and stored beside.

    Raises
    ------
    CanaryError
        Answers that depend on neighbours, or on the batch size by more than the tolerance across.
    """
    found = answers(probe)
    spread = {}
    for size in BATCHES if load is not None else ():
        assert load is not None
        spread[str(size)] = difference(probe.kind, found, np.asarray(load(size).ask(list(range(probe.inputs)))))
    tolerance = _across(probe.kind, probe.identity, probe.identity)
    if worst := [f"{size}: {value:.2g}" for size, value in spread.items() if value > tolerance]:
        raise CanaryError(f"{probe.name} answers differently at batch sizes {', '.join(worst)}", f"{tolerance:.2g}")
    key = key_of(dict(probe.identity))
    content = {
        "model": probe.name,
        "key": key,
        "kind": probe.kind,
        "identity": dict(probe.identity),
        "batch_sizes": spread,
        "answers": [pack(row) for row in found],
    }
    path = folder / _slug(probe.name) / f"{key[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)
    return path


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records in a folder, in the order of their files; CanaryError for one that cannot be read.

    A record belongs to an identity, whatever name the model went by.
    """
    found = []
    for path in sorted(folder.glob("*/*.json")):
        try:
            content = json.loads(path.read_text())
            found.append({name: content[name] for name in ("key", "identity", "answers")})
        except (ValueError, KeyError) as error:
            raise CanaryError(f"{path} is no record: {error!r}", remedy="delete it and record again") from error
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two identities, such as "torch 2.12.1 -> 2.13.0"."""
    names = sorted(before.keys() | now.keys())
    return tuple(f"{n} {before.get(n)} -> {now.get(n)}" for n in names if before.get(n) != now.get(n))


def _core(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in CHANGEABLE}


def _across(kind: Kind, before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The tolerance of the coarser number type."""
    table = ACROSS[kind]
    return max(table.get(str(identity.get("dtype", "float32")), table["float32"]) for identity in (before, now))


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)


def _thumb(pixels: np.ndarray) -> np.ndarray:
    """Mean levels in 32 x 32 fields, flat: what is compared of a picture."""
    rows, columns = (np.linspace(0, size, _THUMB + 1).astype(int)[:-1] for size in pixels.shape[:2])
    if min(pixels.shape[:2]) < _THUMB:
        return pixels.astype(np.float32).ravel()
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.diff([*rows, pixels.shape[0]])[:, None] * np.diff([*columns, pixels.shape[1]])[None, :]
    return np.asarray((sums / counts[..., None]).astype(np.float32).ravel())
