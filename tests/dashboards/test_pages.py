"""Every page runs on a full, a partial and an empty store, and shows the numbers of the tables."""

import pandas as pd
import pytest
from reading import metrics, text
from small_store import PAGES

import loaders
from frames import study


@pytest.mark.parametrize("page", PAGES)
def test_every_page_runs_on_a_full_study(store, open_page, page):
    app = open_page(store, page)
    assert not app.exception
    assert not app.error
    assert not app.info
    assert app.main[0].type == "title", "something is printed above the title"
    assert "Made from" in text(app)
    assert any("simulated people" in part.value for part in app.sidebar.markdown)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_on_an_empty_store_what_to_run(empty, open_page, page):
    app = open_page(empty, page)
    assert not app.exception
    assert not app.error
    assert "python jobs/" in text(app)
    assert str(empty.root) in text(app)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("gone", ["predictions", "votes", "ratings"])
def test_a_table_that_is_missing_takes_no_page_with_it(copied, open_page, page, gone):
    """Whatever was made from the missing table is missing too: the state in the middle of a run."""
    later = {"predictions": ["ladder", "differences", "tie_curve", "disagreement"], "ratings": ["truth_ratings"]}
    later["votes"] = ["truth_votes", "contrasts", "ranking", "recovered", "consistency"]
    for name in (gone, *later[gone]):
        copied.path(f"tables/{name}.parquet").unlink()
        copied.path(f"records/table-{name}.json").unlink()
    app = open_page(copied, page)
    assert not app.exception
    assert not app.error


def test_a_folder_that_is_no_store_is_told_without_a_traceback(tmp_path, open_page):
    nowhere = tmp_path / "nowhere"

    class Nowhere:
        url = str(nowhere)

    app = open_page(Nowhere, "overview")
    assert not app.exception
    assert "make demo" in app.error[0].value
    assert not nowhere.exists()


def test_the_overview_shows_counts_and_claims(store, open_page):
    app = open_page(store, "overview")
    shown = metrics(app)
    for name, title in (("prompts", "Prompts"), ("images", "Images"), ("ratings", "Ratings"), ("votes", "Votes")):
        assert shown[title] == f"{len(store.read_table(name)):,}"
    own = store.read_table("contrasts").set_index("against").loc["other"]
    assert f"**{100 * own['estimate']:.1f} %**" in text(app)
    claims = app.dataframe[0].value
    assert (
        claims["Votes"].sum()
        == own["n_votes"] + store.read_table("contrasts").query("against != 'other'")["n_votes"].sum()
    )
    assert "for new people and" in text(app)
    recovered = app.dataframe[1].value
    assert recovered["planted"].tolist() == store.read_table("recovered")["planted"].tolist()
    assert shown["Tables up to date"] == f"{len(loaders.records(store))} of {len(loaders.records(store))}"


def test_the_ladder_follows_the_choice_of_level_measure_and_split(store, open_page):
    table = store.read_table("ladder")
    app = open_page(store, "ladder")
    shown = app.dataframe[0].value
    expected = table.query("level == 'user'")["accuracy"]
    assert sorted(shown["estimate"]) == sorted(expected)
    app = open_page(store, "ladder", level="population", metric="srocc", split="unseen")
    assert not app.exception
    shown = app.dataframe[0].value["estimate"].dropna()
    assert sorted(shown) == sorted(table.query("level == 'population'")["srocc"].dropna())
    differences = app.dataframe[1].value
    assert set(differences["level"]) == {"population"}
    assert set(differences["split"]) == {"unseen"}
    assert set(differences["b"]) == {"population"}


def test_the_tie_curve_is_shown_with_constant_skill_and_its_meaning(store, open_page):
    app = open_page(store, "ladder")
    curve = next(frame.value for frame in app.dataframe if "constant_skill" in frame.value)
    assert curve["constant_skill"].notna().all()
    assert "A rising solid line alone says nothing" in text(app)


def test_steering_shows_the_chosen_person_and_prompt(store, open_page):
    app = open_page(store, "steering", person="rater_002", other="rater_004", prompt="p01", run="2")
    assert not app.exception
    images = store.read_table("steered_images").query("prompt_id == 'p01'")
    legends = "\n".join(element.proto.body for element in app.get("html"))
    for person in ("rater_002", "rater_004"):
        assert f"For {person}" in legends
        assert f"{person}, search 2" in legends
        assert images.query("source_user == @person")["prompt"].item() in legends
    rewards = store.read_table("steering_rewards")
    rewards = rewards.query("judge_user == 'rater_002' and prompt_id == 'p01' and run == 1")
    for gain in rewards.query("user_id == 'rater_002' or user_id == 'rater_004' or condition != 'own'")["gain"]:
        assert f"model: {gain:+.0f} ticks" in legends
    trace = store.read_table("search_trace").query("user_id == 'rater_002' and prompt_id == 'p01' and run == 2")
    assert any(len(frame.value) == len(trace) and "kept" in frame.value for frame in app.dataframe)
    heldout = next(frame.value for frame in app.dataframe if "n_searches" in frame.value).set_index("label")
    own = store.read_table("steering_gains").query("condition == 'own'")["gain"]
    assert heldout.loc["own prompt over the bare one", "estimate"] == pytest.approx(own.mean())


