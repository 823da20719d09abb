"""Plans: what they refuse and how they say it, and a hash that depends on content alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import UserError
from analysis.plan import AnalysisPlan, ExclusionRules, PlannedSize
from analysis.results import Population

LEAST = {"focal": "own", "contrasts": ["own:other"]}


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        AnalysisPlan.of({**LEAST, **changes}, "study.yaml: ")
    return str(caught.value)


def test_least_plan_has_the_documented_defaults() -> None:
    plan = AnalysisPlan.of(LEAST)
    assert plan == AnalysisPlan(focal="own", contrasts=(("own", "other"),))
    assert (plan.confidence, plan.permutations, plan.seed, plan.ties) == (0.95, 9999, 0, "davidson")
    assert plan.population == Population("new", "new")
    assert not plan.exclusions.any


def test_hash_is_the_digest_of_canonical_json_and_of_content_alone(tmp_path: Path) -> None:
    plan = AnalysisPlan.of(LEAST)
    text = json.dumps(plan.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert plan.hash == hashlib.sha256(text.encode()).hexdigest()
    file = tmp_path / "plan.yaml"
    file.write_text("# a comment\nconfidence: .95\ncontrasts:\n  - own:other\nfocal: own\n")
    assert AnalysisPlan.load(file).hash == plan.hash
    for field, value in (("seed", 1), ("confidence", 0.9), ("title", "Another"), ("permutations", 999)):
        assert dataclasses.replace(plan, **{field: value}).hash != plan.hash


names = st.text(
    st.characters(blacklist_characters=":,", blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")),
    min_size=1,
    max_size=8,
)


@given(
    conditions=st.lists(names, min_size=2, max_size=5, unique=True),
    title=st.text(min_size=1, max_size=20).filter(lambda text: text.strip() and text.isprintable()),
    confidence=st.floats(0.51, 0.999),
    seed=st.integers(0, 2**40),
    people=st.sampled_from(["new", "these"]),
    rules=st.builds(
        ExclusionRules, votes_below=st.none() | st.integers(1, 50), side_p_below=st.none() | st.just(0.001)
    ),
    size=st.builds(PlannedSize, participants=st.none() | st.integers(1, 500)),
)
def test_every_plan_survives_yaml(conditions, title, confidence, seed, people, rules, size) -> None:
    plan = AnalysisPlan(
        focal=conditions[0],
        contrasts=tuple((conditions[0], other) for other in conditions[1:]),
        title=title,
        confidence=confidence,
        seed=seed,
        population=Population(people, "new"),
        exclusions=rules,
        size=size,
    )
    again = AnalysisPlan.of(yaml.safe_load(plan.to_yaml()))
    assert again == plan
    assert again.hash == plan.hash
    assert AnalysisPlan.of(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"confidence": 95}, "study.yaml: confidence: found 95; allowed: a number between .5 and 1"),
        ({"confidence": True}, "confidence: found True"),
        ({"confidence": "0.95"}, "confidence: found '0.95'"),
        ({"permutations": 20}, "permutations: found 20; allowed: a whole number of 99 or more"),
        ({"seed": -1}, "seed: found -1; allowed: a whole number of 0 or more"),
        ({"seed": 1.0}, "seed: found 1.0"),
        ({"ties": "half"}, "ties: found 'half'; allowed: davidson or rao-kupper"),
        ({"population": "everybody"}, "population: found 'everybody'; allowed: new-people|these-people"),
        ({"contrasts": "own:other"}, "contrasts: found 'own:other'; allowed: a list of FOCAL:AGAINST"),
        ({"contrasts": ["own"]}, "contrasts: found ['own']"),
        ({"contrasts": ["own:other", "other:own"]}, "each pair of conditions once"),
        ({"contrasts": ["own:own"]}, "contrasts: found ['own:own']"),
        ({"contrasts": []}, "contrasts: found []"),
        ({"focal": 3}, "focal: found 3; allowed: the name of a condition"),
        ({"focal": "population"}, "focal 'population' is in no contrast"),
        ({"margins": [0, 500]}, "margins: found [0, 500]; allowed: [first, last, step]"),
        ({"size": {"prompts": 0}}, "size.prompts: found 0"),
        ({"title": "A\x85B"}, "title: found 'A\\x85B'; allowed: one line of printable text"),
        ({"size": 100}, "size: found 100; allowed: a mapping with participants, prompts, votes"),
        ({"exclusions": {"side_p_below": 2}}, "exclusions.side_p_below: found 2"),
        ({"contrast": []}, "contrast: unknown key; allowed: focal, contrasts"),
    ],
)
def test_impossible_values_are_told_with_file_field_found_and_allowed(changes: dict[str, Any], told: str) -> None:
    message = refused(**changes)
    assert message.startswith("study.yaml: ")
    assert told in message


def test_a_misspelt_key_is_guessed() -> None:
    assert "did you mean 'permutations'?" in refused(permutation=999)


@pytest.mark.parametrize("rule", ["agreement_with_others_below", "disagrees_with_majority", "never_chose_own"])
def test_rules_that_would_delete_private_taste_are_refused(rule: str) -> None:
    assert "would delete the taste under study" in refused(exclusions={rule: 0.5})


def test_missing_fields_and_other_content() -> None:
    with pytest.raises(UserError, match=r"p\.yaml: contrasts is missing"):
        AnalysisPlan.of({"focal": "own"}, "p.yaml: ")
    with pytest.raises(UserError, match=r"p\.yaml: found None"):
        AnalysisPlan.of(None, "p.yaml: ")


def test_a_study_plan_lends_its_name_and_seed(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: demo\nseed: 4\nstudy: {trials: 30}\nanalysis: {focal: own, contrasts: [own:other]}\n")
    plan = AnalysisPlan.load(file)
    assert (plan.title, plan.seed) == ("demo", 4)
    file.write_text("name: demo\nseed: 4\nanalysis: {focal: own, contrasts: [own:other], seed: 9}\n")
    assert AnalysisPlan.load(file).seed == 9
    file.write_text("analysis: {focal: own, contrasts: [own:other], cofidence: .9}\n")
    with pytest.raises(UserError, match=r"study.yaml: analysis.cofidence: unknown key.*did you mean 'confidence'"):
        AnalysisPlan.load(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("focal: own\nfocal: other\ncontrasts: [own:other]\n", "'focal' is written twice"),
        ("focal: [own\n", "is not YAML"),
        ("", "found None"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=told):
        AnalysisPlan.load(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        AnalysisPlan.load(tmp_path / "plan.yaml")
