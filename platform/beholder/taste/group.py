"""Several processes that train one network together: all that a training knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from beholder.taste.base import Indices

if TYPE_CHECKING:
    import torch


class Group(Protocol):
    """The processes that share out the batches of one training. All hold the same parameters at every step."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the sum over all processes in place of each tensor: the same bits for each of them."""
        ...


class Alone:
    """The group of one process."""

    rank = 0
    size = 1

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """A sum of one."""


ALONE = Alone()


def part_of(group: Group, codes: Indices) -> slice:
    """Entries that are this process's, of `codes` in ascending order: about as many for each, equal ones together."""
    n = len(codes)
    cuts = [n * rank // group.size for rank in (group.rank, group.rank + 1)]
    start, stop = (int(np.searchsorted(codes, codes[cut])) if cut < n else n for cut in cuts)
    return slice(start, stop)
