"""One field of a plan is written back, and a reader of the file finds everything else as it was."""

from __future__ import annotations

import difflib

import pytest
import yaml

from beholder.errors import PlanError
from beholder.plan_field import batch_size_field, write_field
from beholder.plans import Plan, load_plan

PLAN = """\
# A study.
name: study   # its name
generate:
  # as large as the card allows
  batch_size: 4   # to be probed
  size: 256
embed: {size: 224, batch_size: 8}   # on one line
rate:
  raters: 20
score:
  scorers:
    - statistics
    # the crowd's
    - model: hpsv3
      batch_size: 2
    - {model: qalign}
steer: {}
"""


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


@pytest.mark.parametrize(
    ("field", "lines"),
    [
        (("generate", "batch_size"), ["-   batch_size: 4   # to be probed", "+   batch_size: 16   # to be probed"]),
        (
            ("embed", "batch_size"),
            [
                "- embed: {size: 224, batch_size: 8}   # on one line",
                "+ embed: {size: 224, batch_size: 16}   # on one line",
            ],
        ),
        (("rate", "batch_size"), ["+   batch_size: 16"]),
        (("score", "scorers", 1, "batch_size"), ["-       batch_size: 2", "+       batch_size: 16"]),
        (("score", "scorers", 2, "batch_size"), ["-     - {model: qalign}", "+     - {batch_size: 16, model: qalign}"]),
        (("steer", "batch_size"), ["- steer: {}", "+ steer: {batch_size: 16}"]),
        (("taste", "text_encoder", "batch_size"), ["+ taste: {text_encoder: {batch_size: 16}}"]),
    ],
)
def test_only_the_field_changes(tmp_path, field, lines):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    write_field(path, field, 16)
    after = path.read_text()
    assert changed_lines(PLAN, after) == lines
    found = yaml.safe_load(after)
    for step in field:
        found = found[step]
    assert found == 16
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("field", [("score", "scorers", 0, "batch_size"), ("score", "scorers", 7, "batch_size"),
                                   ("name", "batch_size")])  # fmt: skip
def test_where_there_is_no_place_nothing_changes(tmp_path, field):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    with pytest.raises(PlanError, match="has no place"):
        write_field(path, field, 16)
    assert path.read_text() == PLAN


def test_plans_say_which_field_a_stage_reads(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("def score(images, prompts): return [0.0 for _ in images]\n")
    plan = Plan.model_validate({"name": "s", "score": {"scorers": ["statistics", {"file": str(own), "name": "own"}]}})
    assert batch_size_field(plan, "generate") == ("generate", "batch_size")
    assert batch_size_field(plan, "embed") == ("embed", "batch_size")
    assert batch_size_field(plan, "score_own") == ("score", "scorers", 1, "batch_size")
    for stage in ("rewrite", "embed_text", "score_statistics"):
        with pytest.raises(PlanError, match="sets no batch size"):
            batch_size_field(plan, stage)
    path = tmp_path / "plan.yaml"
    path.write_text("name: s\nscore:\n  scorers: [statistics, {file: mine.py, name: own}]\n")
    write_field(path, batch_size_field(plan, "score_own"), 5)
    found = load_plan(path).score
    assert found is not None
    assert found.scorers[1].batch_size == 5
