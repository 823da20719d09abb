"""Intraclass correlations: of complete tables by mean squares, and of any ratings by their variance components.

Assumes additive effects of one variance each; raters and targets drawn at random, the raters held fixed for ICC(C, ·).
Mean squares need complete tables. Wrong as a measure of raters' quality where tastes differ, and when only one kind is
reported: kinds differ by what raters' levels count as.

Sources: Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420; McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30 (names,
F intervals); Spearman 1910, Brown 1910 (means of several raters).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri

from analysis.components import Components
from analysis.errors import EstimateError


@dataclass(frozen=True)
class Intraclass:
    """One intraclass correlation of a complete table: `kind` as ICC(A,1), its value and F interval."""

    kind: str
    estimate: float
    ci_low: float
    ci_high: float


def intraclass_table(scores: npt.ArrayLike, confidence: float = 0.95) -> tuple[Intraclass, ...]:
    """The six intraclass correlations of a complete table, from mean squares.

    Parameters
    ----------
    scores : array_like, shape (images, raters)
        Every image rated by every rater, once.
    confidence : float

    Returns
    -------
    tuple of Intraclass
        ICC(1,1) raters differ by image, ICC(A,1) absolute agreement of raters drawn at random, ICC(C,1) consistency;
        and of the mean of all raters ICC(1,k), ICC(A,k), ICC(C,k).

    Raises
    ------
    EstimateError
        Fewer than two images or raters, missing values, or images that do not differ.
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise EstimateError(f"a table of shape {x.shape}", "complete, 2 images and raters or more", "use components")
    n, k = x.shape
    images, raters = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    between = k * float(((images - x.mean()) ** 2).sum()) / (n - 1)
    columns = n * float(((raters - x.mean()) ** 2).sum()) / (k - 1)
    error = float(((x - images - raters + x.mean()) ** 2).sum()) / ((n - 1) * (k - 1))
    within = float(((x - images) ** 2).sum()) / (n * (k - 1))
    if between == 0 or within == 0 or error == 0:
        raise EstimateError("images or raters do not differ", "ratings that vary inside and between images")
    level = 0.5 + confidence / 2
    one = _consistent(between / within, k, *_f_limits(between / within, n - 1, n * (k - 1), level))
    both = _consistent(between / error, k, *_f_limits(between / error, n - 1, (n - 1) * (k - 1), level))
    agree = (between - error) / (between + (k - 1) * error + k * (columns - error) / n)
    low, high = _agreement_limits(agree, between, columns, error, n, k, level)
    single = {"1": one, "A": (agree, low, high), "C": both}
    mean = {name: tuple(k * r / (1 + (k - 1) * r) for r in found) for name, found in single.items()}
    rows = [Intraclass(f"ICC({name},1)", *found) for name, found in single.items()]
    return tuple(rows + [Intraclass(f"ICC({name},k)", *found) for name, found in mean.items()])


def _f_limits(f: float, df1: int, df2: int, level: float) -> tuple[float, float]:
    return f / fdtri(df1, df2, level), f * fdtri(df2, df1, level)


def _consistent(f: float, k: int, f_low: float, f_high: float) -> tuple[float, float, float]:
    estimate, low, high = ((value - 1) / (value + k - 1) for value in (f, f_low, f_high))
    return estimate, low, high


def _agreement_limits(
    r: float, between: float, columns: float, error: float, n: int, k: int, level: float
) -> tuple[float, float]:
    """Satterthwaite degrees of freedom for the raters' part (McGraw & Wong 1996, table 7)."""
    a, b = k * r / (n * (1 - r)), 1 + k * r * (n - 1) / (n * (1 - r))
    df = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    f1, f2 = fdtri(n - 1, df, level), fdtri(df, n - 1, level)
    rest = k * columns + (k * n - k - n) * error
    low = n * (between - f1 * error) / (f1 * rest + n * between)
    high = n * (f2 * between - error) / (rest + n * f2 * between)
    return float(low), float(high)


def component_icc(parts: Components, raters: float) -> Mapping[str, float]:
    """Intraclass correlations from variance components; sparse designs too.

    Parameters
    ----------
    parts : Components
    raters : float
        Raters k behind a mean; the harmonic mean over images where it varies.

    Returns
    -------
    mapping
        `ICC(A,1)`, `ICC(C,1)` of one rating, `ICC(A,k)`, `ICC(C,k)` of a mean of k, and `k`; parts below 0 count as 0.
    """
    image, user, within = (max(v, 0.0) for v in (parts.v_image, parts.v_user, parts.v_within))

    def share(rest: float) -> float:
        return image / (image + rest) if image + rest > 0 else math.nan

    return {
        "ICC(A,1)": share(user + within),
        "ICC(C,1)": share(within),
        "ICC(A,k)": share((user + within) / raters),
        "ICC(C,k)": share(within / raters),
        "k": raters,
    }
