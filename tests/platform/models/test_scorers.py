"""Scorers of the platform's own environment on tiny random checkpoints, formulas by hand, and scorers of one's own."""

from __future__ import annotations

import math
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.converting import to_safetensors
from beholder.models.interfaces import Needs
from beholder.models.score_stages import ScoreImages, ScoreWithPython
from beholder.models.scorers import SCORERS, ScorerSettings, load_scorer, scorer_identity, scorer_spec
from beholder.models.scorers import formulas as f
from beholder.models.scorers.environments import PLATFORM, environment, names, wanted
from beholder.models.scorers.user_python import UserScorer
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))

CPU = Computing("cpu", "float32")
PROMPTS = ["a lake", "an old stone bridge", "fog", "pears", "a mill"]

# --- formulas ------------------------------------------------------------------------------------------------------


def test_the_expected_level_by_hand() -> None:
    """Even odds for five levels are 3; odds of e to 1 between the two best, others impossible, are 4 + e / (1 + e)."""
    even = f.expected_level(np.zeros((1, 5)))
    two = f.expected_level(np.array([[1.0, 0.0, -900.0, -900.0, -900.0]]))
    assert even[0] == pytest.approx(3)
    assert two[0] == pytest.approx(4 + math.e / (1 + math.e))
    one = [f.expected_level(np.where(np.arange(5) == i, 800.0, 0.0)[None])[0] for i in range(5)]
    np.testing.assert_allclose(one, [5, 4, 3, 2, 1])
    logits = [2.0, 0.5, -1.0, 0.0, 3.0]
    odds = [math.exp(x) for x in logits]
    by_hand = sum(level * o for level, o in zip((5, 4, 3, 2, 1), odds, strict=True)) / sum(odds)
    assert f.expected_level(np.array([logits]))[0] == pytest.approx(by_hand, rel=1e-14)


@given(st.lists(st.floats(-80, 80), min_size=5, max_size=5), st.floats(-1e3, 1e3))
def test_levels_stay_in_range_and_ignore_a_common_shift(logits: list[float], shift: float) -> None:
    level = f.expected_level(np.array([logits]))[0]
    assert 1 <= level <= 5 + 1e-12
    assert f.expected_level(np.array([logits]) + shift)[0] == pytest.approx(level, abs=1e-9)
    assert f.expected_level(np.array([logits[::-1]]))[0] == pytest.approx(6 - level, abs=1e-9)


def test_other_formulas_by_hand() -> None:
    np.testing.assert_array_equal(f.mean_reward(np.array([[7.5, 0.2], [-1.0, 9.0]])), [7.5, -1.0])
    for wrong in (np.zeros((2, 1)), np.zeros(2), np.zeros((2, 3))):
        with pytest.raises(ValueError, match="expected"):
            f.mean_reward(wrong)
    assert f.standardised_reward(np.array([0.16717362830052426 + 2 * 1.0333394966054072]))[0] == pytest.approx(2)
    assert f.cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))[0] == pytest.approx(24 / 25)
    assert f.contrastive_logit(np.array([0.2]), math.log(100), -3.0)[0] == pytest.approx(17)
    np.testing.assert_allclose(f.sigmoid(np.array([0.0, math.log(3), -1000.0, 1000.0])), [0.5, 0.75, 0.0, 1.0])


# --- checkpoints in the platform's environment ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders as tiny
    import torch

    root = tmp_path_factory.mktemp("scorers")
    for kind in ("clip", "siglip", "siglip2", "dinov2"):
        getattr(tiny, kind)(root / kind)
    torch.manual_seed(6)
    widths = [12, 1024, 128, 64, 16, 1]
    layers = {i: torch.nn.Linear(a, b) for i, a, b in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False)}
    state = {f"layers.{i}.{n}": p.data for i, layer in layers.items() for n, p in layer.named_parameters()}
    torch.save(state, root / "sac+logos+ava1-l14-linearMSE.pth")
    to_safetensors(root / "sac+logos+ava1-l14-linearMSE.pth", root / "head" / "head.safetensors")
    return root


