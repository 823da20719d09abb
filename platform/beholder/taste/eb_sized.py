"""Empirical-Bayes slopes with as many factors as there are people and ratings to learn them from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Ratings
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design
from beholder.taste.linear import LinearTaste
from beholder.taste.people import People


@dataclass(frozen=True)
class SizedSlopes:
    """`EBSlopes` with `factors` in large studies, and none in small ones: what stacks are made of.

    A factor is a direction in which people differ, so it takes people to see it. And where people rated hardly more
    images than the design has columns, many directions fit them equally well: the variances do not settle, or settle
    where predictions run wild (a person's 80 ratings in 64 columns). They may not settle with more ratings either:
    then there are no factors, and the settings say how many were tried.

    Attributes
    ----------
    factors : int
        At most.
    people_a_factor : int
        So many people for each.
    ratings_a_column : float
        Ratings of the median person for each column of the design; with fewer there are no factors.
    """

    factors: int = 6
    people_a_factor: int = 10
    ratings_a_column: float = 2.0

    name: ClassVar[str] = "eb_factors"

    def __post_init__(self) -> None:
        if self.factors < 0 or self.people_a_factor < 1 or self.ratings_a_column <= 0:
            raise UserError(
                f"factors {self.factors}, people {self.people_a_factor}, ratings {self.ratings_a_column}",
                "factors of 0 or more, at least 1 person a factor, ratings above 0 a column",
            )

    def factors_for(self, ratings: Ratings, columns: int) -> int:
        """How many factors these ratings are enough for."""
        _, each = np.unique(ratings.user_id, return_counts=True)
        if not len(each) or np.median(each) < self.ratings_a_column * columns:
            return 0
        return min(self.factors, len(each) // self.people_a_factor)

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """`EBSlopes.fit` with `factors_for(ratings)`, or none where they do not settle: the settings tell."""
        tried = factors = self.factors_for(ratings, sum(design.block_sizes))
        try:
            fitted = EBSlopes(factors=factors).fit(ratings, design, rng, people)
        except EstimateError:
            if not tried:
                raise
            factors = 0
            fitted = EBSlopes().fit(ratings, design, rng, people)
        told = {"factors": factors} | ({} if factors == tried else {"factors_tried": tried})
        return replace(fitted, name=self.name, settings={**fitted.settings, **told})
