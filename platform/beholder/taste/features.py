"""From raw image features to the design matrix of the reward models.

Blocks of features differ in width and scale by orders of magnitude (1,280 network columns, 78 image statistics). Each
block is standardised and given the same total variance, or the wide one drowns the narrow one; then principal
components, half whitened (a component's SD becomes the square root of what it was), because full whitening lets
noise directions speak as loudly as the first component and none leaves two or three components in charge.
Everything is learned on the training images only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beholder.errors import EstimateError, TableError
from beholder.taste.base import Floats, Indices, State, Strings
from beholder.taste.rowwise import row_products

SD_FLOOR = 0.01
"""Columns nearly constant on the training images count as this share of the block's median SD, so that a new image
that differs there cannot explode."""


def _rows_of(known: Strings, wanted: Sequence[str] | Strings, what: str) -> Indices:
    order = np.argsort(known)
    names = np.asarray(wanted, dtype=str)
    position = np.minimum(np.searchsorted(known, names, sorter=order), len(known) - 1)
    rows = order[position]
    absent = np.unique(names[known[rows] != names])
    if len(absent):
        raise TableError(
            f"{len(absent)} images have no {what}: {', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}",
            remedy="embed them first, or leave their ratings out",
        )
    return rows


@dataclass(frozen=True, eq=False)
class Features:
    """Raw features, one row an image.

    Attributes
    ----------
    image_ids : array of str, shape (n,)
        Each image once: a feature that varies between the raters of one image cannot be expressed.
    blocks : mapping of arrays, each shape (n, d_block)
        Such as `network`, `statistics`, `aligned`.
    """

    image_ids: Strings
    blocks: Mapping[str, Floats]

    def __post_init__(self) -> None:
        names, counts = np.unique(self.image_ids, return_counts=True)
        if np.any(counts > 1):
            raise TableError(
                f"image {names[counts > 1][0]!r} has {counts.max()} rows of features",
                "one row an image",
                "features belong to images, not to ratings; drop doubles",
            )
        for name, block in self.blocks.items():
            if block.ndim != 2 or len(block) != len(self.image_ids):
                raise TableError(f"block {name!r} has shape {block.shape}", f"({len(self.image_ids)}, columns)")
            if not np.all(np.isfinite(block)):
                bad = self.image_ids[~np.all(np.isfinite(block), axis=1)]
                raise TableError(f"block {name!r} has gaps or infinities in {len(bad)} images, first {bad[0]!r}")

    def take(self, image_ids: Sequence[str] | Strings) -> Features:
        """The rows of these images, in this order (each once)."""
        rows = _rows_of(self.image_ids, image_ids, "features")
        return Features(self.image_ids[rows], {name: block[rows] for name, block in self.blocks.items()})

    def with_block(self, name: str, block: Floats) -> Features:
        """The same images with one more block."""
        return Features(self.image_ids, {**self.blocks, name: block})


@dataclass(frozen=True, eq=False)
class Design:
    """The design matrix: one row an image, columns in named blocks that share a prior variance.

    Attributes
    ----------
    image_ids : array of str, shape (n,)
    matrix : array, shape (n, p)
    block_names : tuple of str
    block_sizes : tuple of int
        Columns per block, adding up to p.
    refits : tuple of Refit
        The same images by designs learned without some of them; none where rows do not depend on what was learned.
    """

    image_ids: Strings
    matrix: Floats
    block_names: tuple[str, ...]
    block_sizes: tuple[int, ...]
    refits: tuple[Refit, ...] = ()

    def rows(self, image_ids: Sequence[str] | Strings) -> Floats:
        """The rows of these images (repeats allowed), shape (len(image_ids), p)."""
        return self.matrix[_rows_of(self.image_ids, image_ids, "row in the design")]

    def slices(self) -> tuple[slice, ...]:
        """Columns of each block."""
        ends = np.cumsum(self.block_sizes).tolist()
        return tuple(slice(end - size, end) for end, size in zip(ends, self.block_sizes, strict=True))


@dataclass(frozen=True, eq=False)
class Refit:
    """How a design's training images look to a design learned without some of them.

    Attributes
    ----------
    design : Design
        Rows of all training images, turned and stretched to lie as nearly as can be where they lay: prior variances
        hold for both.
    left_out : array of str
        The images it was learned without.
    """

    design: Design
    left_out: Strings


@dataclass(frozen=True)
class Group:
    """How some raw blocks become one block of the design.

    Attributes
    ----------
    name : str
    sources : tuple of str
        Raw blocks, each given the same total variance.
    components : int
        At most this many principal components.
    weight : float
        Total variance of the block on the training images, in units of the number of components of the first group.
    whitening : float
        0 keeps the components' SDs, 1 makes them equal, 1/2 takes their square roots.
    standardise : bool
        Whether columns are scaled to SD 1 first; a block whose scales carry meaning is only centred.
    """

    name: str
    sources: tuple[str, ...]
    components: int
    weight: float = 1.0
    whitening: float = 0.5
    standardise: bool = True


IMAGE = Group("components", ("network", "statistics"), 48)
"""Half-whitened components of the image network and the image statistics.

