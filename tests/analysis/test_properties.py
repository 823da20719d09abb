"""What no analysis may depend on: the order of rows, which label comes first, copies of rows, a user's own zero.

One property a test, over every function it applies to, on drawn studies. Properties of the cluster means, the win rate,
the ranking, alpha, pairs, the e-process and T2 are in the files of these.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.accuracy import accuracy
from analysis.agreement import rating_agreement
from analysis.contrasts import planned_contrasts
from analysis.disagreement import disagreement
from analysis.heterogeneity import participant_spread
from analysis.logistic import crossed_logistic
from analysis.monitor import monitor_votes
from analysis.order_effects import session_effects
from analysis.results import Provenance, Result
from analysis.stability import taste_stability
from analysis.tie_curve import tie_curve
from analysis.yoked import yoked_effect

sys.path.insert(0, str(Path(__file__).parent))
import report_studies

NONE = Provenance()
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=5, deadline=None)
SWAP = {"left": "right", "right": "left", "tie": "tie"}
PAIR = ("own", "other")

Votes = Callable[[pd.DataFrame], Result]
Rated = Callable[[pd.DataFrame, pd.DataFrame], Result]


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def contrasts(votes: pd.DataFrame, *pairs: tuple[str, str]) -> Result:
    return planned_contrasts(votes, pairs or (PAIR, ("own", "population")), rng=rng(), provenance=NONE)


ON_VOTES: dict[str, Votes] = {
    "contrasts": contrasts,
    "yoked": lambda votes: yoked_effect(votes, *PAIR, provenance=NONE),
    "heterogeneity": lambda votes: participant_spread(votes, *PAIR, provenance=NONE),
    "order effects": lambda votes: session_effects(votes, provenance=NONE),
    "logistic": lambda votes: crossed_logistic(votes, *PAIR, provenance=NONE),
    "monitor": lambda votes: monitor_votes(votes, *PAIR, arrival="arrived", provenance=NONE),
}
ON_RATINGS: dict[str, Rated] = {
    "accuracy": lambda p, r: accuracy(p, r, provenance=NONE),
    "average taste": lambda p, r: accuracy(p, r, level="population", provenance=NONE),
    "tie curve": lambda p, r: tie_curve(p, r, (0, 40, 90), rng=rng(), provenance=NONE),
    "disagreement": lambda p, r: disagreement(p, r, rng=rng(), draws=19, provenance=NONE),
    "stability": lambda p, r: taste_stability(p, r, personal="personal", provenance=NONE),
    "agreement": lambda p, r: rating_agreement(r, method="moments", provenance=NONE),
}


def study(seed: int) -> pd.DataFrame:
    """Twelve people whose votes came in an order that the rows need not have."""
    votes = report_studies.votes(np.random.default_rng(seed))
    return votes.assign(arrived=np.arange(len(votes))).drop(columns=["repeat_of", "trial_id"])


def rated(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions, and ratings on two occasions that stay off the ends of the scale."""
    draws = np.random.default_rng(seed)
    tables = report_studies.rated(draws)
    first = tables["ratings"].assign(occasion=1, score=lambda r: r["score"].clip(150, 850))
    again = first.assign(occasion=2, score=first["score"] + draws.integers(-60, 61, len(first)))
    return tables["predictions"], pd.concat([first, again], ignore_index=True)


def numbers(result: Any) -> dict[str, float]:
    """Every number of a result by its path, rounding of sums aside."""
    found: dict[str, float] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return
        if isinstance(value, int | float):
            found[path] = float(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}/{key}")
        elif isinstance(value, list):
            for k, item in enumerate(value):
                walk(item, f"{path}[{k}]")

    walk(result.to_json(), "")
    assert found
    return found


def assert_same(found: Result, expected: Result, relative: float = 1e-7) -> None:
    assert numbers(found) == pytest.approx(numbers(expected), rel=relative, abs=1e-9, nan_ok=True)


SEARCHED = 1e-4
"""An optimiser stops at its tolerance; its way there depends on the order of the rows."""


