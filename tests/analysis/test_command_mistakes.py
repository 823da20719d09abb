"""Every command with every kind of bad input: exit status 2 and one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import COMMANDS, main

sys.path.insert(0, str(Path(__file__).parent))
import report_studies

POWER = ("--participants", "8", "--prompts", "8", "--trials", "8", "--win-rate", ".6", "--replicates", "10")
PAIR = ("--focal", "own", "--against", "other")
ON_VOTES: dict[str, tuple[str, ...]] = {
    "win-rates": PAIR,
    "contrasts": ("--contrasts", "own:other,own:population"),
    "ranking": (),
    "yoked": (),
    "heterogeneity": PAIR,
    "order-effects": (),
    "logistic": PAIR,
    "monitor": PAIR,
    "power": (*POWER, *PAIR, "--pilot"),
}
ON_RATINGS: dict[str, tuple[str, ...]] = {
    "agreement": (),
    "accuracy": (),
    "tie-curve": ("--margins", "0:100:50"),
    "disagreement": ("--permutations", "99"),
    "stability": (),
}
ON_STEERED: dict[str, tuple[str, ...]] = {"consistency": ()}
EVERY = [*ON_VOTES, *ON_RATINGS, *ON_STEERED]

Tables = dict[str, pd.DataFrame]
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def tables() -> Tables:
    """Twelve people; ratings on two occasions; a style of six users."""
    rng = np.random.default_rng(7)
    found = report_studies.everything(rng)
    first = found["ratings"]
    again = first.assign(score=np.clip(first["score"] + rng.integers(-80, 81, len(first)), 0, 1000))
    found["ratings"] = pd.concat([first.assign(occasion=1), again.assign(occasion=2)], ignore_index=True)
    found["votes"] = found["votes"].drop(columns="repeat_of")
    return found


def needed(command: str) -> tuple[str, ...]:
    """Names of the tables a command reads; the last one is spoilt."""
    if command in ON_VOTES:
        return ("votes",)
    if command in ON_STEERED:
        return ("steered",)
    return ("ratings",) if command == "agreement" else ("predictions", "ratings")


def call(command: str, tables: Tables, folder: Path, spoil: Spoil = lambda frame: frame, *more: str) -> int:
    """Write the tables, the last one spoilt, and run the command; its exit status."""
    paths = []
    for name in needed(command):
        frame = spoil(tables[name]) if name == needed(command)[-1] else tables[name]
        paths.append(str(folder / f"{name}.parquet"))
        frame.to_parquet(paths[-1], index=False)
    options = {**ON_VOTES, **ON_RATINGS, **ON_STEERED}[command]
    words = [*options, *paths] if "--pilot" in options else [*paths, *options]
    return main([command, *words, *more])


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one line of a refusal."""
    captured = capsys.readouterr()
    assert status == 2, captured.out
    assert captured.out == ""
    line = captured.err.strip()
    assert line.count("\n") == 0
    assert "Traceback" not in line
    assert "allowed: " in line or "to do: " in line
    return line


def only(frame: pd.DataFrame, column: str, n: int) -> pd.DataFrame:
    """Rows of the first few values of a column."""
    return frame[frame[column].isin(sorted(frame[column].unique())[:n])]


def own_chosen(votes: pd.DataFrame) -> pd.DataFrame:
    own = np.where(votes["left_condition"] == "own", "left", "right")
    return votes.assign(choice=own)


def unit(command: str) -> tuple[str, str]:
    """Columns of the two kinds of clusters."""
    if command in ON_VOTES:
        return "participant_id", "prompt_id"
    return ("user_id", "prompt_id") if command in ON_STEERED else ("user_id", "image_id")


def test_every_command_is_here() -> None:
    assert sorted([*EVERY, "report", "rerun"]) == sorted(COMMANDS)


@pytest.mark.parametrize("command", EVERY)
def test_good_input_is_answered(
    command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, tables, tmp_path) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Rows: " in captured.out


