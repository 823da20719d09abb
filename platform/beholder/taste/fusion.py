"""The fusion predictor: an ensemble of shallow transformers over what is known of an image and of a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from analysis.pairs import accuracy_by_user
from beholder.errors import UserError
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.cross_fit import CrossFit
from beholder.taste.features import Design
from beholder.taste.fusion_network import FusionNetwork
from beholder.taste.network_fit import Trainer, cross_fit_networks, fit_networks, in_turn
from beholder.taste.network_scores import Known
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.networks import Training
from beholder.taste.people import People

TRAINING = Training(epochs=5, patience=2, start_sd=0.1, ranking=0.3, user_dropout=0.1, told_dropout=0.1)
DEFAULT = FusionNetwork()
LIGHT = FusionNetwork(width=128, layers=2, heads=4)
"""A fifth of the default's cost, for stacks and for small sets of ratings."""
SMALL = FusionNetwork(width=32, layers=2, heads=4, embedding=8, products=8)
"""Enough to see that everything works, on a few hundred ratings."""


@dataclass(frozen=True)
class Fusion:
    """The fusion predictor (`beholder.taste.fusion_network`), trained on all data sets together.

    Attributes
    ----------
    network : FusionNetwork
    training : Training
    trainer : Trainer
        Who trains the members: no part of what the model is.
    """

    network: FusionNetwork = DEFAULT
    training: Training = TRAINING
    trainer: Trainer = field(default=in_turn, repr=False, compare=False)

    @property
    def name(self) -> str:
        """`fusion`, or `fusion_light` with the network of stacks."""
        return "fusion_light" if self.network == LIGHT else "fusion"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> NetworkTaste:
        """Train the ensemble; `rng` draws folds and seeds.

        Raises
        ------
        EstimateError
            With too few users, repeats or prompts, or ratings that do not vary.
        """
        return fit_networks(self.name, self.network, self.training, ratings, design, rng, people, self.trainer)

    def cross_fit(
        self,
        ratings: Ratings,
        design: Design,
        folds: Indices,
        tested: int,
        rng: np.random.Generator,
        people: People | None = None,
    ) -> CrossFit:
        """`fit` with members stopped by `folds`, and what they say of them (see `beholder.taste.cross_fit`)."""
        return cross_fit_networks(
            self.name, self.network, self.training, ratings, design, folds, tested, rng, people, self.trainer
        )


@dataclass(frozen=True)
class TokenEffect:
    """What masking one token does to predictions of some ratings.

    Attributes
    ----------
    token : str
        A block of the design, `user`, a demographic, `profile` or `dataset`; `nothing` is the model as it is.
    accuracy : float
        Mean over users of pairwise accuracy without the token.
    rmse : float
        Without the token, ticks.
    shift : float
        Root mean square change of the predictions, ticks.
    """

    token: str
    accuracy: float
    rmse: float
    shift: float


@dataclass(frozen=True, eq=False)
class Masked:
    """A fitted model that does not see one token.

    Attributes
    ----------
    token : str
        As in `TokenEffect`.
    model : NetworkTaste
    known : Known
        The people it knows, without what the token tells of them.
    columns : slice
        Of the design's rows, those that do not count; none where the token is of the person.
    stead : array, shape (columns,)
        What stands in their place.
    """

    token: str
    model: NetworkTaste
    known: Known
    columns: slice
    stead: Floats

    def predict_mean(self, user_ids: Sequence[str] | Strings, matrix: Floats) -> Floats:
        """Row i: what `user_ids[i]`, whom the model knows, is expected to think of the image `matrix[i]`.

        Levels and the scales of data sets stay as they are.
        """
        who = np.searchsorted(self.model.user_ids, np.asarray(user_ids, dtype=str))
        rows = matrix.copy()
        rows[:, self.columns] = self.stead
        return _predicted(self.model, self.known, who, rows)


def maskings(model: NetworkTaste, design: Design, rows: Floats) -> tuple[Masked, ...]:
    """The model as it is (`nothing`), then without each token in turn.

    Blocks are put to their mean over `rows`, the user to nobody, the rest to unknown.

    Raises
    ------
    UserError
        If the design has other blocks than the model was trained on.
    """
    blocks = model.inputs[: len(model.block_sizes)]
    if tuple(design.block_names) != blocks:
        raise UserError(f"a design of blocks {', '.join(design.block_names)}", ", ".join(blocks))
    none = slice(0, 0)
    found = [Masked("nothing", model, model.known, none, np.empty(0))]
    for name, columns in zip(design.block_names, design.slices(), strict=True):
        found.append(Masked(name, model, model.known, columns, rows[:, columns].mean(axis=0)))
    masks = _masks(model).items()
    return (*found, *(Masked(name, model, mask(model.known), none, np.empty(0)) for name, mask in masks))


def token_effects(model: NetworkTaste, ratings: Ratings, design: Design) -> tuple[TokenEffect, ...]:
    """Mask each token in turn: blocks at their mean over these images, the user as nobody, the rest as unknown.

    Parameters
    ----------
    model : NetworkTaste
        Knows the users of `ratings`; their levels and the scales of their data sets stay as they are.
    ratings : Ratings
        Best of images that the model was not trained on.
    design : Design

    Raises
    ------
    UserError
        If the design has other blocks than the model was trained on.
    """
    rows = design.rows(ratings.image_id)
    each = [(masked.token, masked.predict_mean(ratings.user_id, rows)) for masked in maskings(model, design, rows)]
    return tuple(_effect(token, found, each[0][1], ratings) for token, found in each)


def _masks(model: NetworkTaste) -> dict[str, Callable[[Known], Known]]:
    """How each token of a person is masked."""

    def nobody(known: Known) -> Known:
        means = np.stack([prior.mean for prior in model.priors]).astype(np.float32)
        return replace(known, embeddings=np.broadcast_to(means[:, None], known.embeddings.shape))

    def unknown(k: int) -> Callable[[Known], Known]:
        def mask(known: Known) -> Known:
            categories = known.told.categories.copy()
            categories[:, k] = 0
            return replace(known, told=replace(known.told, categories=categories))

        return mask

    masks: dict[str, Callable[[Known], Known]] = {"user": nobody}
    masks |= {name: unknown(k) for k, name in enumerate(model.vocabulary.demographics)}
    if "profile" in model.inputs:
        masks["profile"] = lambda known: replace(
            known, told=replace(known.told, profiles=np.zeros_like(known.told.profiles))
        )
    if "dataset" in model.inputs:
        masks["dataset"] = lambda known: replace(
            known, told=replace(known.told, dataset=np.zeros_like(known.told.dataset))
        )
    return masks


def _predicted(model: NetworkTaste, known: Known, who: np.ndarray, rows: Floats) -> Floats:
    """Mean predictions by what is left of `known`, on the scale of everybody's own data set."""
    set_of = model.known.told.dataset[who]
    output = model.outputs(known, who, rows).mean(axis=0)
    return model.scaling.centre[set_of] + model.known.levels[who] + model.scaling.scale[set_of] * output


def _effect(token: str, masked: Floats, whole: Floats, ratings: Ratings) -> TokenEffect:
    _, who = np.unique(ratings.user_id, return_inverse=True)
    accuracy = accuracy_by_user(who, ratings.score, masked, [0]).accuracy[:, 0]
    rmse = float(np.sqrt(np.mean((ratings.score - masked) ** 2)))
    return TokenEffect(token, float(np.nanmean(accuracy)), rmse, float(np.sqrt(np.mean((masked - whole) ** 2))))
