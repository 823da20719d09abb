"""Pages about models and runs show the numbers of the tables, and name the command where a table is missing."""

import os
import platform
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from reading import frames_with, metrics, text

import champions
import words
from beholder.engine.runlog import RunState, StageState
from frames import adds, checks, newcomers

# ---------------------------------------------------------------- newcomers


@pytest.mark.parametrize("neighbours", ["1", "5"])
def test_newcomers_are_shown_at_the_number_of_neighbours_asked_for(store, open_page, neighbours):
    table = store.read_table("newcomers")
    app = open_page(store, "newcomers", neighbours=neighbours)
    assert not app.exception
    shown = frames_with(app, "shown", "ci_low", "z_sd")[0]
    expected = table[table["neighbours"].isin([0, int(neighbours)])]
    columns = ["shown", "neighbours", "n_users"]
    found, wanted = (f.sort_values([*columns, "ci_low"]) for f in (shown, expected))
    np.testing.assert_array_equal(found[[*columns, "ci_low", "ci_high"]], wanted[[*columns, "ci_low", "ci_high"]])
    np.testing.assert_array_equal(found["estimate"], wanted["accuracy"])


def test_how_many_ratings_are_enough_is_said_of_both_ways_of_asking(store, open_page):
    table, app = store.read_table("newcomers"), open_page(store, "newcomers")
    for method in ("posterior", "posterior_chosen"):
        by_shown = table[table["method"] == method].set_index("shown")["accuracy"]
        gain = by_shown - by_shown[0]
        fewest = min(n for n in gain.index if gain[n] >= 0.9 * gain.max())
        assert metrics(app)[words.NEWCOMERS[method]] == f"{fewest} ratings"
    compared = frames_with(app, "Comparison", "Reading")[0]
    rows = store.read_table("newcomers_chosen")
    assert [f"{100 * d:+.1f}\u00a0points" for d in rows["estimate"]] == list(compared["Difference"])
    clear = (rows["ci_low"] > 0) | (rows["ci_high"] < 0)
    assert (compared["Reading"] == "no difference shown").tolist() == (~clear).tolist()


def test_where_no_number_of_ratings_helps_none_is_called_enough():
    rows = pd.DataFrame({"method": "posterior", "shown": [0, 5], "accuracy": [0.6, 0.59], "n_users": 9})
    assert newcomers.enough(rows, "posterior") is None
    assert newcomers.enough(rows[rows["shown"] > 0], "posterior") is None
    better = rows.assign(accuracy=[0.6, 0.62])
    assert newcomers.enough(better, "posterior")["shown"] == 5


# ---------------------------------------------------------------- what inputs add


@pytest.mark.parametrize(("over", "low"), [("images", "ci_low"), ("prompts", "prompt_ci_low")])
def test_what_inputs_add_comes_with_the_interval_over_images_or_prompts(store, open_page, over, low):
    table = store.read_table("ablation_adds").query("model == 'eb_slopes'")
    app = open_page(store, "adds", model="eb_slopes", over=over)
    assert not app.exception
    shown = frames_with(app, "Input", "Adds", "Reading")[0]
    assert sorted(shown["Adds"]) == sorted(f"{100 * e:+.1f}\u00a0points" for e in table["estimate"])
    lows = [interval.split(" to ")[0] for interval in shown["95 % interval"]]
    assert sorted(lows) == sorted(f"{100 * end:+.1f}" for end in table[low])
    own = shown[shown["Input"] == "the person's own ratings"]
    assert set(own["Reading"]) == {"adds"}
    variants = next(f for f in frames_with(app, "estimate", "ceiling"))
    assert sorted(variants["estimate"]) == sorted(
        store.read_table("ablation").query("model == 'eb_slopes'")["accuracy"]
    )


def test_tokens_are_shown_of_models_that_have_them(store, open_page):
    app = open_page(store, "adds", model="fusion")
    shown = frames_with(app, "shift", "rmse")[0]
    table = store.read_table("token_effects")
    assert sorted(shown["estimate"]) == sorted(table["estimate"])
    assert "no tokens to mask" in text(open_page(store, "adds", model="eb_slopes"))


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.01, 0.05, 0.01, "adds"),
        (-0.05, -0.01, 0.01, "harms"),
        (0.01, 0.05, 0.06, "nothing shown"),
        (-0.01, 0.05, 0.01, "nothing shown"),
        (np.nan, np.nan, 1.0, "no interval"),
    ],
)
def test_an_input_adds_something_only_where_interval_and_corrected_test_say_so(low, high, p, said):
    row = {"model": "eb_slopes", "variant": "no_text", "split": "seen", "estimate": 0.02, "p_holm": p}
    table = pd.DataFrame([row | {"ci_low": low, "ci_high": high}])
    assert adds.adds(table, "eb_slopes", "images")["verdict"].tolist() == [said]


# ---------------------------------------------------------------- checks


def test_findings_of_the_check_stand_beside_the_models(copied, open_page):
    table = copied.read_table("personal_spread")
    first, second = table.index[:2]
    table.loc[first, "finding"], table.loc[second, "finding"] = "drifted", "shrunken"
    copied.write_table("personal_spread", table)
    said = text(open_page(copied, "checks"))
    for row, word in ((first, "drifted to the average"), (second, "shrunken: says too little")):
        name, split = table.loc[row, "model"], table.loc[row, "split"]
        line = next(part for part in said.split("\n") if part.startswith(f"* **{words.MODELS[name]}**"))
        assert f":orange[:material/warning:] {words.SPLITS[split]}: {word}" in line
    assert "drifted to the average" in "".join(warning.value for warning in open_page(copied, "ladder").warning)


