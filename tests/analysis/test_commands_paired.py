"""Commands of the paired studies: the fields scripts rely on, files written, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main

COMMON = {"provenance", "exclusions", "estimand", "warnings"}
FIELDS = {
    "win-rates": {"estimate", "ci_low", "ci_high", "se", "df", "t", "p", "n_votes", "n_ties", "n_participants"}
    | {"n_prompts", "naive"},
    "ranking": {"conditions", "tie_parameter", "order_effect", "log_likelihood", "converged", "reference"},
    "contrasts": {"contrasts"},
    "consistency": {"t2", "p", "t1", "identification_rate", "n_users", "n_prompts", "n_runs"},
}
CALLS = {
    "win-rates": ["--focal", "own", "--against", "other"],
    "ranking": [],
    "contrasts": ["--contrasts", "own:other,own:third"],
    "consistency": [],
}
PAIRED = ("win-rates", "ranking", "contrasts")


@pytest.fixture
def votes(draw_votes, rng: np.random.Generator) -> pd.DataFrame:
    drawn = draw_votes(rng, {"own": 0.4, "other": 0.0, "third": -0.2}, n_people=12, n_prompts=10)
    return drawn.assign(kind=np.where(rng.random(len(drawn)) < 0.9, "main", "repeat"))


@pytest.fixture
def steered(rng: np.random.Generator) -> pd.DataFrame:
    rows = [(f"u{u}", f"p{p}", r, rng.normal(size=5).tolist()) for u in range(6) for p in range(4) for r in (1, 2)]
    return pd.DataFrame(rows, columns=["user_id", "prompt_id", "run", "embedding"])


def written(frame: pd.DataFrame, folder: Path, suffix: str = "csv") -> str:
    path = folder / f"table.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *call: str) -> dict:
    assert main([*call, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *call: str) -> str:
    """The one line of a refused call."""
    assert main(list(call)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("command", FIELDS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_fields_and_files(
    command: str,
    suffix: str,
    votes: pd.DataFrame,
    steered: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(steered if command == "consistency" else votes, tmp_path, suffix)
    printed = answer(capsys, command, path, *CALLS[command], "--out", str(tmp_path / "out"))
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    assert FIELDS[command] | COMMON <= set(printed)
    assert (tmp_path / "out" / "figure.svg").read_text().startswith("<svg")
    assert len(pd.read_csv(tmp_path / "out" / "result.csv")) >= 1
    assert (
        printed["exclusions"]["n_in"]
        == sum(r["n"] for r in printed["exclusions"]["reasons"]) + (printed["exclusions"]["n_used"])
    )
    assert "for new people and" in printed["estimand"]["text"]
    assert set(printed["provenance"]) == {"data", "seed", "versions", "settings"}
    assert main([command, path, *CALLS[command]]) == 0
    assert "Estimand" in capsys.readouterr().out


def test_inner_fields(votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(votes, tmp_path)
    ranking = answer(capsys, "ranking", path)
    assert {"condition", "log_strength", "se", "ci_low", "ci_high"} <= set(ranking["conditions"][0])
    assert ranking["reference"] == "other"
    assert ranking["converged"] is True
    assert {c["condition"] for c in ranking["conditions"]} == {"own", "other", "third"}
    contrasts = answer(capsys, "contrasts", path, "--contrasts", "own:other,own:third")
    assert {"focal", "against", "estimate", "ci_low", "ci_high", "p", "p_holm"} <= set(contrasts["contrasts"][0])
    win = answer(capsys, "win-rates", path, "--focal", "own")
    assert {"se", "p"} <= set(win["naive"])
    assert sum(r["n"] for r in win["exclusions"]["reasons"] if r["reason"] == "kind is not main") == (
        (votes["kind"] != "main").sum()
    )


def test_hand_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wins = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
    people, items = (x.ravel() for x in np.indices(wins.shape))
    frame = pd.DataFrame(
        {
            "participant_id": people,
            "prompt_id": items,
            "left_condition": "own",
            "right_condition": "other",
            "choice": np.where(wins.ravel() == 1, "left", "right"),
        }
    )
    found = answer(capsys, "win-rates", written(frame, tmp_path), "--focal", "own")
    assert found["estimate"] == pytest.approx(2 / 3)
    assert (found["t"], found["df"], found["p"]) == (pytest.approx(1.2247449), 2, pytest.approx(0.3453463))
    assert "for these people and these prompts" in found["estimand"]["text"]
    assert main(["win-rates", written(frame, tmp_path), "--focal", "own"]) == 0
    assert capsys.readouterr().out.count("Warning: only") == 2


def test_same_bytes_again(votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(votes, tmp_path)
    call = ("contrasts", path, *CALLS["contrasts"], "--seed", "3")
    first = answer(capsys, *call)
    assert first == answer(capsys, *call)
    assert first["provenance"]["seed"] == 3
    (tmp_path / "elsewhere").mkdir()
    assert answer(capsys, "contrasts", written(votes, tmp_path / "elsewhere"), *call[2:]) == first


def test_options_of_the_ranking(votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(votes, tmp_path)
    davidson = answer(capsys, "ranking", path, "--reference", "third", "--order-effect", "none")
    assert davidson["reference"] == "third"
    assert davidson["order_effect"] is None
    rao = answer(capsys, "ranking", path, "--ties", "rao-kupper")
    assert rao["tie_parameter"] > 1
    ninety = answer(capsys, "ranking", path, "--confidence", ".9", "--reference", "third", "--order-effect", "none")
    widths = [[c["ci_high"] - c["ci_low"] for c in r["conditions"][:2]] for r in (ninety, davidson)]
    assert all(a < b for a, b in zip(*widths, strict=True))


def test_columns_where_and_population(votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(votes.rename(columns={"participant_id": "judge", "prompt_id": "text"}), tmp_path)
    call = ("win-rates", path, "--focal", "own", "--columns", "participant_id=judge,prompt_id=text")
    found = answer(capsys, *call, "--where", "order < 20", "--population", "new-people,these-prompts")
    assert found["exclusions"]["n_in"] == len(votes)
    assert found["exclusions"]["reasons"][0] == {
        "reason": "not --where order < 20",
        "n": int((votes["order"] >= 20).sum()),
    }
    assert found["df"] == 11
    assert found["estimand"]["items"] == "these"


@pytest.mark.parametrize("command", PAIRED)
def test_mistakes_of_every_command(
    command: str, votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(frame: pd.DataFrame, *more: str) -> str:
        path = written(frame, tmp_path)
        line = complaint(capsys, command, path, *CALLS[command], *more)
        assert path in line or more
        return line

    line = told(votes.rename(columns={"choice": "answer"}))
    assert "no column choice (columns: participant_id" in line
    assert "--columns ours=theirs" in line
    line = told(votes.assign(choice=votes["choice"].replace("tie", "both")))
    assert f"{(votes['choice'] == 'tie').sum()} of {len(votes)} rows" in line
    assert "left, right, tie" in line
    assert "no rows" in told(votes.iloc[:0])
    assert "1 p" in told(votes.assign(participant_id="u1"))  # people or participants
    assert "at least 2" in told(votes.assign(prompt_id="p1"))
    assert "the same participant_id + trial_id" in told(votes.assign(trial_id="t1"))
    assert "--confidence" in told(votes, "--confidence", "95")
    assert "keeps 0 of" in told(votes, "--where", "order > 1000")
    assert "population 'everybody'" in told(votes, "--population", "everybody")
    assert "no such file" in complaint(capsys, command, str(tmp_path / "none.csv"), *CALLS[command])
    assert "unrecognized arguments: --colour" in complaint(
        capsys, command, written(votes, tmp_path), *CALLS[command], "--colour", "red"
    )


def test_mistakes_of_single_commands(
    votes: pd.DataFrame, steered: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(votes, tmp_path)
    line = complaint(capsys, "win-rates", path, "--focal", "mine")
    assert "no condition 'mine' in the votes; allowed: other, own, third" in line
    assert "no condition 'mine'" in complaint(capsys, "contrasts", path, "--contrasts", "own:mine")
    assert "FOCAL:AGAINST" in complaint(capsys, "contrasts", path, "--contrasts", "own")
    assert "planned twice" in complaint(capsys, "contrasts", path, "--contrasts", "own:other,other:own")
    assert "no condition 'mine'" in complaint(capsys, "ranking", path, "--reference", "mine")
    assert "invalid choice: 'elo'" in complaint(capsys, "ranking", path, "--ties", "elo")
    wins = votes.assign(choice=np.where(votes["left_condition"] == "own", "left", "right"))
    always = wins[(wins[["left_condition", "right_condition"]] == "own").any(axis=1)]
    line = complaint(capsys, "win-rates", written(always, tmp_path), "--focal", "own")
    assert "answers that vary" in line
    line = complaint(capsys, "ranking", written(always, tmp_path))
    assert "infinite estimate" in line
    assert "--pseudo-wins 0.5" in line
    mended = answer(capsys, "ranking", written(always, tmp_path), "--pseudo-wins", "0.5")
    assert any("0.5 wins were added" in w for w in mended["warnings"])
    apart = pd.concat([votes, votes.assign(left_condition="x", right_condition="y")])
    line = complaint(capsys, "ranking", written(apart, tmp_path))
    assert "no votes connect other, own, third with x, y" in line
    assert "--where" in line
    assert "every vote is a tie" in complaint(capsys, "ranking", written(votes.assign(choice="tie"), tmp_path))
    path = written(steered, tmp_path)
    assert "no condition 'own'" in complaint(capsys, "consistency", path, "--condition", "own")
    assert "1 of 48 combinations" in complaint(capsys, "consistency", written(steered.iloc[1:], tmp_path))
    one = steered[steered["user_id"] == "u0"]
    assert "1 users; allowed: at least 2" in complaint(capsys, "consistency", written(one, tmp_path))
    assert "unknown command 'win'" in complaint(capsys, "win", path)
    assert main(["--help"]) == 0
    assert "win-rates" in capsys.readouterr().out


def test_few_people_or_prompts_are_told(
    votes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = votes[votes["participant_id"].isin([f"u{k:03d}" for k in range(5)])]
    for command in PAIRED:
        found = answer(capsys, command, written(few, tmp_path), *CALLS[command])
        assert (found["estimand"]["people"], found["estimand"]["items"]) == ("these", "new")
        assert any("only 5 participants" in w for w in found["warnings"])


@pytest.mark.parametrize("command", ["win-rates", "ranking"])
def test_light_commands_import_no_heavy_library(command: str, votes: pd.DataFrame, tmp_path: Path) -> None:
    call = [command, written(votes, tmp_path, "parquet"), *CALLS[command], "--json"]
    code = f"import sys; from analysis.cli import main; main({call!r}); print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert json.loads(done.stdout)["n_votes"]
    assert not loaded & {"scipy.stats", "statsmodels", "altair", "scipy.optimize", "mixedlm", "matplotlib", "sklearn"}


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, analysis; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "pandas", "scipy", "pyarrow"}
