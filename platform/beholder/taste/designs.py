"""The design matrix of one split: learned from pictures and prompts, never from ratings or from what is tested.

The order matters. The text-aligned projection is fitted first, on images with prompts, rated or not; its cross-fitted
values stand for the images it was fitted on, its transform for all others; then the components of every block are
learned. A `LearnedDesign` remembers which images and prompts it has seen and refuses to describe others of the same
prompts as new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EstimateError, TableError
from beholder.taste.alignment import Alignment, fit_alignment
from beholder.taste.base import Floats, Strings
from beholder.taste.features import ALIGNED, IMAGE, Design, FeatureMap, Features, Group, Refit
from beholder.taste.leaks import LeakError
from beholder.taste.splits import group_folds

ALIGNMENT_FOLDS = 5
REFITS, MANY_IMAGES = 3, 1000
"""Designs learned without a fold of the prompts; with more than so many images one says enough."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is known of images without asking anybody.

    Attributes
    ----------
    features : Features
        Raw blocks of n images, rated or not.
    prompt_ids : array of str, shape (n,)
        The prompt of each image; images of one prompt stay together.
    texts : array, shape (n, t), optional
        Mean embedding of the clauses of each image's prompt. Without it there is no text-aligned block.
    """

    features: Features
    prompt_ids: Strings
    texts: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.features.image_ids)
        lengths = {"prompt_ids": len(self.prompt_ids), "texts": n if self.texts is None else len(self.texts)}
        if set(lengths.values()) != {n}:
            raise TableError(f"{n} images with {lengths}", "one entry an image")
        if self.texts is not None and not np.all(np.isfinite(self.texts)):
            raise TableError("gaps or infinities in the embeddings of prompts")

    def take(self, keep: np.ndarray) -> Pictures:
        """The images `keep` (positions or a mask)."""
        texts = None if self.texts is None else self.texts[keep]
        return Pictures(self.features.take(self.features.image_ids[keep]), self.prompt_ids[keep], texts)


@dataclass(frozen=True, eq=False)
class LearnedDesign:
    """A frozen map from pictures to a design, and the design of the pictures it was learned on.

    Attributes
    ----------
    map : FeatureMap
    alignment : Alignment or None
    training : Design
        Rows of the images it was learned on, from cross-fitted values.
    prompt_ids : array of str
        The distinct prompts it was learned on.
    """

    map: FeatureMap
    alignment: Alignment | None
    training: Design
    prompt_ids: Strings

    def transform(self, features: Features) -> Design:
        """The design of images of other prompts; a row's bits do not depend on the other rows."""
        if self.alignment is not None:
            features = features.with_block(ALIGNED.name, self.alignment.transform(features))
        return self.map.transform(features)

    def with_new(self, pictures: Pictures) -> Design:
        """The design of the training images and of these new ones.

        Raises
        ------
        LeakError
            If an image or a prompt of `pictures` was among those the design was learned on.
        """
        for what, mine, theirs in (
            ("images", self.training.image_ids, pictures.features.image_ids),
            ("prompts", self.prompt_ids, pictures.prompt_ids),
        ):
            both = np.intersect1d(mine, theirs)
            if len(both):
                raise LeakError(
                    f"the design was learned on {len(both)} {what} that are to be tested, first {str(both[0])!r}",
                    "a design that has not seen them",
                    "learn it on the training side only",
                )
        new = self.transform(pictures.features)
        return Design(
            np.concatenate([self.training.image_ids, new.image_ids]),
            np.vstack([self.training.matrix, new.matrix]),
            new.block_names,
            new.block_sizes,
            self.training.refits,
        )


def learn_design(
    pictures: Pictures, rng: np.random.Generator, *, image: Group = IMAGE, aligned: Group | None = ALIGNED
) -> LearnedDesign:
    """Learn projection, centres, scales and components: give it the training side's pictures only.

    Parameters
    ----------
    pictures : Pictures
        Images with or without ratings. With `texts` the text-aligned block is added.
    rng : numpy.random.Generator
        Draws the folds in which the projection is cross-fitted.
    image, aligned : Group
        How the raw blocks become the design's; `aligned=None` leaves the text-aligned block out.

    Raises
    ------
    EstimateError
        With fewer prompts than folds of the projection, or fewer than three images.
    """
    features, groups, alignment = pictures.features, _groups(image, None), None
    if aligned is not None and pictures.texts is not None:
        fit = fit_alignment(
            features,
            pictures.texts,
            pictures.prompt_ids,
            rng,
            sources=image.sources,
            components=aligned.components,
            n_folds=ALIGNMENT_FOLDS,
        )
        features, alignment = features.with_block(ALIGNED.name, fit.crossfitted), fit.alignment
        groups = _groups(image, aligned)
    learned = FeatureMap.fit(features, groups)
    training = learned.transform(features)
    # A stream of its own: what callers draw after this does not depend on how many folds there are.
    refits = _refits(features, groups, pictures.prompt_ids, training, rng.spawn(1)[0])
    training = replace(training, refits=refits)
    return LearnedDesign(learned, alignment, training, np.unique(pictures.prompt_ids))


def _refits(
    features: Features, groups: Sequence[Group], prompt_ids: Strings, training: Design, rng: np.random.Generator
) -> tuple[Refit, ...]:
    """The design learned again without each fold of the prompts, as far as something can be learned without it.

    Values of the projection are cross-fitted already: they are taken as they are.
    """
    n_folds = min(REFITS, len(np.unique(prompt_ids)))
    if n_folds < 2:
        return ()
    folds, found = group_folds(prompt_ids, n_folds, rng), []
    for fold in range(n_folds if len(prompt_ids) <= MANY_IMAGES else 1):
        inside = folds != fold
        names = features.image_ids[inside]
        try:
            again = FeatureMap.fit(features.take(names), groups).transform(features)
        except EstimateError:  # a block that is constant without the fold
            continue
        blocks = zip(training.slices(), again.slices(), strict=True)
        turned = [_turned(again.matrix[:, b], training.matrix[:, a], inside) for a, b in blocks]
        design = replace(training, matrix=np.hstack(turned))
        found.append(Refit(design, features.image_ids[~inside]))
    return tuple(found)


def _turned(rows: Floats, target: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Rows of one block in the target's axes, with its total variance over the images inside (Schoenemann 1966)."""
    left, _, right = np.linalg.svd(rows[inside].T @ target[inside], full_matrices=False)
    stretch = np.sqrt(np.mean(target**2) / np.mean(rows[inside] ** 2) * target.shape[1] / rows.shape[1])
    return np.asarray(stretch * (rows @ (left @ right)))


def _groups(image: Group, aligned: Group | None) -> Sequence[Group]:
    return (image,) if aligned is None else (image, aligned)
