"""Simulated worlds at the size of a large study: 205 users, 5,077 images with 14 ratings each, 64 image features.

Within a user, ratings have variance 1 before they become ticks: shared taste linear in the features .17 and not linear
.05, image effects no feature shows .08, private taste the features show .15 and do not show .15, noise .40. The private
taste comes in three kinds: `linear` (four common directions and an own part), `clustered` (five groups and an own
part) and `nonlinear` (the same as linear, over 48 saturating functions of the features).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from analysis.pairs import user_accuracy
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.features import Design, Features
from beholder.taste.people import People

Truth = Literal["linear", "clustered", "nonlinear"]
TRUTHS: tuple[Truth, ...] = get_args(Truth)
TICKS, MIDDLE, LEVEL_SD = 150.0, 500.0, 0.4
PARTS = {"linear": 0.17, "curved": 0.05, "image": 0.08, "private": 0.15, "hidden": 0.15, "noise": 0.40}
"""Variances within a user."""


@dataclass(frozen=True, eq=False)
class PaperWorld:
    """Ratings, the design they are to be predicted from, and what is true of them.

    Attributes
    ----------
    ratings : Ratings
        Everybody's, of all images; ticks.
    design : Design
        One block `components`; the columns' variances fall off like k^-.7, on average 1.
    people : People
        `age` and `gender` of each user; they say something of taste where `told` is above 0.
    shown : array, shape (U, I)
        Expected ratings as far as the features can show them: shared + private taste + the user's level, ticks.
    shared : array, shape (I,)
        The mean person's taste with the image effects, ticks: the best that knows no persons.
    effects : array, shape (I,)
        The image effects, ticks.
    known_users, new_users, training_images, test_images : array of str
        A split by user (4 to 1) and by image (4 to 1).
    """

    ratings: Ratings
    design: Design
    people: People
    shown: Floats
    shared: Floats
    effects: Floats
    known_users: Strings
    new_users: Strings
    training_images: Strings
    test_images: Strings

    @property
    def features(self) -> Features:
        """The features as a raw block `network`."""
        return Features(self.design.image_ids, {"network": self.design.matrix})

    def training(self) -> Ratings:
        """Known users' ratings of training images."""
        return self._of(self.known_users, self.training_images)

    def test(self) -> Ratings:
        """Known users' ratings of test images."""
        return self._of(self.known_users, self.test_images)

    def new_test(self) -> Ratings:
        """New users' ratings of test images."""
        return self._of(self.new_users, self.test_images)

    def context(self, size: int, rng: np.random.Generator) -> Ratings:
        """`size` ratings (at most) of training images by each new user, drawn at random."""
        pool = self._of(self.new_users, self.training_images)
        order = rng.permutation(len(pool))
        position = np.empty(len(pool), dtype=int)
        for user in pool.users().tolist():
            mine = order[pool.user_id[order] == user]
            position[mine] = np.arange(len(mine))
        return pool.take(position < size)

    def answers(self, user: str, images: Strings, rng: np.random.Generator) -> Ratings:
        """What `user` would say of these images now; each image is its own prompt."""
        row = int(np.searchsorted(self.people.user_ids, user))
        columns = np.searchsorted(self.design.image_ids, images)
        noise = TICKS * np.sqrt(PARTS["hidden"] + PARTS["noise"]) * rng.standard_normal(len(images))
        ticks = np.clip(np.round(self.shown[row, columns] + self.effects[columns] + noise), 0, 1000)
        return Ratings(np.full(len(images), user), images, images, ticks)

    def truth(self, ratings: Ratings) -> Floats:
        """`shown` of each of the ratings, shape (n,)."""
        who, which = self._positions(ratings)
        return self.shown[who, which]

    def crowd(self, ratings: Ratings) -> Floats:
        """`shared` of each of the ratings, shape (n,)."""
        return self.shared[self._positions(ratings)[1]]

    def _positions(self, ratings: Ratings) -> tuple[Indices, Indices]:
        """Rows and columns of `shown`; user and image ids are sorted."""
        who = np.searchsorted(self.people.user_ids, ratings.user_id)
        return who, np.searchsorted(self.design.image_ids, ratings.image_id)

    def _of(self, users: Strings, images: Strings) -> Ratings:
        keep = np.isin(self.ratings.user_id, users) & np.isin(self.ratings.image_id, images)
        return self.ratings.take(keep)


