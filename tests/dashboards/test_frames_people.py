"""What the pages of people draw (ratings, votes, searches), against brute force and outside libraries."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from analysis.errors import UserError
from frames import raters, steering, study


@pytest.fixture(scope="module")
def ratings(store):
    return store.read_table("ratings")


@pytest.fixture(scope="module")
def votes(store):
    return store.read_table("votes")


# ---------------------------------------------------------------- raters


def test_agreement_is_spearmans_over_shared_images(ratings):
    found = raters.agreement(ratings, fewest=8)
    means = ratings.groupby(["user_id", "image_id"])["score"].mean()
    for row in found.pairs.sample(25, random_state=1).itertuples():
        one, two = means[row.user].align(means[row.other], join="inner")
        assert row.shared == len(one)
        if len(one) < 8:
            assert math.isnan(row.agreement)
        else:
            assert row.agreement == pytest.approx(spearmanr(one, two).statistic, abs=1e-12)
    assert sorted(found.order) == sorted(ratings["user_id"].unique())
    n = len(found.order)
    assert len(found.pairs) == n * (n - 1)
    assert len(found.known) == found.pairs["agreement"].notna().sum() / 2


def test_people_of_one_taste_are_put_side_by_side():
    rng = np.random.default_rng(3)
    tastes = rng.standard_normal((2, 40))
    rows = [
        {"user_id": f"u{k}", "image_id": f"i{i}", "score": 500 + 150 * tastes[k % 2, i] + 30 * rng.standard_normal()}
        for k in range(8)
        for i in range(40)
    ]
    order = raters.agreement(pd.DataFrame(rows), 10).order
    kinds = [int(name[1:]) % 2 for name in order]
    assert kinds in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)


def test_too_few_shared_images_are_told(ratings):
    with pytest.raises(UserError, match="share 500"):
        raters.agreement(ratings, fewest=500)


def test_variance_shares_sum_to_one_and_name_what_cannot_be_told_apart(ratings):
    found, parts = raters.variance(ratings)
    assert found.separable
    assert parts["share"].sum() == pytest.approx(1)
    assert list(parts["part"]) == ["shared taste", "level of the slider", "private taste", "noise"]
    low, high = found.intervals["beholder_index"]
    assert low < found.beholder_index < high
    once = ratings[ratings["occasion"] == 1]
    assert list(raters.variance(once)[1]["part"])[-1] == "private taste and noise"


def test_the_planted_private_share_is_that_of_the_parts():
    rows = [("a", 1.0, 0.5), ("a", -1.0, 0.5), ("a", 2.0, 1.5), ("b", 3.0, 1.0), ("b", 0.0, -1.0), ("b", 5.0, 2.0)]
    truth = pd.DataFrame(rows, columns=["user_id", "utility", "shared"])
    each = []
    for _, mine in truth.groupby("user_id"):
        private, shared = np.var(mine["utility"] - mine["shared"]), np.var(mine["shared"])
        each.append(private / (private + shared))
    assert raters.planted_index(truth) == pytest.approx(np.mean(each))


def test_histograms_count_every_rating_once(ratings):
    assert raters.histogram(ratings)["ratings"].sum() == len(ratings)
    each = raters.by_rater(ratings).groupby("user")
    assert each["ratings"].sum().to_dict() == ratings["user_id"].value_counts().to_dict()
    assert each["share"].sum().to_numpy() == pytest.approx(1)
    ends = raters.histogram(pd.DataFrame({"score": [0, 24, 25, 1000]}))
    assert ends["ratings"].iloc[[0, 1, -1]].tolist() == [2, 1, 1]


def test_slider_use_against_a_loop_over_people(ratings):
    use = raters.slider_use(ratings).set_index("user")
    for user, rows in ratings.groupby("user_id"):
        scores = rows["score"].to_numpy()
        assert use.loc[user, "ratings"] == len(scores)
        assert use.loc[user, "median"] == np.median(scores)
        assert use.loc[user, "spread"] == pytest.approx(np.subtract(*np.percentile(scores, [75, 25])))
        assert use.loc[user, "on_anchor"] == pytest.approx(np.mean([s % 250 == 0 for s in scores]))
        assert use.loc[user, "at_ends"] == pytest.approx(np.mean([s in (0, 1000) for s in scores]))
    assert use["median"].is_monotonic_increasing


def test_repeats_pair_the_two_occasions_of_a_cell(ratings):
    found = raters.repeats(ratings).set_index(["user_id", "image_id"])
    again = ratings[ratings["occasion"] == 2]
    assert len(found) == len(again)
    for row in again.sample(10, random_state=1).itertuples():
        first = ratings.query("user_id == @row.user_id and image_id == @row.image_id and occasion == 1")["score"].item()
        assert found.loc[(row.user_id, row.image_id)].tolist() == [first, row.score]
    assert raters.repeats(ratings.drop(columns="occasion")).empty


def test_an_image_that_half_love_and_half_hate_splits_people_most():
    base = {f"u{k}": [100, 400, 600, 900] for k in range(6)}
    rows = [{"user_id": u, "image_id": f"i{i}", "score": s} for u, scores in base.items() for i, s in enumerate(scores)]
    rows += [{"user_id": f"u{k}", "image_id": "split", "score": 1000 if k % 2 else 0} for k in range(6)]
    found = raters.splitting(pd.DataFrame(rows))
    assert found["image_id"].iloc[0] == "split"
    assert found["raters"].eq(6).all()
    stretched = pd.DataFrame(rows)
    narrow = stretched["user_id"] == "u0"
    stretched.loc[narrow, "score"] = 400 + stretched.loc[narrow, "score"] / 10
    again = raters.splitting(stretched).set_index("image_id")["spread"]
    pd.testing.assert_series_equal(again.sort_index(), found.set_index("image_id")["spread"].sort_index())


# ---------------------------------------------------------------- study


def test_focal_votes_against_a_loop_over_votes(votes):
    found = study.focal_votes(votes, "own")
    expected = []
    for row in votes.itertuples():
        if row.kind != "main":
            continue
        own_left = row.left_condition == "own"
        win = 0.5 if row.choice == "tie" else float((row.choice == "left") == own_left)
        expected.append((row.participant_id, row.right_condition if own_left else row.left_condition, win, own_left))
    columns = ["participant_id", "against", "win", "focal_left"]
    assert list(found[columns].itertuples(index=False, name=None)) == expected
    assert study.focal_condition(votes) == "own"


def test_mean_rates_are_the_claims_estimates(store, votes):
    """Rates of people, weighted by their votes, are the win rates of the analysis."""
    estimates = store.read_table("contrasts").set_index("against")["estimate"]
    for unit in ("participant_id", "prompt_id"):
        rows = study.rates_by(votes, "own", unit)
        total = rows["votes"].groupby(rows["against"]).sum()
        wins = (rows["rate"] * rows["votes"]).groupby(rows["against"]).sum()
        pd.testing.assert_series_equal((wins / total).sort_index(), estimates.sort_index(), check_names=False)


def test_swapping_all_sides_turns_the_left_share_round(votes):
    swapped = votes.assign(choice=votes["choice"].map({"left": "right", "right": "left", "tie": "tie"}))
    one, two = study.left_share(votes), study.left_share(swapped)
    assert one.estimate + two.estimate == pytest.approx(1)
    assert one.ci_low + two.ci_high == pytest.approx(1)
    assert one.ci_low < one.estimate < one.ci_high
    assert study.sides(votes)[["left", "tie", "right"]].sum(axis=1).to_numpy() == pytest.approx(1)


def test_one_participant_gives_a_share_without_interval_and_the_reason(votes):
    one = study.left_share(votes[votes["participant_id"] == "rater_000"])
    assert math.isnan(one.ci_low)
    assert "people" in one.reason


def test_balance_counts_main_votes(votes):
    rows = study.balance(votes, "own")
    assert rows["votes"].sum() == (votes["kind"] == "main").sum()
    assert rows["ties"].sum() == ((votes["kind"] == "main") & (votes["choice"] == "tie")).sum()
    assert rows["focal_left"].between(0.4, 0.6).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=60))
def test_every_response_time_falls_into_one_bin(times):
    choices = np.resize(["left", "tie", "right"], len(times))
    rows = study.times(pd.DataFrame({"response_ms": times, "choice": choices}))
    assert rows["votes"].sum() == len(times)
    assert (rows["from"] < rows["to"]).all()


def test_pace_takes_blocks_of_trials():
    votes = pd.DataFrame({"order": [1, 2, 3, 4, 5, 6], "response_ms": [1000, 2000, 3000, 4000, 500, 700]})
    rows = study.pace(votes)
    assert rows["median"].tolist() == [2.5, 0.6]
    assert rows["order"].tolist() == [2.5, 6.5]
    assert rows["votes"].tolist() == [4, 2]


def test_repeats_compare_images_and_not_sides():
    pair = {"participant_id": "p", "left_image_id": "a", "right_image_id": "b"}
    swapped = {"participant_id": "p", "left_image_id": "b", "right_image_id": "a"}
    votes = pd.DataFrame(
        [
            {**pair, "trial_id": "1", "choice": "left", "repeat_of": None},
            {**pair, "trial_id": "2", "choice": "left", "repeat_of": None},
            {**pair, "trial_id": "3", "choice": "tie", "repeat_of": None},
            {**swapped, "trial_id": "4", "choice": "right", "repeat_of": "1"},
            {**swapped, "trial_id": "5", "choice": "left", "repeat_of": "2"},
            {**swapped, "trial_id": "6", "choice": "tie", "repeat_of": "3"},
        ]
    )
    assert study.repeats(votes).set_index("trial_id")["same"].to_dict() == {"4": True, "5": False, "6": True}
    assert study.repeats(votes.drop(columns="repeat_of")).empty


# ---------------------------------------------------------------- steering


def test_side_by_side_shows_each_condition_for_the_right_person(store):
    images = store.read_table("steered_images")
    bases = store.read_table("prompts").set_index("prompt_id")["prompt"]
    one, two = steering.people(images)[:2]
    prompts = steering.prompts_of(images)
    assert prompts == {name: bases[name] for name in prompts}
    for prompt_id in prompts:
        shown = {s.condition: s for s in steering.side_by_side(images, one, two, prompt_id)}
        assert list(shown) == ["own", "other", "population", "statistics", "unoptimised"]
        here = images.query("prompt_id == @prompt_id")
        for condition, whose in (("own", one), ("other", two)):
            row = here[(here["condition"] == "own") & (here["source_user"] == whose)]
            assert (shown[condition].path, shown[condition].prompt) == (row["path"].item(), row["prompt"].item())
        for condition in ("population", "statistics", "unoptimised"):
            assert shown[condition].path == here.query("condition == @condition")["path"].item()
        assert shown["unoptimised"].prompt == bases[prompt_id]


def test_the_first_comparison_shown_is_one_that_shows_something():
    rows = [("own", "p1", "a", "x"), ("own", "p1", "b", "x"), ("own", "p1", "c", "x")]
    rows += [
        ("own", "p2", "a", "x"),
        ("own", "p2", "b", "x"),
        ("own", "p2", "c", "y"),
        ("unoptimised", "p1", None, "z"),
    ]
    images = pd.DataFrame(rows, columns=["condition", "prompt_id", "source_user", "image_id"])
    assert steering.most_telling(images) == "p2"
    assert steering.with_another_picture(images, "a", "p2", ["b", "c"]) == "c"
    assert steering.with_another_picture(images, "a", "p1", ["b", "c"]) == "b"


def test_own_pictures_of_all_runs_are_found(store):
    steered = store.read_table("steered")
    for row in steered.itertuples():
        shown = steering.own_runs(steered, row.user_id, row.prompt_id)
        assert list(shown) == [1, 2]
        assert shown[row.run].path == row.path


def test_gains_are_measured_inside_a_round_against_where_it_began():
    rows = [
        ("own", "u", 1, "base", 1.0, False), ("own", "u", 1, "better", 1.5, True),
        ("own", "u", 2, "better", 0.2, True), ("own", "u", 2, "worse", 0.1, False),
        ("own", "v", 1, "base", 7.0, True), ("own", "v", 1, "worse", 6.0, False),
        ("population", None, 1, "base", 3.0, False), ("population", None, 1, "better", 5.0, True),
    ]  # fmt: skip
    trace = pd.DataFrame(rows, columns=["condition", "user_id", "round", "prompt", "score", "kept"])
    found = steering.gains(trace.assign(prompt_id="p", run=1))
    assert found.set_index(["condition", "user_id", "round"])["gain"].to_dict() == pytest.approx(
        {("own", "u", 1): 0.5, ("own", "u", 2): 0.0, ("own", "v", 1): 0.0, ("population", "", 1): 2.0}
    )
    by_round = steering.gain_by_round(found).set_index(["condition", "round"])
    assert by_round.loc[("own", 1), "gain"] == pytest.approx(0.25)
    assert by_round["searches"].to_dict() == {("own", 1): 2, ("own", 2): 1, ("population", 1): 1}


def test_heldout_gains_are_means_over_searches_and_over_other_people(store):
    gains, rewards = store.read_table("steering_gains"), store.read_table("steering_rewards")
    rows = steering.heldout(gains, rewards).set_index("label")
    mine = gains.query("condition == 'own'")["gain"]
    first = rows.loc["own prompt over the bare one"]
    assert first["estimate"] == pytest.approx(mine.mean())
    assert first["ci_low"] < first["estimate"] < first["ci_high"]
    gaps = []
    for own in rewards.query("condition == 'own' and user_id == judge_user").itertuples():
        others = rewards.query(
            "condition == 'own' and judge_user == @own.judge_user and user_id != @own.judge_user "
            "and prompt_id == @own.prompt_id and run == @own.run"
        )
        gaps.append(own.reward - others["reward"].mean())
    second = rows.loc["own prompt over others' own"]
    assert second["estimate"] == pytest.approx(np.mean(gaps))
    assert second["n_searches"] == len(gaps)
    one_prompt = gains["prompt_id"] == "p00"
    alone = steering.heldout(gains[one_prompt], rewards[rewards["prompt_id"] == "p00"])
    assert alone["ci_low"].isna().all()
    assert alone["reason"].str.contains("items").all()


def test_what_a_model_expects_is_read_for_the_right_pictures(store):
    rewards = store.read_table("steering_rewards")
    found = steering.expected(rewards, "rater_001", "rater_003", "p02", 1)
    here = rewards.query("judge_user == 'rater_001' and prompt_id == 'p02' and run == 1").set_index("user_id")["gain"]
    assert (found["own"], found["other"]) == (here["rater_001"], here["rater_003"])
    assert set(found) == {"own", "other", "population", "statistics"}


def test_promises_are_split_into_what_held_and_optimism(store):
    table = steering.promised(store.read_table("steering_gains"))
    assert list(table["condition"]) == ["own", "population", "statistics"]
    assert table["promised"].to_numpy() == pytest.approx((table["held"] + table["optimism"]).to_numpy())


def test_no_round_of_a_search_loses(store):
    found = steering.gains(store.read_table("search_trace"))
    assert (found["gain"] >= 0).all()
    assert len(found) == store.read_table("search_trace")["kept"].sum()


def test_votes_on_a_prompt_are_those_of_the_person_against_this_other(votes):
    for row in votes[votes["kind"] == "main"].itertuples():
        own_left = row.left_condition == "own"
        against, source = (
            (row.right_condition, row.right_source_user) if own_left else (row.left_condition, row.left_source_user)
        )
        said = "tie" if row.choice == "tie" else "own" if (row.choice == "left") == own_left else "that"
        other = source if against == "other" else "nobody"
        assert steering.votes_on(votes, row.participant_id, other, row.prompt_id)[against] == said
        assert "other" not in steering.votes_on(votes, row.participant_id, "nobody", row.prompt_id)