def test_a_public_data_set_is_shown_by_its_name(copied, open_page):
    for name in ("ratings", "images", "ladder", "differences", "tie_curve", "disagreement"):
        table = copied.read_table(name)
        table = table[table["user_id"] != "rater_000"] if name == "ratings" else table
        copied.write_table(f"avt_{name}", table)
        copied.write_record(f"table-avt_{name}", copied.read_record(f"table-{name}"))
    copied.write_table("evaluation_notes", pd.DataFrame({"about": ["splits"], "note": ["two people left out"]}))
    copied.write_record("table-evaluation_notes", copied.read_record("table-ladder"))
    app = open_page(copied, "taste", data="avt_")
    assert not app.exception
    n = len(copied.read_table("avt_ratings"))
    assert f"n = {n:,} ratings" in text(app)
    assert "avt_ratings" in text(app)
    assert "two people left out" in text(open_page(copied, "ladder"))
    other = open_page(copied, "ladder", data="avt_")
    assert not other.exception
    assert "two people left out" not in text(other)


def test_a_link_to_what_is_not_there_says_so(store, open_page):
    app = open_page(store, "steering", person="somebody")
    assert not app.exception
    assert "The link asks for person 'somebody', which is not here. Shown is rater_000." in text(app)


def test_a_choice_stands_in_the_address(store, open_page):
    app = open_page(store, "steering")
    assert "person" not in app.query_params
    app.selectbox(key="person").set_value("rater_003").run()
    assert app.query_params["person"] == "rater_003"


def test_texts_of_prompts_are_shown_as_text(copied, open_page):
    """A prompt may be written by anybody, so it must not become part of the page."""
    images = copied.read_table("steered_images")
    images.loc[images["condition"] == "own", "prompt"] = "<img src=x onerror=alert(1)> a & b"
    copied.write_table("steered_images", images)
    app = open_page(copied, "steering")
    legends = "\n".join(element.proto.body for element in app.get("html"))
    assert "<img" not in legends
    assert "&lt;img src=x onerror=alert(1)&gt; a &amp; b" in legends


def test_taste_shows_agreement_and_components(store, open_page):
    app = open_page(store, "taste")
    ratings = store.read_table("ratings")
    assert f"n = {len(ratings):,} ratings" in text(app)
    assert metrics(app)["Typical agreement of two people"] != "–"
    use = app.dataframe[-1].value
    assert use["ratings"].sum() == len(ratings)
    too_many = open_page(store, "taste")
    too_many.slider(key="fewest").set_value(60).run()
    assert not too_many.exception
    assert "No two raters share 60 images" in text(too_many)


def test_the_study_page_shows_sides_and_repeats(store, open_page):
    votes = store.read_table("votes")
    app = open_page(store, "study")
    shown, share = metrics(app), study.left_share(votes)
    assert shown["Left chosen"] == f"{100 * share.estimate:.1f} %"
    same = study.repeats(votes)["same"].mean()
    assert shown["Same answer again"] == f"{100 * same:.1f} %"
    by_prompt = open_page(store, "study", unit="prompt_id")
    assert not by_prompt.exception
    assert set(by_prompt.dataframe[1].value["unit"]) == set(votes["prompt_id"])


def test_run_health_counts_items_and_lists_what_failed(store, open_page):
    app = open_page(store, "health")
    n = 2 * len(store.read_table("images"))
    shown = metrics(app)
    assert shown["Items done"] == f"{n - 1:,}"
    assert shown["Items failed"] == "1"
    assert any("truncated" in str(frame.value.to_numpy()) for frame in app.dataframe)
    assert "were made from the tables that lie here now" in text(app)


def test_an_outdated_table_is_told(copied, open_page):
    record = copied.read_record("table-votes")
    copied.write_record("table-votes", record | {"digest": "another"})
    app = open_page(copied, "health")
    assert "contrasts, ranking, recovered" in text(app)
    overview = open_page(copied, "overview")
    n = len(loaders.records(copied))
    assert metrics(overview)["Tables up to date"] == f"{n - 3} of {n}"


def test_a_table_written_anew_is_shown_at_once(copied, open_page):
    first = open_page(copied, "overview")
    assert not first.exception
    table = copied.read_table("contrasts")
    table.loc[table["against"] == "other", "estimate"] = 0.777
    copied.write_table("contrasts", table)
    copied.write_record("table-contrasts", copied.read_record("table-contrasts") | {"digest": "new"})
    assert "**77.7 %**" in text(first.run())


def test_demographics_are_never_read(copied, open_page):
    copied.write_table(
        "users", copied.read_table("ratings")[["user_id"]].drop_duplicates().assign(nationality="Ruritanian")
    )
    copied.write_record("table-users", copied.read_record("table-ratings") | {"rows": 16})
    for page in PAGES:
        app = open_page(copied, page)
        assert not app.exception
        assert "Ruritanian" not in text(app) + "".join(str(frame.value.to_numpy()) for frame in app.dataframe)