def pictures(n: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    return [rng.integers(0, 256, (30 + 7 * i, 44 - 3 * i, 3), dtype=np.uint8) for i in range(n)]


def settings_for(scorer: str, folder: Path, **changed: Any) -> ScorerSettings:
    if scorer == "laion_aesthetic" and "parts" not in changed:
        changed["parts"] = {"head": Checkpoint(str(folder.parent / "head"))}
    return ScorerSettings(scorer, Checkpoint(str(folder)), CPU, **({"batch_size": 2} | changed))


def reference(folder: Path, image: np.ndarray, prompt: str) -> Any:
    """Both sides through the model's own forward pass, one pair at a time."""
    import torch
    import transformers as t
    from PIL import Image

    kind = folder.name
    model_class, processor_class = {
        "clip": (t.CLIPModel, t.CLIPImageProcessorPil),
        "siglip": (t.SiglipModel, t.SiglipImageProcessorPil),
        "siglip2": (t.Siglip2Model, t.Siglip2ImageProcessorPil),
    }[kind]
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        [prompt], padding="max_length", max_length=24, truncation=True, padding_side="right", return_tensors="pt"
    )
    texts = {"input_ids": tokens["input_ids"]}
    if kind == "clip":
        texts["attention_mask"] = tokens["attention_mask"]
    pixels = processor_class.from_pretrained(folder)(images=Image.fromarray(image), return_tensors="pt")
    with torch.no_grad():
        return model_class.from_pretrained(folder).eval()(**texts, **pixels)


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_logits_are_the_models_own(folders: Path, kind: str) -> None:
    name = "clip_similarity" if kind == "clip" else "siglip_similarity"
    images = pictures()
    outputs = [reference(folders / kind, image, prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
    logit = load_scorer(settings_for(name, folders / kind, options={"form": "logit"})).score(images, PROMPTS)
    np.testing.assert_allclose(logit, [float(out.logits_per_image) for out in outputs], atol=2e-5)
    cosine = load_scorer(settings_for(name, folders / kind)).score(images, PROMPTS)
    by_hand = [float((out.image_embeds * out.text_embeds).sum()) for out in outputs]
    by_hand = [
        value / float(out.image_embeds.norm() * out.text_embeds.norm())
        for value, out in zip(by_hand, outputs, strict=True)
    ]
    np.testing.assert_allclose(cosine, by_hand, atol=2e-6)
    if kind == "clip":
        with pytest.raises(UserError, match="CLIP knows no probability"):
            load_scorer(settings_for(name, folders / kind, options={"form": "probability"}))
        pick = load_scorer(settings_for("pickscore", folders / kind)).score(images, PROMPTS)
        np.testing.assert_array_equal(pick, logit)
    else:
        share = load_scorer(settings_for(name, folders / kind, options={"form": "probability"})).score(images, PROMPTS)
        np.testing.assert_allclose(share, 1 / (1 + np.exp(-logit)), rtol=1e-12)


def test_the_aesthetic_head_is_its_layers_one_after_the_other(folders: Path) -> None:
    import torch
    import transformers as t

    images = pictures()
    state = torch.load(folders / "sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
    model = t.CLIPModel.from_pretrained(folders / "clip").eval()
    processor = t.CLIPImageProcessorPil.from_pretrained(folders / "clip")
    expected = []
    with torch.no_grad():
        for image in images:
            x = model.get_image_features(**processor(images=image, return_tensors="pt")).pooler_output
            x = x / x.norm()
            for i in (0, 2, 4, 6, 7):
                x = torch.nn.functional.linear(x, state[f"layers.{i}.weight"], state[f"layers.{i}.bias"])
            expected.append(float(x))
    scorer = load_scorer(settings_for("laion_aesthetic", folders / "clip"))
    np.testing.assert_allclose(scorer.score(images, [""] * 5), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"), [("clip_similarity", "clip"), ("siglip_similarity", "siglip2"), ("laion_aesthetic", "clip")]
)
def test_scores_do_not_depend_on_neighbours(folders: Path, name: str, kind: str) -> None:
    scorer, images = load_scorer(settings_for(name, folders / kind)), pictures()
    together = scorer.score(images, PROMPTS)
    assert together.dtype == np.float64
    assert scorer.score(images[::-1], PROMPTS[::-1])[::-1].tobytes() == together.tobytes()
    alone = np.concatenate([scorer.score([i], [p]) for i, p in zip(images, PROMPTS, strict=True)])
    assert alone.tobytes() == together.tobytes()
    assert scorer.score([], []).shape == (0,)


def test_what_does_not_fit_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scorer 'taste'"):
        scorer_spec("taste")
    with pytest.raises(UserError, match="reads no text"):
        load_scorer(settings_for("clip_similarity", folders / "dinov2"))
    with pytest.raises(UserError, match="option temperature of scorer pickscore"):
        load_scorer(settings_for("pickscore", folders / "clip", options={"temperature": 1}))
    with pytest.raises(UserError, match="without part head"):
        load_scorer(settings_for("laion_aesthetic", folders / "clip", parts={}))
    with pytest.raises(UserError, match="option form 'angle'"):
        load_scorer(settings_for("clip_similarity", folders / "clip", options={"form": "angle"}))
    scorer = load_scorer(settings_for("clip_similarity", folders / "clip"))
    with pytest.raises(UserError, match="an empty prompt"):
        scorer.score(pictures(1), [""])
    with pytest.raises(UserError, match="1 pictures and 2 prompts"):
        scorer.score(pictures(1), ["a", "b"])
    wrong = shutil.copytree(folders / "siglip", tmp_path / "siglip")
    scorer = load_scorer(settings_for("laion_aesthetic", wrong, parts={"head": Checkpoint(str(folders / "head"))}))
    with pytest.raises(WeightsError, match="a head for vectors of 12 numbers"):
        scorer.score(pictures(1), [""])


def test_the_stage_keys_everything_that_matters(folders: Path, tmp_path: Path) -> None:
    from PIL import Image

    store, images = Store(tmp_path / "store"), pictures(2)
    items = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(store.root / f"{i}.png")
        items.append({"image": str(i), "prompt": PROMPTS[i], "_path": f"{i}.png"})
    head = shutil.copytree(folders / "head", tmp_path / "head")
    settings = settings_for("laion_aesthetic", folders / "clip", parts={"head": Checkpoint(str(head))})
    stage = pickle.loads(pickle.dumps(ScoreImages(settings, Needs(memory_gb=1))))
    stage.setup(store)
    rows = stage.process(items)
    expected = load_scorer(settings).score(images, PROMPTS[:2])
    assert [row["score"] for row in rows] == expected.tolist()
    assert rows[1] == {"image": "1", "prompt": PROMPTS[1], "scorer": "laion_aesthetic", "score": expected[1]}
    keyed = dict(ScoreImages(settings, Needs(memory_gb=1)).identity())
    assert keyed == scorer_identity(settings)
    later = ScoreImages(settings, Needs(memory_gb=1))
    later.identity()
    file = head / "head.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="on this worker has digest"):
        later.setup(store)
    assert scorer_identity(settings) != keyed
    with pytest.raises(UserError, match="environment 'platform' for scorer hpsv3"):
        ScoreImages(settings_for("hpsv3", folders / "clip", batch_size=1), Needs(memory_gb=1))


def test_pickles_are_read_without_running_them(folders: Path, tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"w": torch.ones(2)}, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="cannot be read as tensors"):
        to_safetensors(tmp_path / "evil.pt", tmp_path / "evil.safetensors")
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob("*.safetensors"))
    shared = torch.arange(6.0)
    torch.save({"epoch": 3, "state_dict": {"a": shared, "b": shared[2:].view(2, 2).T}}, tmp_path / "fine.pt")
    record = to_safetensors(tmp_path / "fine.pt", tmp_path / "fine.safetensors")
    from safetensors.numpy import load_file

    stored = load_file(tmp_path / "fine.safetensors")
    np.testing.assert_array_equal(stored["b"], [[2, 4], [3, 5]])
    assert set(stored) == {"a", "b"}
    assert len(record["source_sha256"]) == len(record["sha256"]) == 64
    with pytest.raises(WeightsError, match="does not exist yet"):
        to_safetensors(tmp_path / "fine.pt", tmp_path / "fine.safetensors")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="holds no tensors"):
        to_safetensors(tmp_path / "none.pt", tmp_path / "none.safetensors")


