"""Content keys and digests: the same content has the same name, whoever computed it and when."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

VOLATILE = frozenset({"seconds", "worker", "attempt", "written_at", "path", "versions", "mlflow_run_id"})
"""Columns that may differ between two runs that computed the same thing."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest float forms; refuses what JSON cannot hold exactly.

    Raises
    ------
    TypeError
        For NaN, infinities and types outside JSON: they have no single canonical form.
    """
    return _ENCODE(value if _is_plain(value) else _checked(value))


_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_PLAIN = frozenset({str, int, bool, type(None)})


def _is_plain(value: Any) -> bool:
    """Whether this is the commonest kind, a flat mapping of text and whole numbers, which needs no further look."""
    return type(value) is dict and _PLAIN.issuperset(map(type, value.values())) and all(type(k) is str for k in value)


def _checked(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"a key cannot hold {value!r}")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(k, str) for k in value):
            raise TypeError(f"a key's mapping needs string keys, got {list(value)!r}")
        return {k: _checked(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(v) for v in value]
    raise TypeError(f"a key cannot hold {type(value).__name__}: {value!r}")


class FlatEncoder:
    """`canonical_json` of many flat mappings that differ in values more than in names, several times as fast.

    Names are sorted and written once for each set of them. A name that starts with "_" is left out.
    """

    FORMS = 256
    """Sets of names that are remembered."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, ...], tuple[str, list[str]]] = {}

    def encode(self, item: dict[str, Any]) -> str:
        """The canonical JSON of what is not left out; `TypeError` as from `canonical_json`."""
        names = tuple(item)
        form, kept = self._forms.get(names) or self._form(names)
        try:
            return form % tuple([_TEXTS[type(value := item[name])](value) for name in kept])
        except KeyError:  # a list, a mapping, or what has no canonical form
            return canonical_json({name: item[name] for name in kept})

    def _form(self, names: tuple[str, ...]) -> tuple[str, list[str]]:
        if len(self._forms) >= self.FORMS:
            self._forms.clear()
        kept = sorted(name for name in names if not name.startswith("_"))
        return self._forms.setdefault(names, (_form_of(kept), kept))


def _form_of(names: Iterable[str]) -> str:
    """A mapping's canonical JSON with a place for the text of each value; `names` are sorted."""
    form = ",".join(canonical_json(name).replace("%", "%%") + ":%s" for name in names)
    return f"{{{form}}}"


def _finite(value: float) -> str:
    return float.__repr__(value) if math.isfinite(value) else canonical_json(value)


_TEXTS: dict[type, Callable[[Any], str]] = {
    str: json.encoder.encode_basestring,
    int: int.__repr__,
    float: _finite,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}
"""How JSON writes each kind of plain value."""


def key_of(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def rows_digest(rows: Iterable[Mapping[str, Any]], volatile: frozenset[str] = VOLATILE) -> str:
    """SHA-256 over a set of JSON rows, in any order, without the volatile columns."""
    lines = sorted(canonical_json({k: v for k, v in row.items() if k not in volatile}) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def table_digest(frame: pd.DataFrame, volatile: frozenset[str] = VOLATILE) -> str:
    """SHA-256 of a table: the values of every column that is not volatile, whatever the order of rows and columns.

    Missing values are written as null. Floats enter with all their digits.
    """
    kept = sorted(str(c) for c in frame.columns if str(c) not in volatile)
    columns = [[_cell(v) for v in frame[name].tolist()] for name in kept]
    # As `rows_digest`, without a mapping a row: tables of predictions have a million cells.
    lines = sorted(map(_form_of(kept).__mod__, zip(*columns, strict=True)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cell(value: Any) -> str:
    """A cell of a table as canonical JSON."""
    if type(value) is float:
        return float.__repr__(value) if math.isfinite(value) else "null"
    text = _TEXTS.get(type(value))
    return text(value) if text else canonical_json(_plain(value))


def _plain(value: Any) -> Any:
    """A cell as JSON holds it: numpy scalars unwrapped, NaN, NaT and NA as null, arrays as lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if type(value).__name__ in ("NAType", "NaTType") or value != value else str(value)


def pack(vector: np.ndarray) -> str:
    """A float32 vector as base64 text of its little-endian bytes: exact, and 5.3 characters a number."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpack(texts: Iterable[str]) -> np.ndarray:
    """Packed vectors of one length as rows of a float32 matrix, shape (n, d)."""
    import numpy as np

    rows = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in texts]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def seed_of(*parts: Any) -> int:
    """A seed in [0, 2^32) that depends on the content of `parts` alone, so every step can have its own stream."""
    return int(key_of(list(parts))[:8], 16)
