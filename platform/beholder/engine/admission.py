"""Items that no worker is given: text longer than any model reads, or that cannot be written down in UTF-8.

One such item would fill the memory of driver, object store and worker, or end the process that writes its row. It is
set aside on the driver; what travels and what the ledger keeps is a short form of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from beholder.engine.stage import Item, Keyed

LONGEST = 2**20
"""Characters of text in one item. Models read some thousand tokens; what is longer got into the plan by mistake."""
SHOWN = 200
"""Characters that are kept of each text of an item that was refused."""
_REFUSED = "_refused"


class Sifted(NamedTuple):
    """A batch, taken apart."""

    admitted: list[Keyed]
    refused: list[tuple[str, str]]
    """Key and reason."""


def admit(item: Item) -> Item:
    """The item itself; in place of one that no worker shall see, its short form with the reason."""
    reason = _reason(item)
    if reason is None:
        return item
    return {name: value if name.startswith("_") else _short(value) for name, value in item.items()} | {_REFUSED: reason}


def sift(batch: Sequence[Keyed]) -> Sifted:
    """Tell the short forms that `admit` made from the items that are to be done."""
    return Sifted(
        [keyed for keyed in batch if _REFUSED not in keyed.item],
        [(key, item[_REFUSED]) for key, item in batch if _REFUSED in item],
    )


def _reason(item: Item) -> str | None:
    total = 0
    for name, value in item.items():
        if name.startswith("_"):  # where a file lies: its name need not be valid text, and is no part of the result
            continue
        for text in (value,) if type(value) is str else _texts(value):
            total += len(text)
            if total > LONGEST:
                return f"ItemTooLong: {name!r} takes the item above {LONGEST} characters of text, the most one may hold"
            if not text.isascii() and (place := _broken_at(text)) is not None:
                return f"ItemNotText: {name!r} has half of a surrogate pair at character {place}"
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _broken_at(text: str) -> int | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _short(value: Any) -> Any:
    """Texts cut and with escapes for what is not valid; longer lists and mappings by their kind and length alone."""
    if isinstance(value, str):
        valid = value[:SHOWN].encode("utf-8", "backslashreplace").decode()
        return valid if len(value) <= SHOWN else f"{valid}… ({len(value)} characters)"
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return value
