"""Variance components of crossed ratings by restricted maximum likelihood.

The model y ~ 1 + (1|image) + (1|user) + (1|user:image) on all ratings, repeats included (Patterson & Thompson 1971,
doi:10.1093/biomet/58.3.545), fitted by the `mixedlm` package; it gives lme4's numbers to four digits or better. More
efficient than moments (`analysis.components`) when users rated unequal numbers of images, and slower: seconds at 75,000
ratings. Estimates are never negative; 0 means "at the boundary".

Assumes normal, independent, additive effects. Wrong where users stretch the slider differently (shared taste then looks
private) and where more than a few ratings lie at the ends of the scale.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.clusters import integer_codes
from analysis.components import Components, moment_components
from analysis.errors import EstimateError, UserError


@dataclasses.dataclass(frozen=True)
class Fit:
    """Components by REML.

    Attributes
    ----------
    components : Components
    log_likelihood : float
        Restricted, of the scores in their own unit.
    converged : bool
    singular : bool
        Whether a component lies at 0.
    """

    components: Components
    log_likelihood: float
    converged: bool
    singular: bool


def reml_fit(score: npt.ArrayLike, user: Any, image: Any) -> Fit:
    """Fit the components; parameters and errors as `analysis.components.moment_components`.

    Without enough repeated ratings the user x image term is left out, and private taste stays with the noise.

    Raises
    ------
    UserError
        `mixedlm` is not installed.
    EstimateError
        As for moments; constant ratings; no convergence.
    """
    counted = moment_components(score, user, image)  # refuses what is not crossed, counts repeats
    y = np.asarray(score, dtype=np.float64)
    if np.ptp(y) == 0:
        raise EstimateError(f"all {len(y)} ratings are {y[0]:g}", "ratings that vary", "check the score column")
    scale = float(y.std())
    codes = {"user": integer_codes(user)[0], "image": integer_codes(image)[0]}
    terms = ["image", "user"]
    if counted.separable:
        codes["cell"] = codes["user"] * (int(codes["image"].max()) + 1) + codes["image"]
        terms.append("cell")
    variances, log_likelihood, converged, singular = _mixed_model((y - y.mean()) / scale, codes, terms)
    if not converged:
        raise EstimateError("REML did not converge", remedy="use moments (--method moments) and look at the data")
    n, unit = len(y), scale**2
    cell = variances.get("cell", float("nan"))
    within = variances["residual"] + (cell if counted.separable else 0.0)
    components = dataclasses.replace(
        counted,
        v_image=unit * variances["image"],
        v_user=unit * variances["user"],
        v_within=unit * within,
        v_user_image=unit * cell,
        v_error=unit * variances["residual"] if counted.separable else float("nan"),
    )
    return Fit(components, log_likelihood - (n - 1) * float(np.log(scale)), converged, singular)


def _mixed_model(
    y: npt.NDArray[np.float64], codes: dict[str, npt.NDArray[np.int64]], terms: list[str]
) -> tuple[dict[str, float], float, bool, bool]:
    """Variances by term and `residual`, restricted log likelihood, convergence and singularity."""
    import pandas as pd

    try:
        import mixedlm
    except ModuleNotFoundError:
        raise UserError("mixedlm is not installed", remedy="pip install mixedlm, or use --method moments") from None
    frame = pd.DataFrame({"y": y} | {name: pd.Categorical(codes[name]) for name in terms})
    formula = "y ~ 1 + " + " + ".join(f"(1 | {name})" for name in terms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular fits and few levels are reported by us
        fitted = mixedlm.lmer(formula, frame, REML=True)
    parts = fitted.VarCorr()
    variances = {name: float(group.variance["(Intercept)"]) for name, group in parts.groups.items()}
    variances["residual"] = float(fitted.sigma) ** 2
    return variances, float(fitted.logLik().value), bool(fitted.converged), bool(fitted.isSingular())
