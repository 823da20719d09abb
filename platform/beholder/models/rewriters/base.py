"""What a rewriter is, and what all rewriters share: a base prompt that stays, clauses after it, and three moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from beholder.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MOST_CLAUSES = 4
"""Clauses after the base prompt, at most."""
MOST_WORDS = 77
"""Words of a prompt, at most: common text encoders read no more than 77 tokens."""
MOVES: tuple[Literal["add", "replace", "remove"], ...] = ("add", "replace", "remove")
MOVE_SHARES = (0.45, 0.35, 0.20)
"""How often each move is tried where all three are possible."""


@dataclass(frozen=True, slots=True)
class Rewrites:
    """New prompts, all different, none equal to the one given.

    `topped_up` counts those at the end that came from the phrase bank because the rewriter found too few itself.
    """

    prompts: tuple[str, ...]
    topped_up: int = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.prompts)

    def __len__(self) -> int:
        return len(self.prompts)


class Rewriter(Protocol):
    """Proposes prompts that keep what is asked for and change how it looks."""

    def identity(self) -> Mapping[str, Any]:
        """Plain JSON values: id, weights digest, settings; everything but the arguments that can change a result."""
        ...

    def rewrite(self, prompt: str, *, base: str, n: int, seed: int) -> Rewrites:
        """`n` rewrites of a prompt; the same arguments give the same rewrites, whatever was asked before.

        Parameters
        ----------
        prompt : str
            `base`, or `base` and clauses after it, set apart by commas: an earlier rewrite.
        base : str
            What the picture must show; every rewrite begins with it, letter by letter.
        n : int
            Rewrites wanted, 1 or more.
        seed : int
            Not negative.

        Raises
        ------
        UserError
            The prompt does not begin with its base, the base is too long, or `n` different rewrites do not exist.
        """
        ...


class Move(NamedTuple):
    """What one rewrite does: the clauses it keeps, and whether a new one follows them."""

    kept: tuple[str, ...]
    writes: bool


def clauses_of(prompt: str, base: str) -> list[str]:
    """Clauses of a prompt after its base.

    Raises
    ------
    UserError
        If the base is empty or too long, or the prompt does not begin with it and a comma.
    """
    words = len(base.split())
    if not 1 <= words <= MOST_WORDS:
        raise UserError(f"a base prompt of {words} words", f"1 to {MOST_WORDS}", "shorten the prompt")
    rest = prompt[len(base) :]
    if not prompt.startswith(base) or (rest and not rest.startswith(",")):
        raise UserError(f"prompt {prompt!r} does not begin with its base {base!r} and a comma")
    return [clause for part in rest.split(",") if (clause := part.strip())]


def compose(base: str, clauses: Sequence[str]) -> str:
    """Base and clauses set apart by commas; clauses that would make the prompt too long are left out."""
    prompt = base
    for clause in clauses:
        if len(prompt.split()) + len(clause.split()) <= MOST_WORDS:
            prompt = f"{prompt}, {clause}"
    return prompt


def choose_move(clauses: Sequence[str], rng: np.random.Generator) -> Move:
    """Add a clause, replace one, or remove one; what is impossible is not drawn.

    Without clauses only adding is possible; with `MOST_CLAUSES` or more it is not.
    """
    possible = [0] if not clauses else [1, 2] if len(clauses) >= MOST_CLAUSES else [0, 1, 2]
    shares = [MOVE_SHARES[i] for i in possible]
    move = MOVES[possible[int(rng.choice(len(possible), p=[share / sum(shares) for share in shares]))]]
    kept = list(clauses)
    if move != "add":
        del kept[int(rng.integers(len(kept)))]
    return Move(tuple(kept[:MOST_CLAUSES]), writes=move != "remove")
