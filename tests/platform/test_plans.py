"""Plans: what is allowed, what is said about mistakes, and what decides a plan's hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from beholder.errors import PlanError
from beholder.models.catalogue import CATALOGUE
from beholder.models.entries import NetworkEntry, ScorerEntry
from beholder.models.scorers import SCORERS
from beholder.plans import Plan, load_plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GPU: dict[str, Any] = {"revision": COMMIT, "device": "cuda", "dtype": "bfloat16"}
FLUX = {"model": "flux.1-schnell", "steps": 4, "compile": "default"} | GPU
GEMINI = {"service": "gemini", "model": "gemini-2.5-flash-image", "price": 0.04, "budget": 20, "per_minute": 60}
BASE = {"checkpoint": "Qwen/Qwen2-VL-7B-Instruct", "revision": COMMIT}
FULL: dict[str, Any] = {
    "name": "full",
    "generate": {"generator": FLUX, "size": 1024},
    "embed": {
        "encoder": {"model": "siglip2", "gpu_memory_gb": 4} | GPU,
        "text_encoder": {"model": "llama-embed-nemotron-8b", "prompt": "Query: "} | GPU,
    },
    "score": {
        "scorers": [
            "statistics",
            {"model": "hpsv3", "parts": {"base": BASE}, "batch_size": 1, "not_recorded": "allow"} | GPU,
            {"model": "laion_aesthetic", "checkpoint": "clip", "parts": {"head": {"checkpoint": "head"}}}
            | {"device": "cpu", "dtype": "float32"},
            {"file": "mine.py", "options": {"power": 2}},
        ]
    },
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def plan_of(folder: Path, **changes: Any) -> Plan:
    return load_plan(written(folder, FULL | changes))


def test_a_plan_without_new_options_keeps_the_hash_it_had_before_them(tmp_path: Path) -> None:
    """The hash of this plan was taken before plans knew of other generators, encoders and scorers."""
    (tmp_path / "plan.yaml").write_text("name: old # and a comment\nseed: 7\nsteer: {parents: null}\n")
    old = load_plan(tmp_path / "plan.yaml")
    assert old.hash == "25ad5ee8c2bdb40e092f3e298799c876714b1e015c590654192ad81f81266d27"
    silent = {"steer": {"parents": None}, "score": None, "embed": {"text_encoder": None}}
    assert load_plan(written(tmp_path, {"name": "old", "seed": 7} | silent)).hash == old.hash


def test_what_a_plan_says_is_in_its_hash(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert Plan.model_validate(plan.model_dump()) == plan
    assert plan_of(tmp_path, seed=1).hash == plan.hash  # the default, said aloud
    steps = plan_of(tmp_path, generate={"generator": FLUX | {"steps": 5}, "size": 1024})
    card = plan_of(tmp_path, generate={"generator": FLUX | {"card": "NVIDIA H100 80GB HBM3"}, "size": 1024})
    hosted = plan_of(tmp_path, generate={"generator": GEMINI, "size": 1024})
    fewer = plan_of(tmp_path, score={"scorers": FULL["score"]["scorers"][:3]})
    without = load_plan(written(tmp_path, {k: v for k, v in FULL.items() if k != "score"}))
    assert len({p.hash for p in (plan, steps, card, hosted, fewer, without)}) == 6
    by_flag = load_plan(written(tmp_path, FULL), ["generate.generator.steps=5"])
    assert by_flag.hash == steps.hash


@given(st.permutations(list(FULL)))
def test_order_of_keys_does_not_matter(keys: list[str]) -> None:
    shuffled = {key: FULL[key] for key in keys}
    assert Plan.model_validate(shuffled).hash == Plan.model_validate(FULL).hash


def parts_of(scorer: str) -> dict[str, Any]:
    return {part: BASE for part in SCORERS[scorer].parts} if scorer in SCORERS else {}


def test_every_model_of_the_catalogue_can_be_named(tmp_path: Path) -> None:
    """By its name alone, or with the settings that its kind asks for."""
    cpu = {"device": "cpu", "dtype": "float32", "checkpoint": "somewhere"}
    for e in CATALOGUE:
        network = {"model": e.id} | cpu
        entries: dict[str, Any] = {
            "generator": {"generate": {"generator": network | {"steps": 1}}},
            "image encoder": {"embed": {"encoder": network}},
            "text encoder": {"embed": {"text_encoder": network}},
            "rewriter": {"steer": {"rewriter": e.id}},
            "scorer": {"score": {"scorers": [network | {"parts": parts_of(e.id)}]}},
            "measurement": {},
        }
        content = entries[e.role]
        if e.id in ("scenes", "efficientnet_lite0", "statistics"):
            (section, fields), *_ = content.items()
            name = next(iter(fields))
            content = {section: {name: [e.id] if section == "score" else e.id}}
        elif e.weights == "service":
            content = {"generate": {"generator": GEMINI | {"service": e.id}}}
        elif e.id == "precomputed":
            content = {"embed": {"encoder": {"file": "vectors.npz"}}}
        elif e.id == "user":
            content = {"score": {"scorers": [{"file": "mine.py"}]}}
        elif e.id == "minilm":
            content = {"embed": {"text_encoder": None}}
        load_plan(written(tmp_path, {"name": "one"} | content))
    assert {e.id for e in CATALOGUE if e.role == "scorer"} == {*SCORERS, "statistics", "user"}


def test_without_checkpoint_the_catalogue_says_where(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert isinstance(plan.generate.generator, NetworkEntry)
    assert plan.generate.generator.source == "black-forest-labs/FLUX.1-schnell"
    assert plan.score is not None
    hpsv3 = plan.score.scorers[1]
    assert isinstance(hpsv3, ScorerEntry)
    assert (hpsv3.title, hpsv3.source) == ("hpsv3", "MizzenAI/HPSv3")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"generate": {"generator": "flux"}}, "generate.generator: no generator 'flux'"),
    ({"generate": {"generator": "flux.1-dev"}}, "flux.1-dev needs settings"),
    ({"generate": {"generator": 3}}, "generate.generator: a name or a mapping, found 3"),
    ({"generate": {"generator": FLUX | {"step": 4}}}, "unknown key 'generate.generator.step', did you mean 'steps'"),
    ({"generate": {"generator": FLUX | {"steps": 0}}}, "generate.generator.steps: input should be greater"),
    ({"generate": {"generator": FLUX | {"device": "tpu"}}}, "generator.device: input should be 'cpu' or 'cuda'"),
    ({"generate": {"generator": FLUX | {"model": "siglip2"}}}, "no generator 'siglip2'"),
    ({"generate": {"generator": FLUX | {"model": "diffusers"}}}, "diffusers needs a checkpoint"),
    ({"generate": {"generator": {"service": "gemini"}}}, "generate.generator.model is missing"),
    ({"embed": {"encoder": {"model": "sigli"} | GPU}}, "no image encoder 'sigli', did you mean 'siglip2'"),
    ({"embed": {"encoder": {"model": "hpsv3"} | GPU}}, "no image encoder 'hpsv3'"),
    ({"embed": {"text_encoder": {"model": "siglip2-text", "prompt": "x"} | GPU}}, "are for sentence encoders"),
    ({"score": {"scorers": []}}, "name one, or leave the section out"),
    ({"score": {}}, "score.scorers is missing"),
    ({"score": {"scorers": ["statistics", "statistics"]}}, "two scorers are called 'statistics'"),
    ({"score": {"scorers": ["hpsv3"]}}, "score.scorers.0: hpsv3 needs settings"),
    ({"score": {"scorers": [{"model": "hpsv2"} | GPU]}}, "hpsv2 needs a checkpoint: a folder"),
    ({"score": {"scorers": [{"model": "hpsv3"} | GPU]}}, "score.scorers.0: hpsv3 has parts: base; found none"),
    ({"score": {"scorers": [{"model": "user"} | GPU]}}, "user has no checkpoint: give file"),
    ({"score": {"scorers": [{"file": "x.py", "batch": 1}]}}, "unknown key 'score.scorers.0.batch', did you mean"),
    ({"score": {"scorers": [FULL["score"]["scorers"][2] | {"parts": {"head": {"checkpont": "x"}}}]}},
     "unknown key 'score.scorers.0.parts.head.checkpont', did you mean 'checkpoint'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), MISTAKES)
def test_mistakes_name_field_and_remedy(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        load_plan(written(tmp_path, {"name": "wrong"} | content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Entry" not in str(caught.value)  # no class of ours where the user wrote none