def paper_world(
    truth: Truth,
    rng: np.random.Generator,
    *,
    n_users: int = 205,
    n_images: int = 5077,
    raters: int = 14,
    dims: int = 64,
    images_per_prompt: int = 1,
    told: float = 0.0,
) -> PaperWorld:
    """Draw a world.

    Parameters
    ----------
    truth : `linear`, `clustered` or `nonlinear`
        Kind of private taste.
    rng : numpy.random.Generator
    n_users, n_images, raters, dims : int
        Users, images, ratings an image, columns of the design.
    images_per_prompt : int
        Images that share a prompt id. They have nothing else in common.
    told : float
        Share of the private taste's variance that people of one age and gender have in common.
    """
    spectrum = np.arange(1, dims + 1) ** -0.7
    x = rng.standard_normal((n_images, dims)) * np.sqrt(spectrum / spectrum.sum())
    curved = np.tanh(3 * x @ rng.standard_normal((dims, 32))) @ rng.standard_normal(32)
    common = _scaled(x @ rng.standard_normal(dims), PARTS["linear"]) + _scaled(curved, PARTS["curved"])
    age, gender = rng.integers(0, 4, n_users), rng.integers(0, 2, n_users)
    basis = np.tanh(4 * x @ rng.standard_normal((dims, 48))) if truth == "nonlinear" else x
    basis = basis - basis.mean(axis=0)
    weights = np.sqrt(1 - told) * _tastes(truth, n_users, basis.shape[1], rng)
    weights += np.sqrt(told) * _tastes("linear", 8, basis.shape[1], rng)[2 * age + gender]
    private = np.stack([_scaled(row, PARTS["private"]) for row in weights @ basis.T])
    effects = np.sqrt(PARTS["image"]) * rng.standard_normal(n_images)
    level = LEVEL_SD * rng.standard_normal((n_users, 1))

    which = np.repeat(np.arange(n_images), raters)
    who = np.concatenate([rng.choice(n_users, raters, replace=False) for _ in range(n_images)])
    spread = np.sqrt(PARTS["hidden"] + PARTS["noise"])  # a pair is rated once, so the two look the same
    score = (common + effects + level + private)[who, which] + spread * rng.standard_normal(len(who))
    users = np.array([f"u{u:04d}" for u in range(n_users)])
    images = np.array([f"i{i:05d}" for i in range(n_images)])
    prompts = np.array([f"p{i // images_per_prompt:05d}" for i in range(n_images)])
    ticks = np.clip(np.round(MIDDLE + TICKS * score), 0, 1000)
    new = rng.permutation(n_users) >= round(0.8 * n_users)
    tested = (rng.permutation(n_images // images_per_prompt + 1) % 5 == 0)[np.arange(n_images) // images_per_prompt]
    return PaperWorld(
        Ratings(users[who], images[which], prompts[which], ticks),
        Design(images, x * np.sqrt(dims), ("components",), (dims,)),
        People(users, {"age": np.array([f"{2 + a}0-{2 + a}9" for a in age]), "gender": np.array(["f", "m"])[gender]}),
        MIDDLE + TICKS * (common + level + private),
        MIDDLE + TICKS * (common + effects),
        TICKS * effects,
        users[~new],
        users[new],
        images[~tested],
        images[tested],
    )


def pairwise_accuracy(predicted: Floats, ratings: Ratings) -> float:
    """Mean over users of the share of their pairs, rated unequally, that `predicted` orders as they did."""
    each = [(ratings.score[m], predicted[m]) for m in (ratings.user_id == u for u in ratings.users())]
    return float(np.nanmean([user_accuracy(score, mine).accuracy for score, mine in each]))


def _tastes(truth: Truth, n: int, d: int, rng: np.random.Generator) -> Floats:
    """Weights of n people on d functions of an image, shape (n, d)."""
    own = 0.5 * rng.standard_normal((n, d))
    if truth == "clustered":
        tastes = rng.standard_normal((5, d))[rng.integers(0, 5, n)] + own
        return tastes - tastes.mean(axis=0)
    return rng.standard_normal((n, 4)) @ rng.standard_normal((4, d)) / 2 + own


def _scaled(values: Floats, variance: float) -> Floats:
    return np.sqrt(variance) * (values - values.mean()) / values.std()
