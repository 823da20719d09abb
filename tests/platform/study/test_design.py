"""The trial generator against what it promises: counts, yoking, sides and neighbours."""

import numpy as np
import pandas as pd
import pytest

from beholder.errors import PlanError
from beholder.study.design import COLUMNS, StudyDesign, plan_trials

COMMON = ("population", "statistics", "unoptimised")


def catalogue(participants: list[str], prompts: list[str]) -> pd.DataFrame:
    own = [("own", p, f"own-{p}-{u}", u) for u in participants for p in prompts]
    common = [(c, p, f"{c}-{p}", None) for c in COMMON for p in prompts]
    return pd.DataFrame(own + common, columns=["condition", "prompt_id", "image_id", "source_user"])


def planned(people: int, prompts: int, design: StudyDesign, seed: int = 0) -> pd.DataFrame:
    users, texts = [f"u{k:02d}" for k in range(people)], [f"p{k:02d}" for k in range(prompts)]
    return plan_trials(catalogue(users, texts), users, texts, design, np.random.default_rng(seed))


def contrast_of(trials: pd.DataFrame) -> pd.Series:
    return trials["left_condition"].where(trials["left_condition"] != "own", trials["right_condition"])


SIZES = [
    (2, 24, StudyDesign(trials=20)),
    (5, 18, StudyDesign(trials=30)),
    (6, 18, StudyDesign(trials=36)),
    (7, 9, StudyDesign(trials=33, other_share=0.5)),
    (24, 12, StudyDesign(trials=30)),
    (25, 12, StudyDesign(trials=41)),
    (30, 40, StudyDesign(trials=20, against=("other",))),
    (12, 10, StudyDesign(trials=27, against=("population", "unoptimised", "statistics"))),
]


@pytest.fixture(params=SIZES, ids=lambda s: f"{s[0]}x{s[1]}x{s[2].trials}")
def study(request: pytest.FixtureRequest) -> tuple[int, int, StudyDesign, pd.DataFrame]:
    people, prompts, design = request.param
    return people, prompts, design, planned(people, prompts, design)


def test_everybody_gets_the_asked_number_of_different_trials(study):
    people, _, design, trials = study
    assert list(trials.columns) == list(COLUMNS)
    assert trials["trial_id"].is_unique
    assert trials.groupby("participant_id").size().tolist() == [design.trials] * people
    unordered = [frozenset(pair) for pair in trials[["left_image_id", "right_image_id"]].to_numpy()]
    assert not pd.DataFrame({"user": trials["participant_id"], "pair": unordered}).duplicated().any()


def test_focal_side_is_balanced_for_everybody_in_every_contrast(study):
    _, _, _, trials = study
    sign = np.where(trials["left_condition"] == "own", 1, -1)
    per_person = pd.Series(sign).groupby([trials["participant_id"], contrast_of(trials)]).sum()
    assert per_person.abs().max() <= 1
    assert pd.Series(sign).groupby(contrast_of(trials)).sum().abs().max() <= 1


def test_own_against_other_has_its_share_for_everybody(study):
    _, _, design, trials = study
    share = (contrast_of(trials) == "other").groupby(trials["participant_id"]).mean()
    assert share.min() >= (design.other_share if "other" in design.against else 0)


