"""Groups of people by demographics, as columns that say how far each person belongs to each group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Strings
from beholder.taste.people import People

MOST_NUMBERS = 8
"""A demographic that is a number and takes more values than this is put into bands of ten."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of the training people; none has fewer people than `people.SMALLEST_GROUP`.

    Attributes
    ----------
    demographics, categories : tuple of str, length G
        Which demographic, and which of its categories, each group is.
    shares : array, shape (G,)
        Of the training people who said, in each group: what somebody counts as who did not say.
    banded : tuple of str
        Demographics in bands of ten.
    """

    demographics: tuple[str, ...]
    categories: tuple[str, ...]
    shares: Floats
    banded: tuple[str, ...]

    @classmethod
    def learn(cls, people: People) -> Groups:
        """The groups among these people.

        Raises
        ------
        EstimateError
            If no demographic has two groups that are large enough.
        """
        banded = tuple(name for name, column in people.demographics.items() if _many_numbers(column))
        told = {name: _bands(c) if name in banded else c for name, c in people.demographics.items()}
        told = dict(People(people.user_ids, told).masked().demographics)
        found = []
        for name, column in told.items():
            said = column[column != ""]
            categories, counts = np.unique(said, return_counts=True)
            if len(categories) > 1:
                found += [(name, str(c), k / len(said)) for c, k in zip(categories, counts, strict=True)]
        if not found:
            raise EstimateError(
                f"no groups among {len(people)} people with demographics {list(people.demographics)}",
                "a demographic with two groups of 5 people or more",
                "leave demographics out of the model",
            )
        return cls(tuple(f[0] for f in found), tuple(f[1] for f in found), np.array([f[2] for f in found]), banded)

    def settings(self) -> dict[str, list[str]]:
        """All but the shares, as JSON values."""
        return {
            "demographics": list(self.demographics),
            "categories": list(self.categories),
            "banded": list(self.banded),
        }

    def membership(self, people: People) -> Floats:
        """How far each person belongs to each group, shape (n, G): 0 or 1, or the shares for what was not said."""
        out = np.tile(self.shares, (len(people), 1))
        for name in dict.fromkeys(self.demographics):
            if name not in people.demographics:
                continue
            column = people.demographics[name]
            column = _bands(column) if name in self.banded else column
            mine = [g for g, demographic in enumerate(self.demographics) if demographic == name]
            one_hot = column[:, None] == np.array([self.categories[g] for g in mine])
            known = one_hot.any(axis=1)
            out[np.ix_(known, mine)] = one_hot[known]
        return out


def _many_numbers(column: Strings) -> bool:
    said = np.unique(column[column != ""])
    return len(said) > MOST_NUMBERS and all(_is_number(value) for value in said.tolist())


def _is_number(value: str) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False


def _bands(column: Strings) -> Strings:
    """Numbers as the ten they lie in: `37` becomes `30-39`; what is no number becomes ""."""
    tens = [int(float(v) // 10) * 10 if _is_number(v) else None for v in column.tolist()]
    return np.array(["" if t is None else f"{t}-{t + 9}" for t in tens], dtype=str)
