"""Votes of simulated people with known win rates, as tables of `analysis`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize
from scipy.special import expit, ndtri, roots_hermitenorm

NODES, WEIGHTS = roots_hermitenorm(81)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def normal_mean(function: Callable[[np.ndarray], np.ndarray], centre: float, sd: float) -> np.ndarray:
    """Mean of `function` over a normal; the function maps (81,) to (81,) or (81, k)."""
    return np.asarray(WEIGHTS @ function(centre + sd * NODES))


@lru_cache(maxsize=64)
def logit_for(rate: float, sd: float, shifts: tuple[float, ...] = (0.0,)) -> float:
    """Centre of normal log odds at which the mean chance, also over fixed shifts, is `rate`."""

    def excess(centre: float) -> float:
        return float(np.mean([normal_mean(expit, centre + shift, sd) for shift in shifts])) - rate

    return float(brentq(excess, -20, 20, xtol=1e-12))


def balanced_shifts(n: int, sd: float) -> np.ndarray:
    """Fixed effects of `n` prompts in pairs of opposite sign: with symmetric people they leave a mean of one half."""
    normal = ndtri((np.arange(n) + 0.5) / n)
    return np.asarray(sd * normal / normal.std())


def named(codes: np.ndarray, names: Sequence[str]) -> pd.Categorical[str]:
    """Codes as the texts they stand for."""
    return pd.Categorical.from_codes(np.asarray(codes, dtype=np.int64), pd.Index(list(names)))


def ids(codes: np.ndarray, letter: str, n: int) -> pd.Categorical[str]:
    """Codes as text ids."""
    return named(codes, [f"{letter}{k}" for k in range(n)])


def own_other_votes(
    people: np.ndarray, items: np.ndarray, won: np.ndarray, rng: np.random.Generator, sources: np.ndarray | None = None
) -> pd.DataFrame:
    """Votes between `own` and `other` on random sides; `sources` are the persons the other image was made for."""
    left = rng.random(len(won)) < 0.5
    names = ["own", "other"]
    n_people = int(people.max()) + 1 if sources is None else int(max(people.max(), sources.max())) + 1
    table = {
        "participant_id": ids(people, "p", n_people),
        "prompt_id": ids(items, "i", int(items.max()) + 1),
        "left_condition": named(~left, names),
        "right_condition": named(left, names),
        "choice": named(won != left, ["left", "right"]),
    }
    if sources is not None:
        table["left_source_user"] = ids(np.where(left, people, sources), "p", n_people)
        table["right_source_user"] = ids(np.where(left, sources, people), "p", n_people)
    return pd.DataFrame(table)


def pair_probabilities(eta: np.ndarray, nu: float) -> np.ndarray:
    """Win, loss and tie at log odds `eta` by Davidson's model, shape (..., 3)."""
    odds = np.stack([np.exp(eta / 2), np.exp(-eta / 2), np.full_like(eta, nu)], axis=-1)
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def condition_votes(
    utility: np.ndarray, share: float, nu: float, names: tuple[str, ...], rng: np.random.Generator
) -> pd.DataFrame:
    """Votes on pairs of conditions: each participant, prompt and pair with probability `share`.

    `utility` has shape (participants, prompts, conditions).
    """
    n_people, n_items, k = utility.shape
    first, second = np.triu_indices(k, 1)
    people, items, pair = np.nonzero(rng.random((n_people, n_items, len(first))) < share)
    swap = rng.random(len(pair)) < 0.5
    left, right = np.where(swap, second[pair], first[pair]), np.where(swap, first[pair], second[pair])
    p = pair_probabilities(utility[people, items, left] - utility[people, items, right], nu)
    choice = (rng.random(len(p))[:, None] > p[:, :2].cumsum(axis=1)).sum(axis=1)
    return pd.DataFrame(
        {
            "participant_id": ids(people, "p", n_people),
            "prompt_id": ids(items, "i", n_items),
            "left_condition": named(left, names),
            "right_condition": named(right, names),
            "choice": named(choice, ["left", "right", "tie"]),
        }
    )


@lru_cache(maxsize=16)
def true_strengths(strengths: tuple[float, ...], nu: float, sd: float) -> tuple[tuple[float, ...], np.ndarray]:
    """Where strengths fitted to ever more votes go when utilities vary by `sd`, and the true win rates (k, k).

    Differences of utilities are normal with variance 2 sd^2, so the mean chances belong to no single set of strengths;
    the limit maximises the expected likelihood. The first strength is 0.
    """
    k = len(strengths)
    first, second = np.triu_indices(k, 1)
    gaps = np.subtract.outer(strengths, strengths)[first, second]
    p = np.array([normal_mean(lambda eta: pair_probabilities(eta, nu), gap, np.sqrt(2) * sd) for gap in gaps])

    def loss(theta: np.ndarray) -> float:
        free = np.concatenate([[0.0], theta[:-1]])
        return -float((p * np.log(pair_probabilities(free[first] - free[second], np.exp(theta[-1])))).sum())

    fit = minimize(loss, np.zeros(k), method="BFGS", options={"gtol": 1e-9})
    rates = np.full((k, k), 0.5)
    rates[first, second] = p[:, 0] + p[:, 2] / 2
    rates[second, first] = 1 - rates[first, second]
    return (0.0, *fit.x[:-1].tolist()), rates
