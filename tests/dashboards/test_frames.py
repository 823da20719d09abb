"""What the pages of claims, models and runs draw, against the tables they draw from."""

import math

import pandas as pd
import pytest

import loaders
import words
from frames import claims, health, models

# ---------------------------------------------------------------- claims


def test_own_over_other_comes_first_and_reads_as_the_table_says(store):
    table = store.read_table("contrasts")
    rows = claims.contrasts(table)
    assert list(rows["against"]) == ["other", "population", "statistics", "unoptimised"]
    row = table.set_index("against").loc["other"]
    told = claims.sentence(rows.iloc[0]).replace("\u00a0", " ")
    assert f"**{100 * row['estimate']:.1f} %**" in told
    assert f"{100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f} %" in told


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.51, 0.6, 0.01, "preferred"),
        (0.4, 0.49, 0.01, "worse"),
        (0.51, 0.6, 0.2, "no difference shown"),
        (0.45, 0.6, 0.2, "no difference shown"),
        (math.nan, math.nan, 0.01, "cannot be told"),
    ],
)
def test_nothing_is_claimed_that_interval_and_corrected_test_do_not_both_say(low, high, p, said):
    assert claims.verdict(pd.Series({"ci_low": low, "ci_high": high, "p_holm": p})) == said


def test_few_prompts_make_the_claim_one_about_these_prompts():
    row = pd.Series({"focal": "own", "against": "other", "n_participants": 30, "n_prompts": 5})
    text, warnings = claims.estimand(row)
    assert text.endswith("for new people and these prompts")
    assert "5 prompts" in warnings[0]
    text, warnings = claims.estimand(pd.Series({**row, "n_prompts": 6}))
    assert text.endswith("for new people and new prompts")
    assert warnings == ()


# ---------------------------------------------------------------- models


def test_the_ladder_shows_the_tables_numbers_in_the_order_of_the_rungs(store):
    table = store.read_table("ladder")
    for level in ("user", "population"):
        for metric in ("accuracy", "srocc", "plcc"):
            rows = models.ladder(table, metric, level)
            truth = table[table["level"] == level].set_index(["model", "split"])[metric]
            shown = rows.set_index(["model", "split"])["estimate"]
            pd.testing.assert_series_equal(shown.sort_index(), truth.sort_index(), check_names=False)
            first = rows[rows["split"] == "seen"]["model"].tolist()
            assert first == ["constant", "user_mean", "population", "population_bias", "eb_slopes"]


def test_a_measure_without_interval_columns_has_none(store):
    bare = store.read_table("ladder").drop(columns=["srocc_low", "srocc_high", "ceiling"])
    rows = models.ladder(bare, "srocc", "user")
    assert rows["ci_low"].isna().all()
    assert rows["estimate"].notna().any()
    assert "ceiling" not in models.ladder(bare, "accuracy", "user")


def test_differences_are_turned_round_so_that_the_baseline_is_always_subtracted(store):
    table = store.read_table("differences")
    ladder = store.read_table("ladder").query("level == 'user' and split == 'seen'").set_index("model")["accuracy"]
    for baseline in ladder.index:
        rows = models.differences(table, "user", "seen", baseline)
        assert set(rows["a"]) == set(ladder.index) - {baseline}
        for row in rows.itertuples():
            assert row.estimate == pytest.approx(ladder[row.a] - ladder[baseline], abs=1e-12)
            assert not row.ci_low > row.estimate > row.ci_high
    headline = models.headline(table)
    assert headline["a"] == "eb_slopes"
    assert headline["estimate"] == pytest.approx(ladder["eb_slopes"] - ladder["population"], abs=1e-12)


def test_turning_a_difference_twice_gives_it_back(store):
    table = store.read_table("differences")
    one = models.differences(table, "user", "seen", "population").set_index("a").loc["eb_slopes"]
    two = models.differences(table, "user", "seen", "eb_slopes").set_index("a").loc["population"]
    assert one["estimate"] == pytest.approx(-two["estimate"])
    assert (one["ci_low"], one["ci_high"]) == pytest.approx((-two["ci_high"], -two["ci_low"]))
    assert one["share_a_better"] == pytest.approx(1 - two["share_a_better"])


def test_every_measured_point_of_a_curve_has_its_point_of_constant_skill(store):
    table = store.read_table("tie_curve")
    curves = models.curves(table, "seen", ["eb_slopes", "population"])
    lines = models.curve_lines(curves).pivot_table(index=["label", "margin"], columns="line", values="accuracy")
    assert lines.notna().all().all()
    raw = table.query("split == 'seen' and model == 'eb_slopes' and margin == 200").iloc[0]
    shown = lines.loc[(words.MODELS["eb_slopes"], 200)]
    assert shown["measured"] == raw["accuracy"]
    assert shown["constant skill"] == raw["constant_skill"]
    assert models.in_order(curves["model"]) == ["population", "eb_slopes"]


def test_outcomes_of_diverging_pairs_add_up_to_one(store):
    table = store.read_table("disagreement")
    assert models.margins_in(table) == [0, 250]
    rows = models.diverging(table, "seen", 250)
    assert len(rows) == 5
    assert models.outcomes(rows).groupby("label")["share"].sum().to_numpy() == pytest.approx(1.0)
    one_margin = table[table["margin"] == 0].drop(columns="margin")
    assert models.margins_in(one_margin) == [0]
    pd.testing.assert_frame_equal(
        models.diverging(one_margin, "seen", 0), models.diverging(table, "seen", 0).drop(columns="margin")
    )


# ---------------------------------------------------------------- health and words


def test_stages_count_items_once_and_failures_are_listed(store):
    ledger = loaders.ledger(store)
    table = health.stages(ledger).set_index("stage")
    n = len(store.read_table("images"))
    assert table.loc["generate", ["items", "ok", "failed", "retried"]].tolist() == [n, n, 0, 0]
    assert table.loc["embed", ["items", "ok", "failed", "retried", "workers"]].tolist() == [n, n - 1, 1, 2, 2]
    assert health.outcomes(table.reset_index())["count"].sum() == len(ledger)
    failed = health.failures(ledger)
    assert failed[["stage", "error", "items", "attempts"]].to_numpy().tolist() == [
        ["embed", "OSError: image file is truncated", 1, 2]
    ]
    assert health.failures(ledger[ledger["status"] == "ok"]).empty


def test_the_lineage_has_an_arrow_for_every_input(store):
    records = loaders.records(store)
    dot = health.lineage(records)
    assert dot.count(" -> ") == records["made_from"].map(len).sum()
    assert '"ratings" -> "ladder";' in dot
    marked = health.lineage(records.assign(state="outdated"))
    assert marked.count("penwidth=2") == len(records)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.percent(0.5391), "53.9 %"),
        (words.percent(math.nan), "–"),
        (words.p_value(0.0342), "p = .034"),
        (words.p_value(0.0002), "p < .001"),
        (words.p_value(1.0), "p = 1.000"),
        (words.interval(0.492, 0.5861), "49.2 to 58.6 %"),
        (words.interval(math.nan, 0.5), "no interval"),
        (words.points(0.0694), "+6.9 points"),
        (words.count(1, "image"), "1 image"),
        (words.count(2400, "person", "people"), "2,400 people"),
        (words.named(words.MODELS, "hpsv3"), "hpsv3"),
    ],
)
def test_numbers_are_written_as_methods_sections_write_them(said, expected):
    assert said.replace("\u00a0", " ") == expected