# --- environments ---------------------------------------------------------------------------------------------------


def test_locks_hold_what_environments_ask_for() -> None:
    from packaging.requirements import Requirement

    assert {spec.environment for spec in SCORERS.values()} == {PLATFORM, *names()}
    for name in names():
        locked = dict(line.lower().split("==") for line in environment(name).packages)
        for line in wanted(name):
            asked = Requirement(line)
            assert asked.specifier.contains(locked[asked.name.lower()]), f"{name}: {line}"
    pins = {name: dict(line.split("==") for line in environment(name).packages).get("transformers") for name in names()}
    assert len(set(pins.values()) - {None}) == 3  # the reason why they live apart
    with pytest.raises(UserError, match="environment 'moon'"):
        environment("moon")


def test_nothing_of_the_platform_needs_torchvision() -> None:
    """A key of a scorer in its own environment is made without its packages."""
    for name, spec in SCORERS.items():
        if spec.environment != PLATFORM:
            settings = ScorerSettings(name, Checkpoint("owner/name", "a" * 40), CPU, 1)
            identity = scorer_identity(settings)
            assert identity["environment"] == {"lock": environment(spec.environment).digest}
            assert identity["revision"] == "a" * 40
    assert "torchvision" not in sys.modules


# --- scorers of one's own -------------------------------------------------------------------------------------------


