"""Outputs of an ensemble's members: images encoded once, people once, then pairs.

Everything goes in batches of one padded size on one thread, so that an image has one reward, whatever is scored beside
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.taste.base import Floats, Indices, Strings
from beholder.taste.nets import Dropout, one_thread
from beholder.taste.networks import Network, Persons
from beholder.taste.training_set import Singles, Told

if TYPE_CHECKING:
    from beholder.taste.nets import Params
    from beholder.taste.networks import Encoded

CHUNK = 256
"""Rows a batch; fewer are padded."""
PEOPLE_CHUNK = 32
BLOCK = 2048
"""Images held encoded at a time: some 16 MiB a token at full width."""
NOTHING = Dropout(0.0, None)


@dataclass(frozen=True, eq=False)
class Known:
    """The people an ensemble knows. U people, M members.

    Attributes
    ----------
    user_ids : array of str, shape (U,)
        Sorted.
    embeddings : float32 array, shape (M, U, e)
        In each member.
    told : Told
    levels, level_variances : arrays, shape (U,)
        How far each person rates above the centre, ticks, and how well that is known.
    own_variances : array, shape (U,)
        Variance of predictions by what is not known of the embedding, squared ticks.
    """

    user_ids: Strings
    embeddings: Singles
    told: Told
    levels: Floats
    level_variances: Floats
    own_variances: Floats

    def joined(self, other: Known) -> Known:
        """These people and others; who is in both is the other's."""
        keep = ~np.isin(self.user_ids, other.user_ids)
        ids = np.concatenate([self.user_ids[keep], other.user_ids])
        order = np.argsort(ids)

        def both(mine: Any, theirs: Any, axis: int = 0) -> Any:
            return np.take(np.concatenate([np.compress(keep, mine, axis), theirs], axis), order, axis)

        told = Told(*(both(a, b) for a, b in zip(vars(self.told).values(), vars(other.told).values(), strict=True)))
        return Known(
            ids[order],
            both(self.embeddings, other.embeddings, 1),
            told,
            both(self.levels, other.levels),
            both(self.level_variances, other.level_variances),
            both(self.own_variances, other.own_variances),
        )


def outputs(
    network: Network, member: Mapping[str, Singles], embeddings: Singles, told: Told, who: Indices, matrix: Floats
) -> Singles:
    """One member's output for person `who[i]` and image `matrix[i]`, in its own units, shape (n,).

    Parameters
    ----------
    network, member
        The network and its parameters.
    embeddings : float32 array, shape (U, e)
    told : Told
        Of U people.
    who : int array, shape (n,)
    matrix : array, shape (n, p)
    """
    import torch

    out = np.empty(len(who), dtype=np.float32)
    if not len(who):
        return out
    present, who = np.unique(who, return_inverse=True)
    rows, which = _distinct(matrix.astype(np.float32))
    with one_thread(), torch.no_grad():
        params = {name: torch.from_numpy(a) for name, a in member.items()}
        people = _people(network, params, embeddings[present], told.take(present))
        for start in range(0, len(rows), BLOCK):
            images = _images(network, params, rows[start : start + BLOCK])
            mine = np.flatnonzero((which >= start) & (which < start + BLOCK))
            out[mine] = _pairs(network, params, images, people, which[mine] - start, who[mine])
    return out


def _pairs(network: Network, params: Params, images: Encoded, people: Encoded, which: Indices, who: Indices) -> Singles:
    """Scores of pairs of encoded images and people."""
    import torch

    out = np.empty(len(who), dtype=np.float32)
    for start in range(0, len(who), CHUNK):
        index = [torch.from_numpy(_padded(i[start : start + CHUNK], CHUNK)) for i in (which, who)]
        found = network.score(params, images, people, index[0], index[1], NOTHING)
        out[start : start + CHUNK] = found[: len(who) - start].numpy()
    return out


def _images(network: Network, params: Params, rows: Singles) -> Encoded:
    import torch

    pieces = [_padded(rows[start : start + CHUNK], CHUNK) for start in range(0, len(rows), CHUNK)]
    return _joined([network.images(params, torch.from_numpy(piece), NOTHING) for piece in pieces])


def _people(network: Network, params: Params, embeddings: Singles, told: Told) -> Encoded:
    import torch

    parts = []
    for start in range(0, len(told), PEOPLE_CHUNK):
        columns = (embeddings, *vars(told).values())
        pieces = [torch.from_numpy(_padded(c[start : start + PEOPLE_CHUNK], PEOPLE_CHUNK)) for c in columns]
        parts.append(network.people(params, Persons(*pieces), NOTHING))
    return _joined(parts)


def _joined(parts: list[Encoded]) -> Encoded:
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _distinct(rows: Singles) -> tuple[Singles, Indices]:
    """The different rows, in order of appearance, and which of them each row is."""
    positions: dict[bytes, int] = {}
    which = np.empty(len(rows), dtype=np.intp)
    for i, row in enumerate(rows):
        which[i] = positions.setdefault(row.tobytes(), len(positions))
    _, first = np.unique(which, return_index=True)
    return rows[first], which


def _padded(rows: Any, size: int) -> Any:
    """`rows` with zeros below, `size` in all."""
    if len(rows) == size:
        return np.ascontiguousarray(rows)
    out = np.zeros((size, *rows.shape[1:]), dtype=rows.dtype)
    out[: len(rows)] = rows
    return out