@pytest.mark.parametrize("name", ON_VOTES)
@few
@given(seeds)
def test_order_of_votes_changes_nothing(name: str, seed: int) -> None:
    votes, ask = study(seed), ON_VOTES[name]
    shuffled = votes.sample(frac=1, random_state=seed % 1000)
    if name == "logistic":
        found, expected = ask(shuffled), ask(votes)
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-7)  # type: ignore[attr-defined]
        assert found.log_odds == pytest.approx(expected.log_odds, rel=SEARCHED, abs=SEARCHED)  # type: ignore[attr-defined]
        return
    assert_same(ask(shuffled), ask(votes))


@pytest.mark.parametrize("name", ON_RATINGS)
@few
@given(seeds)
def test_order_of_ratings_and_predictions_changes_nothing(name: str, seed: int) -> None:
    predictions, ratings = rated(seed)
    shuffled = (frame.sample(frac=1, random_state=seed % 1000) for frame in (predictions, ratings))
    assert_same(ON_RATINGS[name](*shuffled), ON_RATINGS[name](predictions, ratings))


@few
@given(seeds)
def test_swapped_labels_turn_signs(seed: int) -> None:
    """Own for other: win rates about one half, effects about zero; the same tests."""
    votes = study(seed)
    forth, back = contrasts(votes, PAIR).contrasts[0], contrasts(votes, PAIR[::-1]).contrasts[0]  # type: ignore[attr-defined]
    assert back.estimate == pytest.approx(1 - forth.estimate)
    assert back.t == pytest.approx(-forth.t, rel=1e-8, abs=1e-10)
    assert back.p_holm == pytest.approx(forth.p_holm)
    forth, back = (monitor_votes(votes, *pair, arrival="arrived", provenance=NONE) for pair in (PAIR, PAIR[::-1]))
    assert back.path == pytest.approx(forth.path)
    assert (back.ci_low, back.ci_high) == pytest.approx((1 - forth.ci_high, 1 - forth.ci_low), abs=1e-9)
    forth, back = (participant_spread(votes, *pair, provenance=NONE) for pair in (PAIR, PAIR[::-1]))
    assert back.v_participant == pytest.approx(forth.v_participant, abs=1e-12)
    assert back.share_above_half == pytest.approx(1 - forth.share_above_half)


@few
@given(seeds)
def test_swapped_answers_turn_signs(seed: int) -> None:
    """Everybody chose the other side: what own gained it loses, and so does the left side."""
    votes = study(seed)
    turned = votes.assign(choice=votes["choice"].map(SWAP))
    forth, back = (yoked_effect(table, *PAIR, provenance=NONE) for table in (votes, turned))
    assert back.estimate == pytest.approx(-forth.estimate, abs=1e-12)
    assert back.t == pytest.approx(-forth.t, rel=1e-8, abs=1e-10)
    forth, back = (session_effects(table, provenance=NONE) for table in (votes, turned))
    assert back.side.estimate == pytest.approx(-forth.side.estimate, abs=1e-10)
    assert back.side.se == pytest.approx(forth.side.se, rel=1e-8)


@few
@given(seeds)
def test_swapped_models_turn_the_sign_of_their_difference(seed: int) -> None:
    predictions, ratings = rated(seed)
    renamed = predictions.assign(model=predictions["model"].map({"personal": "population", "population": "personal"}))
    for level in ("user", "population"):
        forth, back = (
            accuracy(table, ratings, level=level, provenance=NONE).differences[0]  # type: ignore[arg-type]
            for table in (predictions, renamed)
        )
        assert back.estimate == pytest.approx(-forth.estimate, abs=1e-12)
        assert (back.se, back.p) == pytest.approx((forth.se, forth.p), rel=1e-7)