def write(path: Path, code: str) -> Path:
    path.write_text(code)
    return path


def test_a_scorer_of_ones_own(tmp_path: Path) -> None:
    code = "def load():\n    return 2.0\n\ndef score(images, prompts, power, model):\n"
    code += "    return [model * i.mean() ** power + len(p) for i, p in zip(images, prompts)]\n"
    path, images = write(tmp_path / "mine.py", code), pictures()
    scorer = UserScorer(path, needs_prompt=True, options={"power": 0.5})
    expected = [2 * image.mean() ** 0.5 + len(prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
    np.testing.assert_allclose(scorer.score(images, PROMPTS), expected)
    changed = UserScorer(write(tmp_path / "other.py", code + "\n"), needs_prompt=True, options={"power": 0.5})
    assert scorer.identity() != changed.identity()
    with pytest.raises(UserError, match="missing a required argument: 'power'"):
        UserScorer(path, needs_prompt=True, options={})
    stage = ScoreWithPython(str(path), 4, True, {"power": 0.5}, Needs(memory_gb=1))
    assert stage.identity()["code"] == scorer.identity()["code"]
    stage.setup(Store(tmp_path / "store"))
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "store" / "0.png")
    assert stage.process([{"image": "0", "prompt": "a lake", "_path": "0.png"}])[0]["score"] == expected[0]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("m = [i.mean() for i in images]; return [x - min(m) for x in m]", UserError, "change with the other pictures"),
        ("return [1.0]", ArithmeticError, r"shape \(1,\)"),
        ("return [float('nan')] * len(images)", ArithmeticError, "5 not finite"),
        ("images[0][:] = 0; return [i.sum() for i in images]", None, ""),
    ],
)
def test_scores_that_cannot_be_used(tmp_path: Path, body: str, error: Any, message: str) -> None:
    path = write(tmp_path / "s.py", f"def score(images, prompts):\n    {body}\n")
    scorer, images = UserScorer(path, needs_prompt=False, options={}), pictures()
    if error is None:  # writes into its pictures: only its own copies change
        before = [image.copy() for image in images]
        with pytest.raises(UserError, match="change with the other pictures"):
            scorer.score(images, PROMPTS)
        assert all((a == b).all() for a, b in zip(before, images, strict=True))
        return
    with pytest.raises(error, match=message):
        scorer.score(images, PROMPTS)


def test_files_without_a_scorer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no scorer file"):
        UserScorer(tmp_path / "none.py", needs_prompt=False, options={})
    with pytest.raises(UserError, match="no function score"):
        UserScorer(write(tmp_path / "a.py", "x = 1\n"), needs_prompt=False, options={})
    with pytest.raises(UserError, match="too many positional"):
        UserScorer(write(tmp_path / "b.py", "def score(images): ...\n"), needs_prompt=False, options={})