def test_checks_show_errors_gains_counts_and_who_serves(store, open_page):
    app = open_page(store, "checks")
    assert not app.exception
    ladder = store.read_table("ladder").query("level == 'user'").dropna(subset=["z_sd"])
    errors = frames_with(app, "Made over stated")[0]
    assert sorted(errors["Made over stated"]) == sorted(ladder["z_sd"])
    assert (errors["Within .9 to 1.1"] == "honest").tolist() == errors["Made over stated"].between(0.9, 1.1).tolist()
    gains = frames_with(app, "quantity", "estimate")[0]
    stability = store.read_table("stability").set_index("quantity")
    assert gains["estimate"].tolist() == stability.loc[["gain_first", "gain_later", "change"], "estimate"].tolist()
    counts = frames_with(app, "Tested", "Ratings")[0]
    assert counts["Ratings"].tolist() == store.read_table("evaluation_counts")["n_ratings"].tolist()
    record = champions.tracking(store)
    assert f"**{words.MODELS[record['champion']]}** serves" in text(app)
    assert record["criterion"][1:] in text(app)
    assert "nothing was left out" in text(app)


def test_every_model_has_a_line_with_its_signs():
    rows = pd.DataFrame(
        {"label": ["A", "A", "B"], "split_label": ["x", "y", "x"], "finding": ["apart", "average", "apart"]}
    )
    told = checks.findings(rows.assign(said=rows["finding"])).split("\n")
    assert [line.count(":material/check:") for line in told] == [1, 1]
    assert [line.count(":material/warning:") for line in told] == [1, 0]


def test_versions_of_a_registered_model_tell_who_served_when_and_why(tmp_path):
    from beholder.store import Store
    from beholder.tracking import CHALLENGER, Tracker

    store = Store(tmp_path / "store")
    assert champions.history(store, "beholder-small").empty
    tracker = Tracker(store, "beholder-small")
    client = tracker._client
    client.create_registered_model("beholder-small")
    for name in ("population", "eb_slopes", "mlp"):
        client.create_model_version("beholder-small", str(tmp_path), tags={"model": name})
    tracker.promote("1", reason="the first")
    tracker.promote("2", reason="beats population")
    tracker.promote("3", CHALLENGER, "only looks better")
    before = store.path("mlflow.db").read_bytes()
    found = champions.history(store, "beholder-small").set_index("version")
    assert found["model"].to_dict() == {3: "mlp", 2: "eb_slopes", 1: "population"}
    assert found["alias"].to_dict() == {3: "challenger", 2: "champion", 1: ""}
    assert found["reason"].to_dict() == {3: "only looks better", 2: "beats population", 1: "the first"}
    assert store.path("mlflow.db").read_bytes() == before


# ---------------------------------------------------------------- runs


def test_a_run_at_work_tells_rate_idle_cost_and_what_stalled(copied, open_page):
    now = datetime.now(UTC).isoformat(timespec="seconds")
    stage = StageState(
        "Generate images", 100, 10, 40, 2, 60.0, warm_up=10.0, first=2, workers=3, idle=0.25, cost=1.5,
        stalled="Generate images stalled: kill it",
    )  # fmt: skip
    step = StageState("Look", None, seconds=3.0, ended=True)
    state = RunState(
        "generate-1", "generate", "hash", "running", 2, now, now, platform.node(), os.getpid(), (step, stage)
    )
    copied.write_file("runs/generate-1/state.json", state.to_json().encode())
    app = open_page(copied, "health", stages_of="generate-1")
    assert not app.exception
    assert "Generate images stalled: kill it" in "".join(warning.value for warning in app.warning)
    row = frames_with(app, "Stage", "Time left")[0].set_index("Stage").loc["Generate images"]
    assert row[["Items", "There before", "Done", "Failed", "Left"]].tolist() == ["100", "10", "40", "2", "58"]
    # 42 gone, 10 of them before and 2 in the first batch: 30 in 50 s.
    assert row[["Items a second", "Workers", "Workers idle", "Cost"]].tolist() == ["0.6", 3, "25\u00a0%", "1.50"]
    assert row["Time left"] == words.duration(58 / 0.6)
    assert "58 items to go" in text(app)
    runs = frames_with(app, "Run", "Machine")[0].set_index("Run")
    assert runs.loc["generate-1", ["State", "Attempt", "Cost"]].tolist() == ["running", 2, "1.50"]


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("page", "gone", "command"),
    [
        ("newcomers", "newcomers", "python jobs/newcomers.py --plan"),
        ("newcomers", "newcomers_chosen", "python jobs/newcomers.py --plan"),
        ("adds", "ablation_adds", "python jobs/ablation.py --plan"),
        ("adds", "token_effects", "python jobs/ablation.py --plan"),
        ("checks", "stability", "python jobs/evaluate_taste.py --plan"),
        ("checks", "trained", "python jobs/train_taste.py --plan"),
    ],
)
def test_a_missing_table_shows_the_command_that_writes_it(copied, open_page, page, gone, command):
    copied.path(f"tables/{gone}.parquet").unlink()
    app = open_page(copied, page)
    assert not app.exception
    assert [command in part.value and f"`{gone}`" in part.value for part in app.info] == [True]
