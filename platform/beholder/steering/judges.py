"""Who judges in a steering study: people through their reward model, the mean person, and image statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beholder.models.scorers.image_statistics import statistics_score
from beholder.steering.reward import EVERYBODY, Reward
from beholder.taste.features import Features

POPULATION = "population"
STATISTICS = "statistics"
_OWN = "own:"


def own(user_id: str) -> str:
    """The judge that stands for one person."""
    return _OWN + user_id


def user_of(judge: str) -> str | None:
    """The person a judge stands for, or None."""
    return judge.removeprefix(_OWN) if judge.startswith(_OWN) else None


def condition_of(judge: str) -> str:
    """The condition of a study that shows what this judge's searches found."""
    return judge if user_of(judge) is None else "own"


@dataclass(frozen=True, eq=False)
class Judges:
    """Scores of pictures by any judge, from raw features.

    Attributes
    ----------
    reward : Reward
        Speaks for every person it was trained on, and for the mean person.
    caution : float
        People's scores are the expected rating less `caution` posterior SDs. Above 0, a search is held back from
        pictures unlike those that were rated; 0 takes the expectation.
    """

    reward: Reward
    caution: float = 0.0

    def scores(self, judge: str, raw: Features) -> np.ndarray:
        """float64, shape (n,): ticks for people, SDs for image statistics. A row's bits do not depend on other rows.

        Raises
        ------
        UserError
            For a person the reward does not know.
        """
        if judge == STATISTICS:
            return statistics_score(raw.blocks["statistics"])
        return self._people([judge], raw)[0]

    def table(self, judges: Sequence[str], raw: Features) -> np.ndarray:
        """Scores of all pictures by all judges, shape (judges, n)."""
        people = [judge for judge in judges if judge != STATISTICS]
        rows = dict(zip(people, self._people(people, raw), strict=True))
        return np.stack([rows[j] if j != STATISTICS else statistics_score(raw.blocks["statistics"]) for j in judges])

    def _people(self, judges: Sequence[str], raw: Features) -> np.ndarray:
        design = self.reward.design(raw)
        scores = np.empty((len(judges), len(raw.image_ids)))
        for k, judge in enumerate(judges):
            user = user_of(judge) or EVERYBODY
            found = self.reward.predict([user] * len(raw.image_ids), design)
            scores[k] = found.mean - self.caution * found.sd
        return scores