Of 12, 24, 48 and 96, 48 ordered new images best for 40 simulated people (.631 against .623 with 96) and were as good as
96 on real ratings of 145 images, where 96 components of 118 training images fit those images too closely: errors were
1.20 times as large as said, with 48 1.07 times.
"""
ALIGNED = Group("aligned", ("aligned",), 16, weight=0.5, whitening=0.0, standardise=False)
"""The text-aligned projection (`beholder.taste.alignment`), whose scales say how well each direction is seen."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A learned, frozen map `raw blocks -> design matrix`: one centre and one projection a group.

    Attributes
    ----------
    groups : tuple of Group
    centres : tuple of arrays, each shape (d_group,)
    projections : tuple of arrays, each shape (d_group, k_group)
    """

    groups: tuple[Group, ...]
    centres: tuple[Floats, ...]
    projections: tuple[Floats, ...]

    @classmethod
    def fit(cls, features: Features, groups: Sequence[Group] = (IMAGE,)) -> FeatureMap:
        """Learn centres, scales and components from `features`: give it the training images only.

        Raises
        ------
        TableError
            If a source block is missing.
        EstimateError
            With fewer than three images, or a block that is constant on them.
        """
        if len(features.image_ids) < 3:
            raise EstimateError(f"{len(features.image_ids)} training images", "at least 3", "use fewer folds")
        centres, projections = [], []
        unit = 0
        for group in groups:
            _need_blocks(group, features.blocks)
            centre, scale = _centre_and_scale(group, features)
            values = (np.hstack([features.blocks[name] for name in group.sources]) - centre) * scale
            axes, spread = _principal_axes(values, group.components)
            unit = unit or len(spread)
            shape = spread ** (-group.whitening)
            total = float(np.sum((spread * shape) ** 2))
            centres.append(centre)
            projections.append(scale[:, None] * axes * shape * np.sqrt(group.weight * unit / total))
        return cls(tuple(groups), tuple(centres), tuple(projections))

    def transform(self, features: Features) -> Design:
        """The design matrix of any images; a row's bits do not depend on the other rows."""
        parts = []
        for group, centre, projection in zip(self.groups, self.centres, self.projections, strict=True):
            _need_blocks(group, features.blocks)
            raw = np.hstack([features.blocks[name] for name in group.sources])
            if raw.shape[1] != len(centre):
                raise TableError(f"{group.sources} has {raw.shape[1]} columns", f"{len(centre)} as at fitting")
            parts.append(row_products(raw - centre, projection))
        sizes = tuple(p.shape[1] for p in self.projections)
        return Design(features.image_ids, np.hstack(parts), tuple(g.name for g in self.groups), sizes)

    def state(self) -> State:
        """Arrays and JSON values that make the same map again."""
        arrays = {}
        for i, (centre, projection) in enumerate(zip(self.centres, self.projections, strict=True)):
            arrays[f"centre_{i}"], arrays[f"projection_{i}"] = centre, projection
        return State(arrays, {"groups": [{**vars(g), "sources": list(g.sources)} for g in self.groups]})

    @classmethod
    def from_state(cls, state: State) -> FeatureMap:
        """The map that `state` came from."""
        groups = tuple(_group(g) for g in state.settings["groups"])
        centres = tuple(state.arrays[f"centre_{i}"] for i in range(len(groups)))
        return cls(groups, centres, tuple(state.arrays[f"projection_{i}"] for i in range(len(groups))))


def _group(settings: Mapping[str, Any]) -> Group:
    return Group(**{**settings, "sources": tuple(settings["sources"])})


def _need_blocks(group: Group, blocks: Mapping[str, Floats]) -> None:
    missing = [name for name in group.sources if name not in blocks]
    if missing:
        raise TableError(f"group {group.name!r} needs blocks {missing}", f"blocks there: {sorted(blocks)}")


def _centre_and_scale(group: Group, features: Features) -> tuple[Floats, Floats]:
    """Column means and factors that give every source block total variance 1, each shape (d_group,)."""
    centres, scales = [], []
    for name in group.sources:
        block = features.blocks[name]
        sd = block.std(axis=0)
        if not np.any(sd > 0):
            raise EstimateError(f"block {name!r} is the same for all {len(block)} training images")
        factor = 1.0 / np.maximum(sd, SD_FLOOR * np.median(sd[sd > 0])) if group.standardise else np.ones_like(sd)
        centres.append(block.mean(axis=0))
        scales.append(factor / np.sqrt(np.sum((sd * factor) ** 2)))
    return np.concatenate(centres), np.concatenate(scales)


def _principal_axes(values: Floats, components: int) -> tuple[Floats, Floats]:
    """Leading principal axes, shape (d, k), and the SDs along them, shape (k,); signs fixed by the largest loading."""
    n, d = values.shape
    if n < d:  # the small Gram matrix has the same eigenvalues
        eigenvalues, vectors = np.linalg.eigh(values @ values.T / n)
        axes = values.T @ vectors
    else:
        eigenvalues, axes = np.linalg.eigh(values.T @ values / n)
    order = np.argsort(-eigenvalues)[: min(components, n - 1)]
    order = order[eigenvalues[order] > 1e-9 * eigenvalues.max()]
    axes = axes[:, order] / np.linalg.norm(axes[:, order], axis=0)
    signs = np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(len(order))])
    return axes * signs, np.sqrt(eigenvalues[order])
