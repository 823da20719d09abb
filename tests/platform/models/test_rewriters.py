"""Rewriters keep what is asked for, give the same again, and draw their words from the distribution they state."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beholder.errors import UserError
from beholder.models import weights
from beholder.models.rewriters import NAMES, load_rewriter, rewriter_identity
from beholder.models.rewriters.base import MOST_CLAUSES, MOST_WORDS, MOVE_SHARES, choose_move, clauses_of, compose
from beholder.models.rewriters.phrases import PHRASES
from beholder.models.rewriters.smollm import (
    EXAMPLES,
    REPETITION_PENALTY,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    SmolLM,
    _turn,
    draw_token,
    usable_clauses,
)

CACHE = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
BASE = "an old mill by a river"


@pytest.fixture(scope="module", params=[pytest.param("smollm2", marks=pytest.mark.models), "phrases"])
def rewriter(request: pytest.FixtureRequest) -> Any:
    if request.param == "smollm2" and not weights.present("smollm2", CACHE) and os.environ.get("CI") != "true":
        pytest.skip(f"no smollm2 in {CACHE}")
    return load_rewriter(request.param, CACHE)


@pytest.mark.parametrize("clauses", [("at dusk",), ("at dusk", "oil painting", "sharp focus", "icy tones")])
def test_rewrites_keep_the_base_differ_and_stay_short(rewriter: Any, clauses: tuple[str, ...]) -> None:
    prompt = compose(BASE, clauses)
    found = rewriter.rewrite(prompt, base=BASE, n=3, seed=3)
    assert len(found) == len({*found, prompt}) - 1 == 3
    for text in found:
        added = clauses_of(text, BASE)  # raises unless it begins with the base
        assert len(added) <= MOST_CLAUSES
        assert len(text.split()) <= MOST_WORDS
        assert len(set(clauses) - set(added)) <= 1  # one move: at most one clause went
    again = (
        rewriter.rewrite("a lake, calm", base="a lake", n=1, seed=4),
        rewriter.rewrite(prompt, base=BASE, n=3, seed=3),
    )
    assert again[1] == found  # whatever was asked in between
    assert set(rewriter.rewrite(prompt, base=BASE, n=3, seed=5)) != set(found)


def test_what_cannot_be_rewritten_is_refused(rewriter: Any) -> None:
    for prompt, base, n, message in [
        ("a lake", BASE, 2, "does not begin with its base"),
        (f"{BASE}s", BASE, 2, "does not begin with its base"),
        ("", "", 2, "a base prompt of 0 words"),
        ("x " * 78, "x " * 78, 2, "a base prompt of 78 words"),
        (BASE, BASE, 0, "0 rewrites asked for"),
    ]:
        with pytest.raises(UserError, match=message):
            rewriter.rewrite(prompt, base=base, n=n, seed=1)


def test_the_identity_is_known_without_the_weights_being_loaded(rewriter: Any) -> None:
    name = "smollm2" if isinstance(rewriter, SmolLM) else "phrases"
    assert rewriter_identity(name, CACHE) == rewriter.identity()
    with pytest.raises(UserError, match=f"rewriter 'gpt'.*{NAMES[0]}"):
        load_rewriter("gpt")


def test_the_bank_says_when_it_has_no_more() -> None:
    """From the bare base every rewrite adds one phrase: there are as many as there are phrases."""
    bank = load_rewriter("phrases")
    every = bank.rewrite(BASE, base=BASE, n=len(PHRASES), seed=1)
    assert {*every} == {f"{BASE}, {phrase}" for phrase in PHRASES}
    with pytest.raises(UserError, match=f"only {len(PHRASES)} different rewrites"):
        bank.rewrite(BASE, base=BASE, n=len(PHRASES) + 1, seed=1)


def test_moves_come_in_their_shares_where_all_are_possible() -> None:
    rng, n = np.random.default_rng(6), 20_000
    drawn = Counter((len(move.kept), move.writes) for move in (choose_move(["a", "b"], rng) for _ in range(n)))
    found = np.array([drawn[2, True], drawn[1, True], drawn[1, False]])
    assert found.sum() == n
    shares = np.array(MOVE_SHARES)
    assert (np.abs(found - n * shares) < 4 * np.sqrt(n * shares * (1 - shares))).all()
    assert {choose_move([], rng) for _ in range(50)} == {((), True)}
    full = {(len(m.kept), m.writes) for m in (choose_move(list("abcd"), rng) for _ in range(200))}
    assert full == {(3, True), (3, False)}


def nucleus(logits: np.ndarray, written: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and probabilities by the definition: penalty, softmax at the temperature, the fewest that hold `TOP_P`."""
    scores = [float(x) for x in logits]
    for token in set(written):
        scores[token] = scores[token] / REPETITION_PENALTY if scores[token] > 0 else scores[token] * REPETITION_PENALTY
    odds = np.exp((np.array(scores) - max(scores)) / TEMPERATURE)
    odds /= odds.sum()
    order = sorted(range(len(odds)), key=lambda token: (-odds[token], token))[:TOP_K]
    kept, held = [], 0.0
    for token in order:
        kept.append(token)
        held += odds[token]
        if held >= TOP_P:
            break
    return np.array(kept), odds[kept] / odds[kept].sum()


