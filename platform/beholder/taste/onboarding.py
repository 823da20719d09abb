"""Which images to show somebody new: the few ratings that say most about how that person orders all the others.

In a Gaussian linear model the information in a rating does not depend on its value. So a set can be chosen once, the
same for everybody, and before anybody has answered; a sequence needs to be chosen anew only where somebody has skipped
images, or rated others already. Both are the same greedy step of A-optimal design: the image whose rating most
reduces the mean variance of the expected ratings over the images that matter, levels left out (a person's level does
not order images).

Source: greedy A-optimality, such as Chaloner and Verdinelli, Bayesian experimental design: a review, Statistical
Science 10 (1995), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beholder.errors import EstimateError, TableError, UserError
from beholder.taste.base import Floats, Strings
from beholder.taste.features import Design
from beholder.taste.linear import Belief, with_intercept

LEVERAGE_QUANTILE = 0.99


@dataclass(frozen=True, eq=False)
class Pool:
    """Images that may be shown to newcomers.

    Attributes
    ----------
    image_ids : array of str, shape (n,)
    rows : array, shape (n, 1 + p)
        Of the design, with the intercept.
    prompt_ids : array of str, shape (n,)
    noise_variance : array, shape (n,)
        Of a rating round what the design says: a person's noise and what the design does not carry about an image.
    n_guarded : int
        Images that were left out for their leverage.
    """

    image_ids: Strings
    rows: Floats
    prompt_ids: Strings
    noise_variance: Floats
    n_guarded: int

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True, eq=False)
class Onboarding:
    """Images in the order in which they are to be shown.

    Attributes
    ----------
    image_ids : tuple of str, length n
    doubt : array, shape (n + 1,)
        Mean variance (ticks squared) of a newcomer's expected ratings of the target images, level left out, before any
        rating and after each. The true one is larger where taste is not linear in the design.
    """

    image_ids: tuple[str, ...]
    doubt: Floats


def make_pool(
    design: Design,
    prompt_ids: Strings,
    noise_variance: Floats | float,
    leverage_quantile: float = LEVERAGE_QUANTILE,
) -> Pool:
    """The images of a design that may be shown, without those that lie far out.

    An image with extreme features looks informative to a linear model, and is where the model is least to be trusted.

    Parameters
    ----------
    design : Design
        n images.
    prompt_ids : array of str, shape (n,)
    noise_variance : float or array of shape (n,)
        Above 0.
    leverage_quantile : float
        Images with a leverage (Mahalanobis distance in the design, ridge of a thousandth of its mean variance) above
        this quantile of the pool are left out; 1 keeps all.

    Raises
    ------
    EstimateError
        Without an image, or with a noise variance that is not above 0.
    """
    n = len(design.image_ids)
    if len(prompt_ids) != n:
        raise TableError(f"{len(prompt_ids)} prompts of {n} images", "one prompt an image")
    if not 0 < leverage_quantile <= 1:
        raise UserError(f"leverage_quantile {leverage_quantile}", "above 0, at most 1")
    noise = np.broadcast_to(np.asarray(noise_variance, dtype=np.float64), (n,))
    if n == 0 or np.any(noise <= 0):
        raise EstimateError("a pool without images, or noise variances that are not above 0")
    x = design.matrix - design.matrix.mean(axis=0)
    gram = x.T @ x / n
    gram[np.diag_indices_from(gram)] += 1e-3 * np.trace(gram) / len(gram) + 1e-300
    leverage = np.einsum("np,np->n", x, np.linalg.solve(gram, x.T).T)
    keep = leverage <= np.quantile(leverage, leverage_quantile)
    rows = with_intercept(design.matrix)[keep]
    return Pool(design.image_ids[keep], rows, prompt_ids[keep], noise[keep].copy(), int(np.sum(~keep)))


def onboarding_set(newcomer: Belief, pool: Pool, target: Floats, n: int, per_prompt: int = 1) -> Onboarding:
    """The fixed set: n images, the most informative first.

    Parameters
    ----------
    newcomer : Belief
        About (intercept, coefficients) of a person of whom nothing is known, q = 1 + p.
    pool : Pool
    target : array, shape (m, p)
        Design rows of the images that are to be ordered.
    n : int
    per_prompt : int
        At most so many images of one prompt, as long as others are left: people are asked about different things.

    Raises
    ------
    UserError
        With more images asked for than there are.

    Notes
    -----
    Assumes Gaussian ratings, tastes linear in the design and the newcomer's prior. Where tastes bend, the gain over
    images drawn at random shrinks; check with real newcomers. Cost is n passes over the pool.
    """
    if not 0 <= n <= len(pool):
        raise UserError(f"an onboarding set of {n} images", f"0...{len(pool)}, the images of the pool")
    spread = _spread(target)
    covariance = newcomer.covariance.copy()
    chosen: list[int] = []
    doubt = [float(np.sum(spread * covariance))]
    for _ in range(n):
        best = _next(covariance, pool, spread, chosen, per_prompt)
        chosen.append(best)
        covariance = _after(covariance, pool.rows[best], float(pool.noise_variance[best]))
        doubt.append(float(np.sum(spread * covariance)))
    return Onboarding(tuple(pool.image_ids[chosen].tolist()), np.array(doubt))


def next_image(belief: Belief, pool: Pool, target: Floats, shown: Sequence[str], per_prompt: int = 1) -> str:
    """The image to show next to somebody of whom `belief` is known and who has seen `shown` (rated or skipped).

    Raises
    ------
    EstimateError
        If every image of the pool was shown.
    """
    taken = np.flatnonzero(np.isin(pool.image_ids, np.asarray(shown, dtype=str))).tolist()
    if len(taken) == len(pool):
        raise EstimateError("every image of the pool was shown", remedy="give a larger pool, or stop asking")
    best = _next(belief.covariance, pool, _spread(target), taken, per_prompt)
    return str(pool.image_ids[best])


def _spread(target: Floats) -> Floats:
    """Covariance of the target's rows with a zero for the intercept, shape (q, q)."""
    if len(target) < 2:
        raise EstimateError(f"{len(target)} target images", "2 or more, or there is nothing to order")
    x = target - target.mean(axis=0)
    spread = np.zeros((x.shape[1] + 1, x.shape[1] + 1))
    spread[1:, 1:] = x.T @ x / len(x)
    return spread


def _next(covariance: Floats, pool: Pool, spread: Floats, taken: Sequence[int], per_prompt: int) -> int:
    """Position of the image whose rating takes most off `sum(spread * covariance)`; of equals the first."""
    crossed = pool.rows @ covariance
    gain = np.einsum("nq,nq->n", crossed @ spread, crossed)
    gain /= pool.noise_variance + np.einsum("nq,nq->n", crossed, pool.rows)
    open_ = np.ones(len(pool), dtype=bool)
    open_[list(taken)] = False
    prompts, counts = np.unique(pool.prompt_ids[list(taken)], return_counts=True)
    fresh = open_ & ~np.isin(pool.prompt_ids, prompts[counts >= per_prompt])
    return int(np.argmax(np.where(fresh if fresh.any() else open_, gain, -np.inf)))


def _after(covariance: Floats, row: Floats, noise_variance: float) -> Floats:
    """The covariance when one image was rated."""
    v = covariance @ row
    smaller = covariance - np.outer(v, v) / (noise_variance + float(row @ v))
    return (smaller + smaller.T) / 2
