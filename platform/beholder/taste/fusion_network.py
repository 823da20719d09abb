"""A shallow transformer over tokens of an image and of a person, after Figure 3 of the PAMELA paper.

Tokens: one a block of the design (image, prompt, metadata, ...), one for each demographic, the profile, the data set
and the user. Which token attends to which is a mask: those of an image see each other, those of a person see each
other, and the score token sees them all. So an image is encoded once for all people and a person once for all images;
for each pair only the score token is computed.

The paper does not say how its tokens are laid out or how large its network is: sizes and mask are this project's. So
is the reading: a linear function of the score token, plus the inner product of what an image offers and what a person
wants, without which products of the two have to be learned by the feed-forward layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from beholder.errors import UserError
from beholder.taste.nets import Dropout, add_linear, add_norm, attend, linear, norm
from beholder.taste.networks import Persons, Shape

if TYPE_CHECKING:
    import torch

    from beholder.taste.nets import Params
    from beholder.taste.networks import Encoded


@dataclass(frozen=True)
class FusionNetwork:
    """Sizes of the transformer.

    Attributes
    ----------
    width : int
        Numbers a token.
    layers, heads : int
    widening : int
        Width of the feed-forward layers, in widths.
    embedding : int
        Numbers a user, from which the user token is made.
    products : int
        Numbers in which an image and a person meet in the inner product; 0 leaves it out.
    dropout : float
    """

    width: int = 256
    layers: int = 4
    heads: int = 8
    widening: int = 2
    embedding: int = 32
    products: int = 32
    dropout: float = 0.1

    kind: ClassVar[str] = "fusion"
    reads_people: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"width {self.width} with {self.heads} heads", "a multiple of the heads")

    def start(self, shape: Shape, generator: torch.Generator) -> Params:
        """Random parameters; the branches of all layers together have the variance of one."""
        import torch

        d, gain = self.width, 1 / math.sqrt(2 * self.layers)
        params: Params = {}
        for b, size in enumerate(shape.block_sizes):
            add_linear(params, f"block_{b}", size, d, generator)
        add_linear(params, "user", self.embedding, d, generator)
        for k, size in enumerate(shape.categories):
            params[f"category_{k}"] = 0.5 * torch.randn(size, d, generator=generator)
        if shape.profile:
            add_linear(params, "profile", shape.profile, d, generator)
        if shape.datasets > 2:  # unknown and one set: nothing to tell apart
            params["dataset"] = 0.5 * torch.randn(shape.datasets, d, generator=generator)
            params["log_scale"], params["shift"] = torch.zeros(shape.datasets), torch.zeros(shape.datasets)
        params["score"] = 0.5 * torch.randn(d, generator=generator)
        for layer in range(self.layers):
            add_norm(params, f"{layer}.attention_norm", d)
            add_linear(params, f"{layer}.query", d, d, generator)
            add_linear(params, f"{layer}.key_value", d, 2 * d, generator)
            add_linear(params, f"{layer}.attended", d, d, generator, gain)
            add_norm(params, f"{layer}.forward_norm", d)
            add_linear(params, f"{layer}.widen", d, self.widening * d, generator)
            add_linear(params, f"{layer}.narrow", self.widening * d, d, generator, gain)
        add_norm(params, "last_norm", d)
        add_linear(params, "head", d, 1, generator, 0.1)
        if self.products:
            add_linear(params, "offers", d, self.products, generator)
            add_linear(params, "wants", d, self.products, generator, 0.1)
        return params

    def images(self, params: Params, rows: torch.Tensor, dropout: Dropout) -> Encoded:
        """Images' tokens in every layer, and what they offer."""
        import torch

        blocks = len([name for name in params if name.startswith("block_") and name.endswith(".weight")])
        sizes = [params[f"block_{b}.weight"].shape[1] for b in range(blocks)]
        tokens = [linear(params, f"block_{b}", part) for b, part in enumerate(rows.split(sizes, dim=1))]
        return self._encode(params, torch.stack(tokens, dim=1), "offers", dropout)

    def people(self, params: Params, persons: Persons, dropout: Dropout) -> Encoded:
        """People's tokens in every layer, what they want, and the scale of their data set."""
        import torch

        tokens = [linear(params, "user", persons.embedding)]
        tokens += [params[f"category_{k}"][column] for k, column in enumerate(persons.categories.T)]
        if "profile.weight" in params:
            tokens.append(linear(params, "profile", persons.profiles))
        if "dataset" in params:
            tokens.append(params["dataset"][persons.dataset])
        encoded = self._encode(params, torch.stack(tokens, dim=1), "wants", dropout)
        if "dataset" in params:
            encoded["scale"] = params["log_scale"][persons.dataset].exp()
            encoded["shift"] = params["shift"][persons.dataset]
        return encoded

    def score(
        self,
        params: Params,
        images: Encoded,
        people: Encoded,
        which: torch.Tensor,
        who: torch.Tensor,
        dropout: Dropout,
    ) -> torch.Tensor:
        """The score token's way through the layers, for each pair."""
        import torch

        # The first layer asks the same of every pair.
        token = params["score"].expand(len(which), -1)
        for layer in range(self.layers):
            asking = token[:1] if layer == 0 else token
            query = linear(params, f"{layer}.query", norm(params, f"{layer}.attention_norm", asking))
            query = query.expand(len(which), -1)[:, None]
            key, value = (
                torch.cat([images[f"{part}_{layer}"][which], people[f"{part}_{layer}"][who]], dim=1)
                for part in ("key", "value")
            )
            attended = attend(query, key, value, self.heads)[:, 0]
            token = token + dropout(linear(params, f"{layer}.attended", attended))
            token = token + self._forward(params, layer, token, dropout)
        found = linear(params, "head", norm(params, "last_norm", token))[:, 0]
        if self.products:
            meets = torch.sum(images["products"][which] * people["products"][who], dim=1)
            found = found + meets / math.sqrt(self.products)
        if "scale" in people:
            found = people["shift"][who] + people["scale"][who] * found
        return found

    def _encode(self, params: Params, tokens: torch.Tensor, products: str, dropout: Dropout) -> Encoded:
        """Keys and values of every layer, each shape (m, t, width), and products, shape (m, products)."""
        encoded: Encoded = {}
        for layer in range(self.layers):
            normed = norm(params, f"{layer}.attention_norm", tokens)
            key, value = linear(params, f"{layer}.key_value", normed).chunk(2, dim=-1)
            encoded[f"key_{layer}"], encoded[f"value_{layer}"] = key, value
            if layer == self.layers - 1 and not self.products:
                break  # nobody reads the tokens again
            query = linear(params, f"{layer}.query", normed)
            attended = attend(query, key, value, self.heads) if tokens.shape[1] > 1 else value
            tokens = tokens + dropout(linear(params, f"{layer}.attended", attended))
            tokens = tokens + self._forward(params, layer, tokens, dropout)
        if self.products:
            encoded["products"] = linear(params, products, norm(params, "last_norm", tokens).mean(dim=1))
        return encoded

    def _forward(self, params: Params, layer: int, tokens: torch.Tensor, dropout: Dropout) -> torch.Tensor:
        from torch.nn.functional import gelu

        widened = gelu(linear(params, f"{layer}.widen", norm(params, f"{layer}.forward_norm", tokens)))
        return dropout(linear(params, f"{layer}.narrow", widened))
