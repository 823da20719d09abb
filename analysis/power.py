"""Power of a paired study by simulation: participants x prompts x trials, any number of planned contrasts.

Studies are drawn from the crossed logistic model of `analysis.simulated_votes` on the design as it will be run (yoked
or balanced opponents, ties, people who leave) and analysed with the test that the study will use. Beside it stands
the planning formula (`analysis.planning`). A claim about people in general needs people: at a win rate of 53.9 % six
participants have a power of .1 to .25, however many trials each one does.

The standard deviations decide; they are assumptions unless a pilot gave them (`analysis.pilot`), and pilots of 20
people leave them uncertain by a third. Wrong when the real effects are far from normal on the logit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from analysis import charts
from analysis.errors import EstimateError
from analysis.planning import (
    Costs,
    Dimension,
    detectable,
    formula_power,
    needed,
    planned_se,
    planning_table,
    with_number,
)
from analysis.results import FEWEST_FOR_NEW, Estimand, Exclusions, Provenance, Result, percent
from analysis.simulated_tests import Test, rejections, test_for
from analysis.simulated_votes import Design, Effects

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SEARCH_ROUNDS = 4
"""Simulations with which a sought number is corrected."""


@dataclass(frozen=True)
class Needed:
    """The inverse: how many are needed.

    Attributes
    ----------
    dimension : str
        `participants`, `prompts` or `trials`; the others stay as in the design.
    target : float
        Power asked for.
    number : int or None
        None when no number reaches it: the other dimensions set a floor.
    power, mc_se : float
        Simulated at that number.
    formula_number : int or None
    cost : float or None
    """

    dimension: Dimension
    target: float
    number: int | None
    power: float
    mc_se: float
    formula_number: int | None
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class Power(Result):
    """See `power_by_simulation`.

    Attributes
    ----------
    power, mc_se : float
        Share of simulated studies in which the first contrast is found (Holm over all planned), and the Monte Carlo
        standard error of that share.
    formula_power : float
        By the planning formula; at alpha over the number of contrasts when there are several.
    contrasts : tuple of float
        Power of each planned contrast after Holm.
    power_all, power_any : float
        All of them found; at least one.
    formula_se, detectable : float
        Planned standard error of the win rate, and the win rate difference from one half found in 80 %.
    design, effects, test, alpha, replicates
        What was simulated.
    n_degenerate : int
        Studies in which no test existed (answers that did not vary); they count as not found.
    needed : Needed or None
    cost : float or None
    cheapest : mapping or None
        The first row of `plans`, the designs that reach the target by the formula, cheapest first.
    """

    power: float
    mc_se: float
    formula_power: float
    contrasts: tuple[float, ...]
    power_all: float
    power_any: float
    formula_se: float
    detectable: float
    design: Design
    effects: Effects
    test: Test
    alpha: float
    replicates: int
    n_degenerate: int
    needed: Needed | None
    cost: float | None
    cheapest: Mapping[str, Any] | None
    plans: pd.DataFrame | None = field(metadata={"json": False}, compare=False, repr=False)
    curve: pd.DataFrame = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for the methods section of a plan."""
        d, e = self.design, self.effects
        text = (
            f"With {d.participants} participants, {d.prompts} prompts and {d.trials} trials each, a win rate of "
            f"{percent(e.win_rates[0])} is found at alpha = {self.alpha:g} with power {self.power:.3f} (Monte Carlo SE "
            f"{self.mc_se:.3f}, {self.replicates} simulated studies, {self.test} test; standard deviations on the "
            f"logit: participants {e.sd_participant:g}, prompts {e.sd_prompt:g}, interaction {e.sd_interaction:g}). "
            f"The planning formula gives {self.formula_power:.3f}, and {percent(0.5 + self.detectable)} as the rate "
            "found in 80 %."
        )
        if len(self.contrasts) > 1:
            text += f" All {len(self.contrasts)} planned contrasts are found in {percent(self.power_all)}."
        return " ".join(filter(None, (text, self._needed_text(), f"Estimand: {self.estimand.text}.")))

    def _needed_text(self) -> str:
        want = self.needed
        if want is None:
            return ""
        if want.number is None:
            return f"No number of {want.dimension} reaches a power of {want.target:g}: the rest sets a floor."
        cost = "" if want.cost is None else f" at a cost of {want.cost:g}"
        return f"A power of {want.target:g} needs {want.number} {want.dimension}{cost} (simulated {want.power:.3f})."

    def to_frame(self) -> pd.DataFrame:
        """One row a planned contrast."""
        import pandas as pd

        rates = self.effects.win_rates
        return pd.DataFrame({"contrast": range(1, len(rates) + 1), "win_rate": rates, "power": self.contrasts})

    def tables(self) -> dict[str, pd.DataFrame]:
        """Powers of the contrasts, and the formula's power against participants, and designs by cost."""
        found = {"result": self.to_frame(), "curve": self.curve}
        return found if self.plans is None else {**found, "plans": self.plans}

    def plot(self) -> alt.LayerChart:
        """The formula's power against participants, and the simulated study as a point."""
        import altair as alt
        import pandas as pd

        axis = alt.Axis(format=".0%", title="power")
        line = alt.Chart(self.curve).mark_line(color=charts.INK)
        line = line.encode(x=alt.X("participants:Q"), y=alt.Y("power:Q", axis=axis, scale=alt.Scale(domain=[0, 1])))
        point = pd.DataFrame({"participants": [self.design.participants], "power": [self.power]})
        dot = alt.Chart(point).mark_point(filled=True, size=90, color=charts.ACCENT, opacity=1)
        goal = alt.Chart(pd.DataFrame({"power": [0.8]})).mark_rule(strokeDash=[4, 3], color="#666").encode(y="power:Q")
        layers = alt.layer(goal, line, dot.encode(x="participants:Q", y="power:Q"))
        title = f"Power at a win rate of {percent(self.effects.win_rates[0])}: formula (line), simulated (point)"
        return charts.finish(layers, title, 260)


