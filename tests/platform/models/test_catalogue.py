"""The catalogue holds every model there is, the documentation holds the catalogue, and the commands show both."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beholder.cli import app
from beholder.errors import UserError
from beholder.models import weights
from beholder.models.catalogue import CATALOGUE, WEIGHTS, entry, markdown
from beholder.models.configured import EMBEDDED
from beholder.models.generators.hosted_protocols import SERVICES
from beholder.models.rewriters import NAMES
from beholder.models.scorers import SCORERS
from beholder.models.scorers.environments import PLATFORM, names

DOCS = Path(__file__).parents[3] / "docs" / "models.md"


def test_every_model_of_the_code_is_listed_once() -> None:
    ids = [e.id for e in CATALOGUE]
    assert len(ids) == len(set(ids))
    assert {*weights.locked(), *NAMES, *SERVICES, *SCORERS} <= set(ids)
    assert {e.id for e in CATALOGUE if e.weights == "lock"} == set(weights.locked()) == set(EMBEDDED)
    for name, spec in SCORERS.items():
        assert entry(name).environment == spec.environment
        assert entry(name).role == "scorer"
        assert ("prompt" in entry(name).takes) == spec.needs_prompt
    assert {e.environment for e in CATALOGUE} == {PLATFORM, *names()}
    for e in CATALOGUE:
        assert e.weights in WEIGHTS
        assert e.licence
        if e.weights == "lock":
            assert e.licence == weights.locked()[e.id].licence
        # Nothing that was not run on real weights calls itself verified.
        assert e.verified == (e.tested_on in ("real weights", "known values"))
    with pytest.raises(UserError, match="model 'dall-e'"):
        entry("dall-e")


def test_sizes_are_those_of_the_weights_where_they_are_here(tmp_path: Path) -> None:
    cache = weights.cache_folder(Path(__file__).parents[3] / "models")
    for name in weights.locked():
        if weights.present(name, cache):
            stored = weights.manifest(name, cache)["files"]["model.safetensors"]["bytes"]
            half = 2 if name == "smollm2" else 1  # stored in half precision, run in single
            assert entry(name).memory_gb == pytest.approx(half * stored / 1e9, rel=0.3)


def test_the_documentation_has_the_table() -> None:
    assert markdown() in DOCS.read_text(encoding="utf-8")
    text = DOCS.read_text(encoding="utf-8")
    for command in re.findall(r"`beholder models (\w+)", text):
        assert command in ("list", "show", "fetch", "convert", "canary")


def test_the_docs_name_what_is_verified() -> None:
    paragraph = re.search(r"Verified are (.+?)\. All", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert paragraph
    assert set(re.findall(r"`(\S+?)`", paragraph[1])) == {e.id for e in CATALOGUE if e.verified}


def test_the_docs_name_for_every_model_tests_that_there_are() -> None:
    """One row each; slow tests, and no others, are marked; packages are those of the catalogue."""
    text = DOCS.read_text(encoding="utf-8")
    section = text[text.index("## What was run of each") : text.index("## Naming models in a plan")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    listed = [(name, packages) for names, _, _, packages in rows[2:] for name in names.split(", ")]
    assert sorted(listed) == sorted((e.id, e.environment) for e in CATALOGUE)
    for file, test, star in re.findall(r"`([\w/.]+\.py)::(\w+)`(\*?)", section):
        source = (Path(__file__).parent / file).read_text(encoding="utf-8")
        found = re.search(rf"((?:^@.*\n)*)^def {test}\(", source, re.MULTILINE)
        assert found, f"{file} has no {test}"
        assert ("pytest.mark.slow" in found[1]) == bool(star), test


def test_list_and_show(tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(app, ["models", "list", "--cache", str(tmp_path)])
    assert listed.exit_code == 0
    rows = {line.split()[0]: line for line in listed.stdout.splitlines()[1:] if line.strip()}
    assert set(rows) == {e.id for e in CATALOGUE}
    assert all(f" {e.status} " in f"{rows[e.id]} " for e in CATALOGUE)
    assert rows["minilm"].endswith("  no")
    assert max(map(len, listed.stdout.splitlines())) <= 80
    starts = [listed.stdout.index(title) for title in ("role", "environment", "status")]
    for e in CATALOGUE:  # every cell whole, under its title
        assert [rows[e.id][at:].split("  ")[0].strip() for at in starts] == [e.role, e.environment, e.status]
    scorers = run.invoke(app, ["models", "list", "--role", "scorer", "--cache", str(tmp_path)]).stdout
    assert "hpsv3" in scorers
    assert "minilm" not in scorers
    told = json.loads(run.invoke(app, ["models", "list", "--json", "--cache", str(tmp_path)]).stdout)
    assert [m["id"] for m in told] == [e.id for e in CATALOGUE]
    assert all((m["licence"], m["source"], m["status"]) == (entry(m["id"]).licence, entry(m["id"]).source,
               entry(m["id"]).status) for m in told)  # fmt: skip
    assert {m["id"] for m in told if m["cached"] == "no"} == set(weights.locked())
    shown = run.invoke(app, ["models", "show", "qalign"]).stdout
    for part in ("q-future/one-align", "expected level, 1 to 5", "pyiqa", "unverified", WEIGHTS["commit"]):
        assert part in shown


def test_a_damaged_model_is_said_and_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "minilm").mkdir()
    manifest = {"source_sha256": "0" * 64, "files": {}, "digest": ""}
    (tmp_path / "minilm" / "manifest.json").write_text(json.dumps(manifest))
    listed = CliRunner().invoke(app, ["models", "list", "--cache", str(tmp_path)])
    assert listed.exit_code == 2
    assert "minilm is damaged: " in listed.stdout.splitlines()[-1]
    assert "delete " in listed.stdout.splitlines()[-1]
    told = CliRunner().invoke(app, ["models", "list", "--json", "--cache", str(tmp_path)])
    assert told.exit_code == 2
    assert next(m["cached"] for m in json.loads(told.stdout) if m["id"] == "minilm") == "damaged"
    assert "minilm is damaged: " in told.stderr


def test_convert_from_the_command_line(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt")
    target = tmp_path / "w.safetensors"
    done = CliRunner().invoke(app, ["models", "convert", str(tmp_path / "w.pt"), str(target)])
    assert done.exit_code == 0
    assert weights.sha256_of(target) in done.stdout


def test_a_users_mistake_is_one_line(tmp_path: Path) -> None:
    beholder = shutil.which("beholder", path=str(Path(sys.executable).parent))
    assert beholder
    for arguments in (["show", "dall-e"], ["canary", "--record"], ["canary", str(tmp_path / "none.yaml")]):
        done = subprocess.run([beholder, "models", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("beholder: ")
        assert len(done.stderr.splitlines()) == 1