@pytest.mark.parametrize("command", EVERY)
def test_wrong_columns_and_empty_tables(
    command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    column = {"votes": "prompt_id", "ratings": "score", "steered": "run"}[needed(command)[-1]]
    line = refused(capsys, call(command, tables, tmp_path, lambda frame: frame.rename(columns={column: "x"})))
    assert f"no column {column} (columns: " in line
    assert "--columns ours=theirs" in line
    assert str(tmp_path) in line
    assert "no rows" in refused(capsys, call(command, tables, tmp_path, lambda frame: frame.iloc[:0]))
    assert "unrecognized arguments: --what" in refused(capsys, call(command, tables, tmp_path, lambda f: f, "--what"))


@pytest.mark.parametrize("command", [c for c in ON_VOTES if c not in ("ranking", "order-effects")])
def test_unknown_conditions(command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, call(command, tables, tmp_path, lambda votes: votes.replace({"own": "mine"})))
    assert "no condition 'own' in the votes; allowed: mine, other, population, unoptimised; to do: name one" in line


def test_unknown_condition_of_reference_and_embeddings(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_ranking = call("ranking", tables, tmp_path, lambda frame: frame, "--reference", "mine")
    assert "no condition 'mine'" in refused(capsys, call_ranking)
    call_consistency = call("consistency", tables, tmp_path, lambda frame: frame, "--condition", "mine")
    assert "no condition 'mine'" in refused(capsys, call_consistency)


@pytest.mark.parametrize("side", [0, 1], ids=["people", "items"])
@pytest.mark.parametrize("command", EVERY)
def test_one_person_or_one_item_is_too_few(
    command: str, side: int, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, call(command, tables, tmp_path, lambda frame: only(frame, unit(command)[side], 1)))


@pytest.mark.parametrize("side", [0, 1], ids=["people", "items"])
@pytest.mark.parametrize("command", EVERY)
def test_two_to_five_are_given_for_these(
    command: str, side: int, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number, an estimand that says so, and a warning; or a refusal where even the number needs more."""
    more = ("--min-images", "2", "--min-pairs", "1") if command in ("accuracy", "tie-curve", "stability") else ()
    people = 4 if command == "yoked" else 3  # pairs of people are one unit there
    n = people if side == 0 else 3
    status = call(command, tables, tmp_path, lambda frame: only(frame, unit(command)[side], n), *more)
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    if command == "power":  # speaks of simulated studies; the pilot is what is small
        assert "leaves spreads uncertain" in out
        return
    noun = {
        "participant_id": ("these people", f"only {n} participants"),
        "user_id": ("these users", f"only {n} users"),
        "prompt_id": ("these prompts", f"only {n} prompts"),
        "image_id": ("these images", f"only {n} images"),
    }[unit(command)[side]]
    if command == "consistency" and side == 0:
        noun = ("these people", noun[1])
    text = " ".join(out.split())
    assert noun[0] in text[text.index("Estimand: ") :]
    warned = [line for line in out.splitlines() if line.startswith("Warning: ")]
    assert any(noun[1] in line for line in warned), warned


CONSTANT_IS_A_NUMBER = {
    "monitor": "betting needs no variance: answers all alike are the strongest evidence there is",
    "order-effects": "the side varies when one condition always wins",
}


@pytest.mark.parametrize("command", EVERY)
def test_constant_answers(command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil: Spoil = own_chosen
    if command in ON_RATINGS:
        spoil = lambda ratings: ratings.assign(score=500)  # noqa: E731
    if command in ON_STEERED:
        spoil = lambda steered: steered.assign(embedding=[[1.0] * 5] * len(steered))  # noqa: E731
    status = call(command, tables, tmp_path, spoil)
    if command in CONSTANT_IS_A_NUMBER:
        assert status == 0
        assert "nan" not in capsys.readouterr().out
        return
    refused(capsys, status)


@pytest.mark.parametrize("command", ["ranking", "order-effects"])
def test_unconnected_conditions(
    command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def apart(votes: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([votes, votes.assign(left_condition="x", right_condition="y")]).drop(columns="trial_id")

    line = refused(capsys, call(command, tables, tmp_path, apart))
    assert "no votes connect other, own, population, unoptimised with x, y" in line
    assert "--where" in line


@pytest.mark.parametrize("command", ["ranking", "logistic"])
def test_infinite_estimates(command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, call(command, tables, tmp_path, lambda votes: votes.assign(choice="left")))
    assert "infinite estimate" in line


@pytest.mark.parametrize("command", [c for c in ON_RATINGS if c != "agreement"])
def test_predictions_that_cannot_be_used(
    command: str, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(predictions: pd.DataFrame) -> str:
        return refused(capsys, call(command, {**tables, "predictions": predictions}, tmp_path))

    predictions = tables["predictions"]
    assert "no column model" in told(predictions.rename(columns={"model": "x"}))
    assert "none of 576 predictions has a rating" in told(predictions.assign(image_id="x" + predictions["image_id"]))
    assert "score not allowed in 576 of 576 rows" in told(predictions.assign(score=np.nan))
    assert "score off the scale" in refused(capsys, call(command, tables, tmp_path, lambda r: r.assign(score=1001)))


def test_reports_and_bundles(tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan without data, data without a plan, votes nothing can be made of, bundles that are none."""
    plan, data = tmp_path / "plan.yaml", tmp_path / "data"
    plan.write_text("focal: own\ncontrasts: [own:other]\n")
    report = ("report", str(plan), str(data), "--out", str(tmp_path / "out"))
    assert "no such folder" in refused(capsys, main(list(report)))
    data.mkdir()
    assert "no tables" in refused(capsys, main(list(report)))
    votes = tables["votes"]
    for spoilt, expected in (
        (votes.rename(columns={"choice": "answer"}), "no column choice"),
        (votes.replace({"own": "mine"})[lambda v: v["left_condition"] == v["right_condition"]], "no rows"),
        (only(votes, "participant_id", 1), ""),
    ):
        spoilt.to_csv(data / "votes.csv", index=False)
        assert expected in refused(capsys, main(list(report)))
    plan.write_text("focal: own\ncontrasts: own\n")
    assert "contrasts: found 'own'" in refused(capsys, main(list(report)))
    assert "no such bundle" in refused(capsys, main(["rerun", str(tmp_path / "nothing")]))
    assert "no readable MANIFEST.json" in refused(capsys, main(["rerun", str(data)]))
