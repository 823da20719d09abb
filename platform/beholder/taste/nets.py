"""Pieces of networks as plain functions of named tensors: what is learned is a dictionary, so it is saved as it is.

Nothing here draws from torch's global generator or counts on how many threads it has: the same seed gives the same
bits on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Params = dict[str, torch.Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, then as before: sums over threads are added in another order, in other bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Dropout:
    """Inverted dropout from a generator of its own; with rate 0 (prediction) nothing is drawn.

    Parameters
    ----------
    rate : float
        Share of the entries set to 0, below 1.
    generator : torch.Generator, optional
        Needed for rates above 0.
    """

    def __init__(self, rate: float, generator: torch.Generator | None) -> None:
        self.rate, self.generator = rate, generator

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """`values` with some entries 0 and the others larger."""
        if self.rate == 0:
            return values
        return values * self.keep(values.shape, values)

    def keep(self, shape: tuple[int, ...] | torch.Size, like: torch.Tensor) -> torch.Tensor:
        """0 where dropped and 1 / (1 - rate) elsewhere; the rate to the nearest 256th.

        One byte decides about one entry: eight times fewer draws than one of torch's own for each.
        """
        import torch

        n, dropped = math.prod(shape), round(256 * self.rate)
        drawn = torch.empty((n + 7) // 8, device=like.device, dtype=torch.int64)
        drawn.random_(-(2**63), None, generator=self.generator)
        kept = drawn.view(torch.uint8)[:n].view(shape) >= dropped
        return kept.to(like.dtype).mul_(256 / (256 - dropped))


def add_linear(params: Params, name: str, n_in: int, n_out: int, generator: torch.Generator, gain: float = 1.0) -> None:
    """Weights of an affine map: normal with SD `gain / sqrt(n_in)`, biases 0."""
    import torch

    weight = torch.randn(n_out, n_in, generator=generator) * (gain / math.sqrt(n_in))
    params[f"{name}.weight"], params[f"{name}.bias"] = weight, torch.zeros(n_out)


def linear(params: Mapping[str, torch.Tensor], name: str, values: torch.Tensor) -> torch.Tensor:
    """The affine map of the last axis."""
    import torch

    return torch.nn.functional.linear(values, params[f"{name}.weight"], params[f"{name}.bias"])


def add_norm(params: Params, name: str, width: int) -> None:
    """Scale and shift of a layer norm."""
    import torch

    params[f"{name}.scale"], params[f"{name}.shift"] = torch.ones(width), torch.zeros(width)


def norm(params: Mapping[str, torch.Tensor], name: str, values: torch.Tensor) -> torch.Tensor:
    """Layer norm of the last axis."""
    import torch

    return torch.nn.functional.layer_norm(
        values, values.shape[-1:], params[f"{name}.scale"], params[f"{name}.shift"], 1e-5
    )


FEW = 16
"""Pairs of a query and a key, to which attention is written out as sums of products."""


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int) -> torch.Tensor:
    """Multi-head attention of n sets of tokens.

    Parameters
    ----------
    queries : tensor, shape (n, q, d)
    keys, values : tensors, shape (n, t, d)
    heads : int
        A divisor of d.

    Returns
    -------
    tensor, shape (n, q, d)
    """
    import torch

    n, q, d = queries.shape
    if q * keys.shape[1] <= FEW:
        # A matrix product for each entry and head costs more than its few sums.
        asked = queries.reshape(n, q, 1, heads, d // heads)
        told, given = (x.reshape(n, 1, -1, heads, d // heads) for x in (keys, values))
        weights = torch.sum(asked * told, dim=-1).div(math.sqrt(d // heads)).softmax(dim=2)
        return torch.sum(weights[..., None] * given, dim=2).reshape(n, q, d)
    split = [x.reshape(n, -1, heads, d // heads).transpose(1, 2) for x in (queries, keys, values)]
    weights = (split[0] @ split[1].transpose(2, 3) / math.sqrt(d // heads)).softmax(dim=-1)
    return (weights @ split[2]).transpose(1, 2).reshape(n, q, d)
