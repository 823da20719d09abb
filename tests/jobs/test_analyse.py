"""The analysis of a small study whose people, images and truth are simulated, as a job on a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import analyse
import digest
from analysis.contrasts import planned_contrasts
from analysis.rerun import rerun_bundle
from beholder.plans import load_plan
from beholder.runs import Context, open_context, parser
from beholder.simulate import Settings, World, answer
from beholder.simulate.redraw import RedrawPlan, redraw
from beholder.study.design import StudyDesign, plan_trials
from pairwise_study import design_of

PLAN = """\
name: small
seed: 11
generate: {prompts: 8}
rate: {raters: 12, per_image: 10}
steer: {raters: 10, prompts: 8}
study: {trials: 16, repeats: 1}
analysis: {permutations: 199}
"""


def simulated(plan_file: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Images, votes and truth of a study drawn without pictures, by the plan's own design."""
    plan = load_plan(plan_file)
    design: StudyDesign = design_of(plan)
    size = RedrawPlan(people=plan.steer.raters, prompts=plan.steer.prompts, candidates=6, design=design)
    rng = np.random.default_rng(plan.seed)
    study = redraw(World(plan.seed, Settings()), size, rng)
    names = [f"prompt_{k}" for k in range(size.prompts)]
    rows = [
        (condition, prompt, f"{prompt}/{pick}", who)
        for condition, picks in study.picks.items()
        for who, picked in zip(study.raters.ids if picks.ndim == 2 else [None], np.atleast_2d(picks), strict=True)
        for prompt, pick in zip(names, picked, strict=True)
    ]
    images = pd.DataFrame(rows, columns=["condition", "prompt_id", "image_id", "source_user"])
    trials = plan_trials(images, study.raters.ids, names, design, rng)
    ids = [f"{prompt}/{k}" for prompt in names for k in range(size.candidates)]
    votes, truth = answer(trials, study.raters, study.utility.reshape(size.people, -1), ids, rng)
    return images, votes, truth


def steered_of(images: pd.DataFrame) -> pd.DataFrame:
    """Two runs of embeddings: a style of each person, the prompt's content and noise."""
    rng = np.random.default_rng(3)
    own = images[images["condition"] == "own"]
    style = {u: rng.normal(size=8) for u in own["source_user"].unique()}
    content = {p: rng.normal(size=8) for p in own["prompt_id"].unique()}
    rows = [
        (r.source_user, r.prompt_id, run, list(style[r.source_user] + content[r.prompt_id] + rng.normal(size=8)))
        for r in own.itertuples()
        for run in (1, 2)
    ]
    return pd.DataFrame(rows, columns=["user_id", "prompt_id", "run", "embedding"])