@few
@given(seeds)
def test_copies_of_rows_are_no_evidence(seed: int) -> None:
    """Each vote twice: clustered errors stay; errors that take votes for independent shrink by the root of two."""
    votes = study(seed)
    doubled = pd.concat([votes, votes], ignore_index=True)
    for once, twice in zip(*(contrasts(table).contrasts for table in (votes, doubled)), strict=True):  # type: ignore[attr-defined]
        assert (twice.estimate, twice.se, twice.p) == pytest.approx((once.estimate, once.se, once.p), rel=1e-8)
    once, twice = (monitor_votes(table, *PAIR, arrival="arrived", provenance=NONE) for table in (votes, doubled))
    assert twice.path == pytest.approx(once.path)
    once, twice = (session_effects(table, provenance=NONE).side for table in (votes, doubled))
    assert (twice.estimate, twice.se) == pytest.approx((once.estimate, once.se), rel=1e-8, abs=1e-12)
    naive = [
        math.sqrt(float(np.var(y)) / len(y))
        for y in (((t["choice"] == "left") + 0.5 * (t["choice"] == "tie")).to_numpy() for t in (votes, doubled))
    ]
    assert naive[1] == pytest.approx(naive[0] / math.sqrt(2))


@pytest.mark.parametrize("name", ["accuracy", "tie curve", "disagreement", "stability"])
@few
@given(seeds)
def test_a_constant_added_to_a_users_ratings_changes_no_metric_within_users(name: str, seed: int) -> None:
    predictions, ratings = rated(seed)
    shift = ratings["user_id"].map({user: 7 * k for k, user in enumerate(sorted(ratings["user_id"].unique()))})
    moved = ratings.assign(score=ratings["score"] + shift)
    found, expected = ON_RATINGS[name](predictions, moved), ON_RATINGS[name](predictions, ratings)
    within = {
        "accuracy": ("accuracy", "ci_low", "ci_high", "srocc", "plcc"),
        "tie curve": ("accuracy", "band_low", "band_high"),
        "disagreement": ("both", "one", "none", "accuracy", "ci_low", "ci_high"),
    }
    if name == "stability":
        for field in ("gain_first", "gain_later", "share_kept", "p"):
            assert getattr(found, field) == pytest.approx(getattr(expected, field), rel=1e-9, nan_ok=True)
        return
    for one, other in zip(found.models, expected.models, strict=True):  # type: ignore[attr-defined]
        for field in within[name]:
            value = getattr(other, field)
            assert getattr(one, field) == pytest.approx(value, rel=1e-9, nan_ok=True), field


@few
@given(seeds)
def test_what_is_the_same_for_everybody_is_right_about_exactly_one_of_two_who_disagree(seed: int) -> None:
    """The population's scores, with any zero and any unit for each user, through the public function."""
    predictions, ratings = rated(seed)
    shared = predictions[predictions["model"] == "population"]
    draws = np.random.default_rng(seed)
    users = sorted(shared["user_id"].unique())
    zero = dict(zip(users, draws.normal(size=12), strict=True))
    unit = dict(zip(users, draws.uniform(0.5, 2, 12), strict=True))
    own = shared.assign(score=shared["score"] * shared["user_id"].map(unit) + shared["user_id"].map(zero))
    for table in (shared, own):
        (found,) = disagreement(table, ratings, rng=rng(), draws=19, provenance=NONE).models
        assert found.n_elements > 0
        assert (found.accuracy, found.both, found.one, found.none) == pytest.approx((0.5, 0, 1, 0), abs=1e-12)


def test_every_result_says_itself() -> None:
    """A summary, a table and JSON of every kind of result; none can be made without the first two."""
    votes, (predictions, ratings) = study(3), rated(3)
    results = [ask(votes) for ask in ON_VOTES.values()] + [ask(predictions, ratings) for ask in ON_RATINGS.values()]
    for result in results:
        assert len(result.summary()) > 40
        assert len(result.to_frame())
        assert result.to_json()["estimand"]["text"] in result.summary() or result.estimand.text in result.summary()

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mute(Result):
        def summary(self) -> str:
            return ""

    with pytest.raises(TypeError, match="to_frame"):
        Mute(estimand=results[0].estimand, exclusions=results[0].exclusions)  # type: ignore[abstract]