@given(st.integers(2, 400), st.floats(0.1, 8.0), st.integers(0, 10**6))
def test_a_token_is_drawn_from_the_nucleus(vocabulary: int, spread: float, seed: int) -> None:
    """The inverse of the distribution function at a uniform number, against the definition written out."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, vocabulary)
    written = rng.integers(0, vocabulary, 3).tolist()
    tokens, shares = nucleus(logits, written)
    uniform = np.random.default_rng(seed + 1).random()
    place = np.cumsum(shares) - uniform
    if np.abs(place).min() < 1e-9:  # on an edge, where rounding decides
        return
    assert draw_token(logits, written, np.random.default_rng(seed + 1)) == tokens[int(np.argmax(place > 0))]


@pytest.mark.models
def test_texts_side_by_side_are_continued_as_each_would_be_alone() -> None:
    """Examples read once, rows of unlike length filled up on the left: the next token's logits are the plain ones."""
    if not weights.present("smollm2", CACHE) and os.environ.get("CI") != "true":
        pytest.skip(f"no smollm2 in {CACHE}")
    import torch

    model = SmolLM(weights.folder("smollm2", CACHE))
    asked = [("fog", "icy tones"), ("a very old stone bridge over a river, at dusk", "oil painting")]
    begun = [_turn(prompt, look) + "," for prompt, look in asked]
    examples = "".join(_turn(prompt, look) + f", {answer}<|im_end|>\n" for prompt, look, answer in EXAMPLES)
    tokens, mask = model._padded([model._tokenizer.encode(text, add_special_tokens=False) for text in begun])
    state, known = model._examples_for(2)
    mask = torch.cat([mask.new_ones(2, known), mask], dim=1)
    logits = model._next_logits(tokens, mask, (mask.cumsum(dim=1) - 1)[:, known:], state)
    for row, text in enumerate(begun):
        whole = torch.tensor([model._tokenizer.encode(examples + text, add_special_tokens=False)])
        with torch.inference_mode():
            plain = model._network(whole).logits[0, -1].numpy()
        np.testing.assert_allclose(logits[row], plain, atol=2e-3)  # logits of size 10 to 20, sums in another order
        assert logits[row].argmax() == plain.argmax()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" golden hour, long shadows on the grass, and a", ["golden hour", "long shadows on the grass"]),
        (" a golden hour. Then I painted it, again,", ["golden hour"]),  # the look, but for its article; one sentence
        (" the mill by the old river, soft light,", ["soft light"]),  # says the base again
        (" soft light, soft light, light,", ["soft light"]),
        (" prompt: add more, warm stones,", ["warm stones"]),
        (" one two three four five six seven eight nine, calm water\n", ["calm water"]),
        (" and swirling leaves<|im_end|>", ["swirling leaves"]),
        (" cut off in the mid", []),
        ("", []),
    ],
)
def test_clauses_that_can_stand_in_a_prompt(text: str, expected: list[str]) -> None:
    assert usable_clauses(text, "golden hour", [BASE]) == expected