def power_by_simulation(
    design: Design,
    effects: Effects,
    *,
    rng: np.random.Generator,
    replicates: int = 1000,
    test: Test | None = None,
    alpha: float = 0.05,
    target: float | None = None,
    dimension: Dimension = "participants",
    costs: Costs | None = None,
    provenance: Provenance | None = None,
) -> Power:
    """Simulate studies and count how often the planned test finds the effect.

    Parameters
    ----------
    design : Design
    effects : Effects
        Assumed, or from `analysis.pilot.pilot_effects`.
    rng : Generator
    replicates : int
        Simulated studies; 1000 give a Monte Carlo error of .013 at a power of .8.
    test : {"two-way", "three-way", "dyadic"}, optional
        Clusters of the test for contrasts with opponents of other people: participants and prompts; source persons too;
        one person index for judge and source. Without it the one that `win_rate` would take.
    alpha : float
    target : float, optional
        Power for which `dimension` is to be found too.
    dimension : {"participants", "prompts", "trials"}
    costs : Costs, optional
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        An impossible design, effect, test or target.
    """
    if replicates < 1 or not 0 < alpha < 1:
        raise EstimateError(f"{replicates} replicates, alpha {alpha}", "1 or more, alpha from 0 to 1")
    chosen = test_for(design, test)
    found, n_degenerate = rejections(design, effects, chosen, alpha, replicates, rng)
    power = float(found[:, 0].mean())
    n_contrasts = len(effects.win_rates)
    sought = None
    if target is not None:
        sought = _search(design, effects, chosen, alpha, replicates, rng, target, dimension, costs)
    plans = None
    if target is not None and costs is not None:
        plans = planning_table(design, effects, power=target, alpha=alpha, costs=costs)
    return Power(
        estimand=_estimand(design),
        exclusions=Exclusions.none(replicates, "simulated studies"),
        warnings=_warnings(design, effects, replicates),
        provenance=provenance or Provenance.of({}, settings={"design": design, "effects": effects}),
        power=power,
        mc_se=math.sqrt(power * (1 - power) / replicates),
        formula_power=formula_power(design, effects, alpha),
        contrasts=tuple(found.mean(axis=0).tolist()),
        power_all=float(found.all(axis=1).mean()),
        power_any=float(found.any(axis=1).mean()),
        formula_se=planned_se(design, effects),
        detectable=detectable(design, effects, 0.8, alpha),
        design=design,
        effects=effects,
        test=chosen,
        alpha=alpha,
        replicates=replicates,
        n_degenerate=n_degenerate,
        needed=sought,
        cost=None if costs is None else costs.of(design, n_contrasts),
        cheapest=None if plans is None or plans.empty else {str(k): v for k, v in plans.iloc[0].items()},
        plans=plans,
        curve=_curve(design, effects, alpha),
    )