def context_of(plan: Path, store: Path) -> Context:
    return open_context(parser("analyse", "").parse_args(["--plan", str(plan), "--store", str(store), "--in-process"]))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plan and a store that holds what the earlier jobs would have written."""
    folder = tmp_path_factory.mktemp("analyse")
    plan, store = folder / "plan.yaml", folder / "store"
    plan.write_text(PLAN)
    images, votes, truth = simulated(plan)
    context = context_of(plan, store)
    colours = np.random.default_rng(0).integers(0, 255, (len(images), 3)).astype(np.uint8)
    paths = []
    for k, colour in enumerate(colours):
        paths.append(f"images/{k:03d}.png")
        target = context.store.path(paths[-1])
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.tile(colour, (32, 32, 1))).save(target)
    drawn = "a lake at dawn, wording " + images["image_id"].str[-1]
    context.save("steered_images", images.assign(path=paths, base="a lake at dawn", prompt=drawn))
    context.save("votes", votes)
    context.save("truth_votes", truth)
    context.save("steered", steered_of(images))
    assert run_job(plan, store)["counts"] == {"computed": 1}
    return plan, store


def run_job(plan: Path, store: Path) -> dict[str, object]:
    """Run the job as a command; the last line it prints."""
    import contextlib
    import io

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert analyse.main(["--plan", str(plan), "--store", str(store), "--in-process"]) == 0
    last: dict[str, object] = json.loads(output.getvalue().strip().splitlines()[-1])
    return last


def table(store: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(store / "tables" / f"{name}.parquet")


def test_contrasts_are_those_of_the_library(study: tuple[Path, Path]) -> None:
    found = table(study[1], "contrasts")
    pairs = list(zip(found["focal"], found["against"], strict=True))
    assert pairs == [("own", name) for name in ("other", "population", "statistics", "unoptimised")]
    direct = planned_contrasts(table(study[1], "votes"), pairs, rng=np.random.default_rng(0)).to_frame()
    for column in ("estimate", "ci_low", "ci_high", "p_holm", "n_votes"):  # the simultaneous ends are Monte Carlo
        assert found[column].tolist() == direct[column].tolist()


def test_planted_rates_are_the_means_of_the_true_probabilities(study: tuple[Path, Path]) -> None:
    recovered = table(study[1], "recovered").set_index("against")
    both = table(study[1], "votes").merge(table(study[1], "truth_votes"), on="trial_id", validate="one_to_one")
    main = both[both["kind"] == "main"]
    for against, row in recovered.iterrows():
        shares = []
        for trial in main.itertuples():
            if {trial.left_condition, trial.right_condition} == {"own", against}:
                shares.append((trial.p_left if trial.left_condition == "own" else trial.p_right) + trial.p_tie / 2)
        assert row["planted"] == pytest.approx(np.mean(shares), rel=1e-12)
        assert row["inside"] == (row["ci_low"] <= row["planted"] <= row["ci_high"])
        assert row["n_votes"] == len(shares)
    assert recovered["quantity"].tolist()[0] == "own chosen over other"


def test_style_planted_in_the_embeddings_is_found(study: tuple[Path, Path]) -> None:
    row = table(study[1], "consistency").iloc[0]
    assert row["t2"] > 0
    assert row["p"] <= 0.001
    assert (row["n_users"], row["n_prompts"], row["n_runs"]) == (10, 8, 2)


def test_page_and_bundle_are_there_with_pictures_and_without_paths(study: tuple[Path, Path]) -> None:
    _, store = study
    page = (store / "report" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 20  # four prompts, five conditions
    assert page.count("“a lake at dawn”") == 4
    assert page.count("<em>a lake at dawn, wording ") == 20
    for path in (store / "report").rglob("*"):
        if path.is_file():
            assert str(store.parent).encode() not in path.read_bytes(), path.name
    again = rerun_bundle(store / "report" / "bundle")
    assert again.reproduced
    assert again.compared_numbers > 300


def test_second_run_finds_everything_and_leaves_the_page_alone(study: tuple[Path, Path]) -> None:
    plan, store = study
    before = (store / "report" / "report.html").stat().st_mtime_ns
    assert run_job(plan, store)["counts"] == {"found": 1}
    assert (store / "report" / "report.html").stat().st_mtime_ns == before


def test_a_lost_or_changed_page_is_written_again_the_same(study: tuple[Path, Path], tmp_path: Path) -> None:
    plan, store = study
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    first = (copy / "report" / "report.html").read_bytes()
    (copy / "report" / "report.html").write_text("spoilt")
    run_job(plan, copy)
    assert (copy / "report" / "report.html").read_bytes() == first
    shutil.rmtree(copy / "report")
    run_job(plan, copy)
    assert (copy / "report" / "report.html").read_bytes() == first


def test_without_votes_the_job_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    assert analyse.main(["--plan", str(plan), "--store", str(tmp_path / "store"), "--in-process"]) == 2
    assert "no table 'votes'" in capsys.readouterr().err


def test_digests_are_the_records_and_two_runs_agree(study: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    _, store = study
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    assert digest.main(["--store", str(store), "--compare", str(copy)]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert last["differences"] == []
    for name, value in last["tables"].items():
        assert json.loads((store / "records" / f"table-{name}.json").read_text())["digest"] == value


def test_digest_names_the_step_where_two_stores_part(study: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    plan, store = study
    other = tmp_path / "store"
    shutil.copytree(store, other)
    votes = table(other, "votes")
    row = votes.index[votes["kind"] == "main"][0]
    votes.loc[row, "choice"] = "left" if votes.loc[row, "choice"] != "left" else "right"
    context_of(plan, other).save("votes", votes)
    run_job(plan, other)
    capsys.readouterr()
    assert digest.main(["--store", str(store), "--compare", str(other)]) == 1
    out = capsys.readouterr().out
    (look,) = [line for line in out.splitlines() if line.endswith("look here")]
    assert look.startswith("votes: differs")
    assert "contrasts (step Analyse): differs" in out
    assert "steered" not in json.loads(out.strip().splitlines()[-1])["differences"]


def test_digest_sees_a_table_changed_behind_its_record(study: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    other = tmp_path / "store"
    shutil.copytree(study[1], other)
    contrasts = table(other, "contrasts")
    contrasts.loc[0, "estimate"] += 1e-9
    contrasts.to_parquet(other / "tables" / "contrasts.parquet", index=False)
    assert digest.main(["--store", str(other)]) == 1
    assert "contrasts: not what its record says" in capsys.readouterr().out


def test_digest_of_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert digest.main(["--store", str(tmp_path / "nowhere")]) == 2
    assert "is no store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
