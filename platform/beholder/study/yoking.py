"""Who meets whom on which prompt, when two people are to judge the same two images."""

from __future__ import annotations

from math import ceil, lcm

import numpy as np
from scipy.optimize import linear_sum_assignment

from beholder.errors import PlanError

TRIES = 50
"""Decks tried for an unfinished pass before everybody gets one prompt a slot (only in nearly full designs)."""

Rounds = list[list[tuple[int, int]]]
"""Rounds of disjoint pairs of people."""

Meeting = tuple[int, int, int]
"""Person, person, prompt."""


def meetings(n_people: int, n_prompts: int, wanted: int, rng: np.random.Generator) -> list[Meeting]:
    """Pairs of people on prompts, at least `wanted` meetings for everybody.

    Rounds come from a round robin, so everybody meets all others equally often. Prompts are used equally often, up to
    one meeting (up to one slot of everybody in nearly full designs). No two people meet twice on one prompt.

    Parameters
    ----------
    n_people, n_prompts : int
        How many there are, at least two and one.
    wanted : int
        Meetings of every person. With an odd number of people some have one more: in each round one sits out.
    rng : np.random.Generator
        Shuffles people, rounds and prompts.

    Raises
    ------
    PlanError
        If there are not as many different meetings.
    """
    numbered = round_robin(n_people)
    slots = wanted
    while n_people % 2 and slots - ceil(slots / len(numbered)) < wanted:
        slots += 1
    if slots > len(numbered) * n_prompts:
        raise PlanError(
            f"{wanted} trials of own against other with {n_people} participants and {n_prompts} prompts",
            f"at most {(n_people - 1) * n_prompts} a participant: each other participant once on each prompt",
            "ask for fewer trials or add participants or prompts",
        )
    people, order = rng.permutation(n_people), rng.permutation(len(numbered))
    rounds = [[(int(people[a]), int(people[b])) for a, b in numbered[k]] for k in order]
    together = _same_prompt(rounds, slots, n_prompts, rng)
    whole = slots - slots % n_prompts
    tries = (_own_prompts(rounds, together[:whole], slots, n_people, n_prompts, rng) for _ in range(TRIES))
    apart = next((rest for rest in tries if rest is not None), together[whole:])
    return [meeting for slot in together[:whole] + apart for meeting in slot]


def round_robin(n: int) -> Rounds:
    """Rounds of disjoint pairs; over all of them everybody meets everybody once (circle method)."""
    size = n + n % 2
    circle = list(range(size))
    rounds = []
    for _ in range(size - 1):
        pairs = [(circle[k], circle[size - 1 - k]) for k in range(size // 2)]
        rounds.append([(a, b) for a, b in pairs if max(a, b) < n])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return rounds


def _round_of(slot: int, rounds: Rounds, n_prompts: int) -> list[tuple[int, int]]:
    """Rounds in a circle, shifted by one after each common period with the prompts: then they meet other prompts."""
    return rounds[(slot + slot // lcm(len(rounds), n_prompts)) % len(rounds)]


def _same_prompt(rounds: Rounds, slots: int, n_prompts: int, rng: np.random.Generator) -> list[list[Meeting]]:
    """One prompt a slot for everybody: whole passes of prompts are exactly balanced, no pair meets a prompt twice."""
    prompts = rng.permutation(n_prompts)
    return [[(*pair, int(prompts[s % n_prompts])) for pair in _round_of(s, rounds, n_prompts)] for s in range(slots)]


def _own_prompts(
    rounds: Rounds, before: list[list[Meeting]], slots: int, n_people: int, n_prompts: int, rng: np.random.Generator
) -> list[list[Meeting]] | None:
    """Slots of an unfinished pass, each pair on a prompt of its own, so that all prompts are used equally often.

    Prompts come from one circle (so their counts differ by one meeting at most); within a slot they go to the pairs
    that have seen them least. None when a pair would meet a prompt twice.
    """
    met = {(frozenset((u, v)), i) for slot in before for u, v, i in slot}
    seen, prompts, dealt = np.zeros((n_people, n_prompts)), rng.permutation(n_prompts), 0
    result: list[list[Meeting]] = []
    for slot in range(len(before), slots):
        pairs = _round_of(slot, rounds, n_prompts)
        hand = prompts[np.arange(dealt, dealt + len(pairs)) % n_prompts]
        dealt += len(pairs)
        again = np.array([[(frozenset(pair), int(i)) in met for i in hand] for pair in pairs])
        burden = np.array([seen[u, hand] + seen[v, hand] for u, v in pairs])
        rows, columns = linear_sum_assignment(1e6 * again + burden + 1e-3 * rng.random(burden.shape))
        if again[rows, columns].any():
            return None
        filled = [(*pairs[row], int(hand[column])) for row, column in zip(rows, columns, strict=True)]
        for u, v, i in filled:
            seen[[u, v], i] += 1
            met.add((frozenset((u, v)), i))
        result.append(filled)
    return result
