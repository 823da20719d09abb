"""How scorers turn a network's output into one number. Arrays in, arrays out; no network here."""

from __future__ import annotations

import numpy as np

LEVELS = ("excellent", "good", "fair", "poor", "bad")
"""Words whose probabilities Q-Align and DeQA-Score read, best first."""
LEVEL_WEIGHTS = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
IMAGE_REWARD_MEAN = 0.16717362830052426
IMAGE_REWARD_SD = 1.0333394966054072
"""Mean and standard deviation of raw rewards in ImageReward's training set (Xu et al. 2023, arXiv 2304.05977)."""


def expected_level(logits: np.ndarray) -> np.ndarray:
    """Expected level, 1 (bad) to 5 (excellent): softmax over the five level words, times 5, 4, 3, 2, 1.

    Parameters
    ----------
    logits : np.ndarray
        Shape (n, 5), in the order of `LEVELS`.

    Notes
    -----
    Wu et al. 2023, arXiv 2312.17090, equation 3 (Q-Align); You et al. 2025, arXiv 2501.11561 (DeQA-Score), whose
    training differs and whose reading is the same.
    """
    if logits.ndim != 2 or logits.shape[1] != len(LEVELS):
        raise ValueError(f"logits of shape {logits.shape}, expected (n, {len(LEVELS)})")
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=1, keepdims=True)) @ LEVEL_WEIGHTS)


def mean_reward(output: np.ndarray) -> np.ndarray:
    """The mean of each picture's reward distribution: HPSv3's head gives mean and spread, in this order.

    Parameters
    ----------
    output : np.ndarray
        Shape (n, 2).

    Notes
    -----
    Ma et al. 2025, arXiv 2508.03789 (HPSv3): the reward is normal with mean mu; scores are mu.
    """
    if output.ndim != 2 or output.shape[1] != 2:
        raise ValueError(f"output of shape {output.shape}, expected (n, 2)")
    return np.asarray(output[:, 0], dtype=np.float64)


def standardised_reward(raw: np.ndarray) -> np.ndarray:
    """ImageReward: (raw - mean) / sd over its training set."""
    return np.asarray((np.asarray(raw, dtype=np.float64) - IMAGE_REWARD_MEAN) / IMAGE_REWARD_SD)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between rows, shapes (n, width) -> (n,), in float64."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))


def contrastive_logit(cosines: np.ndarray, log_scale: float, bias: float = 0.0) -> np.ndarray:
    """What a contrastive model was trained on: exp(log_scale) * cosine + bias. PickScore is this with CLIP's scale."""
    return np.asarray(np.exp(log_scale) * cosines + bias)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """SigLIP's probability that picture and text belong together, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(x, dtype=np.float64))))
