"""The search loop on landscapes whose best prompt is known."""

from collections.abc import Sequence

import numpy as np
import pytest

from beholder.steering.search import (
    LOST,
    RewriteRequest,
    Scored,
    ScoreRequest,
    Search,
    Settings,
    image_seeds,
    run_searches,
    winners,
)

SETTINGS = Settings(rounds=6, candidates=5, seeds=2, seed=3)
WORDS = ("red", "blue", "calm", "wild")


def propose(requests: Sequence[RewriteRequest]) -> list[list[str]]:
    """Add one word, at random from the request's own seed."""
    return [[f"{r.prompt}, {word}" for word in np.random.default_rng(r.seed).choice(WORDS, r.n)] for r in requests]


def liking(requests: Sequence[ScoreRequest]) -> np.ndarray:
    """Each judge likes the word it is called after, up to three times, plus luck of the seed that all prompts share."""
    return np.array([min(r.prompt.count(r.judge), 3) + np.random.default_rng(r.seed).normal(0, 50) for r in requests])


def searches() -> list[Search]:
    return [Search(judge, prompt, f"a {prompt}", run) for judge in ("red", "calm") for prompt in "ab" for run in (1, 2)]


def test_each_judge_reaches_its_own_optimum_whatever_the_luck_of_seeds() -> None:
    ends = winners(run_searches(searches(), propose, liking, SETTINGS))
    assert set(ends) == set(searches())
    assert all(prompt.count(search.judge) >= 3 for search, prompt in ends.items())
    assert all(prompt.startswith(search.base) for search, prompt in ends.items())


def test_playing_a_search_again_takes_the_same_way_alone_or_with_others() -> None:
    together = run_searches(searches(), propose, liking, SETTINGS)
    alone = run_searches(searches()[:1], propose, liking, SETTINGS)
    assert [row for row in together if row.search == searches()[0]] == alone


def test_two_runs_differ_in_what_is_proposed_and_share_the_image_seeds() -> None:
    asked: list[ScoreRequest] = []

    def record(requests: Sequence[ScoreRequest]) -> np.ndarray:
        asked.extend(requests)
        return liking(requests)

    one, two = (Search("red", "a", "a cat", run) for run in (1, 2))
    trace = run_searches([one, two], propose, record, SETTINGS)
    proposed = {s: [row.prompt for row in trace if row.search == s and row.round == 0] for s in (one, two)}
    assert proposed[one] != proposed[two]
    assert len({r.seed for r in asked}) == SETTINGS.rounds * SETTINGS.seeds
    assert len(set(asked)) == len(asked), "equal requests of a round are asked once"


def test_seeds_are_fresh_every_round_and_never_meet_the_held_out_ones() -> None:
    sets = [image_seeds(SETTINGS, "a", stage, 8) for stage in (0, 1, 2, "heldout")]
    assert len({seed for group in sets for seed in group}) == 32


def test_an_incumbent_stays_unless_a_candidate_is_strictly_better() -> None:
    trace = run_searches(searches(), propose, lambda requests: np.zeros(len(requests)), SETTINGS)
    assert winners(trace) == {search: search.base for search in searches()}
    assert all(isinstance(row, Scored) and row.kept == (row.prompt == row.search.base) for row in trace)


def test_unknown_scores_and_doubled_searches_stop_it() -> None:
    with pytest.raises(ValueError, match="not finite"):
        run_searches(searches(), propose, lambda requests: np.full(len(requests), np.nan), SETTINGS)
    with pytest.raises(ValueError, match="twice"):
        run_searches([*searches(), searches()[0]], propose, liking, SETTINGS)


def pooled(**changes: int) -> Settings:
    return Settings(**{"rounds": 4, "candidates": 6, "seeds": 2, "seed": 3, "parents": 2} | changes)


def test_a_pool_is_what_everybody_of_a_prompt_and_run_chooses_from() -> None:
    asked: list[RewriteRequest] = []

    def record(requests: Sequence[RewriteRequest]) -> list[list[str]]:
        asked.extend(requests)
        return propose(requests)

    trace = run_searches(searches(), record, liking, pooled())
    for number in range(4):
        for prompt in "ab":
            for run in (1, 2):
                seen = [
                    {row.prompt for row in trace if row.search == s and row.round == number}
                    for s in searches()
                    if (s.prompt_id, s.run) == (prompt, run)
                ]
                assert all(candidates == seen[0] for candidates in seen)
    assert {(r.prompt == r.base, r.n) for r in asked[:4]} == {(True, 6)}, "one parent gets all rewrites"
    assert 3 in {r.n for r in asked[4:]} <= {3, 6}, "two parents share them"
    assert len(asked) == len(set(asked)) <= 4 + 3 * 4 * 2, "at most two requests a pool and round"


def test_in_a_pool_every_search_keeps_the_best_it_was_shown_and_reaches_its_own_optimum() -> None:
    trace = run_searches(searches(), propose, liking, pooled(rounds=6))
    for search in searches():
        for number in range(6):
            rows = [row for row in trace if row.search == search and row.round == number]
            assert max(row.score for row in rows) == next(row.score for row in rows if row.kept)
    assert all(prompt.count(search.judge) >= 3 for search, prompt in winners(trace).items())


def test_the_prompts_most_searches_hold_are_rewritten() -> None:
    """Three judges like red and one likes calm: with one parent, only red prompts have descendants."""
    judges = [Search(name, "a", "a cat", 1) for name in ("red", "red ", " red", "calm")]
    asked: list[RewriteRequest] = []

    def record(requests: Sequence[RewriteRequest]) -> list[list[str]]:
        asked.append(*requests)
        return [[f"{r.prompt}, red ", f"{r.prompt}, calm", f"{r.prompt}, red "] for r in requests]

    def whole_words(requests: Sequence[ScoreRequest]) -> np.ndarray:
        return np.array([r.prompt.count(r.judge.strip()) for r in requests], dtype=float)

    run_searches(judges, record, whole_words, pooled(rounds=3, parents=1))
    assert [r.prompt for r in asked] == ["a cat", "a cat, red ", "a cat, red , red "]


def test_a_lost_image_takes_its_candidate_out_and_nothing_else() -> None:
    def without_calm(requests: Sequence[ScoreRequest]) -> np.ndarray:
        return np.array([LOST if "calm" in r.prompt else float(len(r.prompt)) for r in requests])

    for settings in (SETTINGS, pooled()):
        trace = run_searches(searches(), propose, without_calm, settings)
        assert not any("calm" in prompt for prompt in winners(trace).values())
        assert any(row.score == LOST for row in trace)
    nothing = run_searches(searches(), propose, lambda requests: np.full(len(requests), LOST), SETTINGS)
    assert winners(nothing) == {search: search.base for search in searches()}


def test_pools_of_other_prompts_and_runs_change_nothing() -> None:
    together = run_searches(searches(), propose, liking, pooled())
    one = [search for search in searches() if (search.prompt_id, search.run) == ("a", 2)]
    assert [row for row in together if row.search in one] == run_searches(one, propose, liking, pooled())