def _search(
    design: Design,
    effects: Effects,
    test: Test,
    alpha: float,
    replicates: int,
    rng: np.random.Generator,
    target: float,
    dimension: Dimension,
    costs: Costs | None,
) -> Needed:
    """Correct the formula by what simulation shows at its answer, on the probit scale, until the answer stays."""
    by_formula = needed(design, effects, dimension, target, alpha)
    number, shifts, power = by_formula, [], math.nan
    for _ in range(SEARCH_ROUNDS):
        if number is None:
            break
        tried = with_number(design, dimension, number)
        power = float(rejections(tried, effects, test, alpha, replicates, rng)[0][:, 0].mean())
        shifts.append(_probit(power, replicates) - _probit(formula_power(tried, effects, alpha), replicates))
        better = needed(design, effects, dimension, target, alpha, float(np.mean(shifts)))
        if better == number:
            break
        number = better
    if number is not None:  # a simulation of its own, so that the search cannot pick a lucky one
        tried = with_number(design, dimension, number)
        number = getattr(tried, dimension)
        power = float(rejections(tried, effects, test, alpha, replicates, rng)[0][:, 0].mean())
    cost = None
    if costs is not None and number is not None:
        cost = costs.of(with_number(design, dimension, number), len(effects.win_rates))
    mc_se = math.sqrt(power * (1 - power) / replicates) if number is not None else math.nan
    return Needed(dimension, target, number, power if number is not None else math.nan, mc_se, by_formula, cost)


def _probit(power: float, replicates: int) -> float:
    edge = 0.5 / replicates
    return float(ndtri(min(max(power, edge), 1 - edge)))


def _estimand(design: Design) -> Estimand:
    quantity = "probability that the planned two-sided test finds the difference from one half"
    few = [n < FEWEST_FOR_NEW for n in (design.participants, design.prompts)]
    return Estimand(quantity, "these" if few[0] else "new", "these" if few[1] else "new")


def _warnings(design: Design, effects: Effects, replicates: int) -> tuple[str, ...]:
    found = []
    if replicates < 1000:
        found.append(f"{replicates} replicates: 1000 or more give a power to two digits")
    if effects.sd_source and design.opponents == "common":
        found.append("sd_source has no effect with common opponents")
    elif effects.sd_source:
        found.append("the planning formula knows no source quality; trust the simulation")
    if min(design.participants, design.prompts) < FEWEST_FOR_NEW:
        found.append(f"fewer than {FEWEST_FOR_NEW} participants or prompts: no statement about new ones")
    return tuple(found)


def _curve(design: Design, effects: Effects, alpha: float) -> pd.DataFrame:
    import pandas as pd

    top = max(2 * design.participants, 40)
    numbers = np.unique(np.linspace(6, top, 60).astype(int))
    powers = [formula_power(with_number(design, "participants", int(n)), effects, alpha) for n in numbers]
    return pd.DataFrame({"participants": numbers, "power": powers})
