"""The one family of user mistakes. A bug keeps its traceback; these are shown as one line."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: says what was found, what is allowed and what to do.

    Parameters
    ----------
    found : str
        What is wrong and where, with the offending value.
    allowed : str, optional
        What would have been accepted.
    remedy : str, optional
        What to do now.
    """

    def __init__(self, found: str, allowed: str | None = None, remedy: str | None = None) -> None:
        self.found, self.allowed, self.remedy = found, allowed, remedy
        parts = [found]
        if allowed:
            parts.append(f"allowed: {allowed}")
        if remedy:
            parts.append(f"to do: {remedy}")
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[type, tuple[str, str | None, str | None]]:
        return type(self), (self.found, self.allowed, self.remedy)


class TableError(UserError):
    """A table that does not hold what its definition asks for."""


class EstimateError(UserError):
    """Data from which the asked number cannot be computed (too few clusters, constant answers, infinite estimate)."""