def test_yoking_is_exact_and_sources_are_balanced(study):
    people, prompts, design, trials = study
    if "other" not in design.against:
        return
    shown = trials[contrast_of(trials) == "other"]
    sources = shown[["left_source_user", "right_source_user"]].to_numpy()
    rater = shown["participant_id"].to_numpy()
    source = np.where(sources[:, 0] == rater, sources[:, 1], sources[:, 0])
    assert (source != rater).all()
    images = shown[["left_image_id", "right_image_id"]].to_numpy()
    faced = {(u, v, frozenset(pair)) for u, v, pair in zip(rater, source, images, strict=True)}
    assert len(faced) == len(shown)
    assert all((v, u, pair) in faced for u, v, pair in faced)
    assert all(f"own-{p}-{u}" in pair for u, p, pair in zip(rater, shown["prompt_id"], images, strict=True))
    as_rater, as_source = pd.Series(rater).value_counts(), pd.Series(source).value_counts()
    assert as_rater.sort_index().equals(as_source.sort_index())
    assert as_rater.max() - as_rater.min() <= 1
    assert as_source.max() <= 2 / people * len(shown)
    partners = pd.Series(source).groupby(rater).nunique()
    assert partners.min() >= min(people - 1, as_rater.min() - 1)
    met = shown.groupby("prompt_id").size()
    assert met.reindex([f"p{k:02d}" for k in range(prompts)], fill_value=0).agg(np.ptp) <= 2  # one yoked pair
    assert shown.groupby(["participant_id", "prompt_id"]).size().max() <= -(-as_rater.max() // prompts) + 1


def test_prompts_are_equally_often_shown_in_the_other_contrasts(study):
    """T1.10: counts of pair type x prompt differ by at most one."""
    _, prompts, design, trials = study
    table = pd.crosstab(contrast_of(trials), trials["prompt_id"])
    for contrast in set(design.against) - {"other"}:
        counts = table.loc[contrast].reindex([f"p{k:02d}" for k in range(prompts)], fill_value=0)
        assert np.ptp(counts.to_numpy()) <= 1
    rest = contrast_of(trials)[contrast_of(trials) != "other"].value_counts()
    assert rest.empty or np.ptp(rest.to_numpy()) <= 1


def test_neighbours_have_different_prompts_and_order_is_complete(study):
    _, _, _, trials = study
    for _, mine in trials.groupby("participant_id"):
        assert mine["order"].tolist() == list(range(1, len(mine) + 1))
        assert (mine["prompt_id"].to_numpy()[1:] != mine["prompt_id"].to_numpy()[:-1]).all()


def test_an_order_without_equal_neighbours_is_found_when_it_is_tight():
    """Two prompts, equally often: only strict alternation will do."""
    for seed in range(20):
        trials = planned(4, 2, StudyDesign(trials=8, other_share=0.25), seed)
        for _, mine in trials.groupby("participant_id"):
            counts = mine["prompt_id"].value_counts()
            if np.ptp(counts.to_numpy()) <= 1:
                assert (mine["prompt_id"].to_numpy()[1:] != mine["prompt_id"].to_numpy()[:-1]).all()


def test_repeats_swap_sides_come_last_and_name_their_trial():
    trials = planned(6, 18, StudyDesign(trials=30, repeats=5, sessions=3))
    again = trials[trials["kind"] == "repeat"]
    assert again.groupby("participant_id").size().tolist() == [5] * 6
    assert (again["order"] > 30).all()
    first = trials.set_index("trial_id").loc[again["repeat_of"]].reset_index(drop=True)
    again = again.reset_index(drop=True)
    for name in ("condition", "image_id", "source_user"):
        assert again[f"left_{name}"].equals(first[f"right_{name}"])
        assert again[f"right_{name}"].equals(first[f"left_{name}"])
    assert (again["participant_id"] == first["participant_id"]).all()
    assert trials["trial_id"].is_unique
    sizes = trials.groupby(["participant_id", "session"]).size()
    assert np.ptp(sizes.to_numpy()) <= 1
    assert trials["session"].max() == 3


def test_same_seed_same_plan_and_another_seed_another():
    design = StudyDesign(trials=20)
    assert planned(6, 10, design, 4).equals(planned(6, 10, design, 4))
    assert set(planned(6, 10, design, 4)["trial_id"]) != set(planned(6, 10, design, 5)["trial_id"])


def test_images_made_for_one_participant_come_before_those_for_everybody():
    users, prompts = ["a", "b"], ["p", "q", "r", "s"]
    images = catalogue(users, prompts)
    extra = pd.DataFrame([("population", "p", "population-for-a", "a")], columns=images.columns)
    design = StudyDesign(trials=4, against=("population",))
    trials = plan_trials(pd.concat([images, extra]), users, prompts, design, np.random.default_rng(0))
    on_p = trials[trials["prompt_id"] == "p"].set_index("participant_id")
    shown = {u: {on_p.loc[u, "left_image_id"], on_p.loc[u, "right_image_id"]} for u in users}
    assert shown == {"a": {"own-p-a", "population-for-a"}, "b": {"own-p-b", "population-p"}}


def test_many_draws_keep_the_promise_about_pairs_that_are_asked_up_to_the_limit():
    """All different pairs there are: 5 people, 4 prompts, each meets 4 others on 4 prompts."""
    trials = planned(6, 4, StudyDesign(trials=20, against=("other",)))
    assert len(trials) == 6 * 5 * 4
    with pytest.raises(PlanError, match="21 trials of own against other"):
        planned(6, 4, StudyDesign(trials=21, against=("other",)))


def test_mistakes_are_named():
    users, prompts = ["a", "b", "c"], ["p", "q"]
    images, rng = catalogue(users, prompts), np.random.default_rng(0)
    design = StudyDesign(trials=5)
    with pytest.raises(PlanError, match="one participant"):
        plan_trials(images, ["a"], prompts, design, rng)
    with pytest.raises(PlanError, match=r"no image of 'own' for prompt 'q' and participant 'b' \(1 such gaps\)"):
        plan_trials(images[images["image_id"] != "own-q-b"], users, prompts, design, rng)
    with pytest.raises(PlanError, match="no image of 'statistics'"):
        plan_trials(images[images["condition"] != "statistics"], users, prompts, design, rng)
    with pytest.raises(PlanError, match="two images for"):
        plan_trials(pd.concat([images, images.iloc[[0]]]), users, prompts, design, rng)
    with pytest.raises(PlanError, match="made for nobody"):
        plan_trials(
            images.assign(source_user=None).drop_duplicates(["condition", "prompt_id"]), users, prompts, design, rng
        )
    with pytest.raises(PlanError, match="4 participants, 3 of them different"):
        plan_trials(images, [*users, "a"], prompts, design, rng)
    with pytest.raises(PlanError, match="without column source_user"):
        plan_trials(images.drop(columns="source_user"), users, prompts, design, rng)
    with pytest.raises(PlanError, match="trials for 3 contrasts beside 'other' with 2 prompts"):
        plan_trials(images, users, prompts, StudyDesign(trials=9, other_share=0.2), rng)


@pytest.mark.parametrize(
    "values",
    [
        {"trials": 3},
        {"against": ()},
        {"against": ("own",)},
        {"against": ("other", "other")},
        {"focal": "other"},
        {"other_share": 0.0},
        {"repeats": 41},
        {"sessions": 0},
    ],
)
def test_impossible_designs_are_refused(values):
    with pytest.raises(PlanError):
        StudyDesign(**values)
