"""Encoders of checkpoints, on tiny random ones of the real classes, against passes through the networks by hand."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from beholder.errors import TableError, UserError, WeightsError
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.encode_stages import EncodeImages, EncodeTexts
from beholder.models.encoders.precomputed import PrecomputedFeatures
from beholder.models.encoders.sentences import POOLINGS, SentenceEncoder, SentenceSettings
from beholder.models.encoders.towers import ImageEncoder, TextEncoder, TowerSettings
from beholder.models.interfaces import Needs
from beholder.records import pack, unpack
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))

CPU = Computing("cpu", "float32")
KINDS = ("clip", "siglip", "siglip2", "dinov2", "dinov2_registers")
TEXTS = ["a lake", "An Old Stone Bridge", "", "x" * 200, "fog"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders as tiny

    root = tmp_path_factory.mktemp("encoders")
    for kind in ("clip", "siglip", "siglip2", "dinov2"):
        getattr(tiny, kind)(root / kind)
    tiny.dinov2(root / "dinov2_registers", registers=3)
    tiny.nemotron(root / "nemotron")
    tiny.bert_sentences(root / "dense", {"pooling_mode_mean_tokens": True}, dense=True)
    return root


def settings_for(folder: Path, **changed: Any) -> TowerSettings:
    return TowerSettings(Checkpoint(str(folder)), **({"computing": CPU, "batch_size": 3, "normalise": False} | changed))


def pictures(n: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    sizes = [(40, 40), (33, 60), (64, 35), (28, 28), (90, 31)]
    return [rng.integers(0, 256, (*sizes[i % 5], 3), dtype=np.uint8) for i in range(n)]


def by_hand(folder: Path, images: list[np.ndarray]) -> np.ndarray:
    """One picture at a time through the classes by name."""
    import torch
    import transformers as t
    from PIL import Image

    classes: dict[str, tuple[Any, Any]] = {
        "clip": (t.CLIPModel, t.CLIPImageProcessorPil),
        "siglip": (t.SiglipModel, t.SiglipImageProcessorPil),
        "siglip2": (t.Siglip2Model, t.Siglip2ImageProcessorPil),
        "dinov2": (t.Dinov2Model, t.BitImageProcessorPil),
        "dinov2_registers": (t.Dinov2WithRegistersModel, t.BitImageProcessorPil),
    }
    model, processor = (c.from_pretrained(folder) for c in classes[folder.name])
    rows = []
    with torch.no_grad():
        for image in images:
            inputs = processor(images=Image.fromarray(image), return_tensors="pt")
            out = model.eval()(**inputs) if "dino" in folder.name else model.eval().vision_model(**inputs)
            vector = out.pooler_output
            rows.append((model.visual_projection(vector) if folder.name == "clip" else vector)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_picture_vectors_are_the_networks_own(folders: Path, kind: str) -> None:
    encoder = ImageEncoder(settings_for(folders / kind))
    images = pictures()
    vectors = encoder.encode(images)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, by_hand(folders / kind, images), atol=1e-5)
    assert str(encoder.identity()["processor"]).endswith("Pil")
    unit = ImageEncoder(settings_for(folders / kind, normalise=True)).encode(images)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(vectors, axis=1, keepdims=True), vectors, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_do_not_depend_on_neighbours_or_order(folders: Path, kind: str) -> None:
    encoder, images = ImageEncoder(settings_for(folders / kind)), pictures()
    together = encoder.encode(images)
    assert encoder.encode(images[::-1])[::-1].tobytes() == together.tobytes()
    assert np.concatenate([encoder.encode([image]) for image in images]).tobytes() == together.tobytes()
    assert encoder.encode([]).shape == (0, 0)
    if kind in ("clip", "siglip", "siglip2"):
        texts = TextEncoder(settings_for(folders / kind))
        together = texts.encode(TEXTS)
        assert np.concatenate([texts.encode([text]) for text in TEXTS]).tobytes() == together.tobytes()


def test_clip_texts_are_the_networks_own(folders: Path) -> None:
    import torch
    import transformers as t

    model, tokenizer = (
        t.CLIPModel.from_pretrained(folders / "clip").eval(),
        t.CLIPTokenizer.from_pretrained(folders / "clip"),
    )
    expected = []
    with torch.no_grad():
        for text in TEXTS:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=24)  # alone and not padded
            expected.append(model.text_projection(model.text_model(**inputs).pooler_output)[0].numpy())
    np.testing.assert_allclose(TextEncoder(settings_for(folders / "clip")).encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglip_reads_small_letters_with_padding_and_no_mask(folders: Path, kind: str) -> None:
    import string

    import torch
    import transformers as t

    model = {"siglip": t.SiglipModel, "siglip2": t.Siglip2Model}[kind].from_pretrained(folders / kind).eval()
    expected = []
    with torch.no_grad():
        for text in TEXTS:
            letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_lowercase]
            ids = [letters.index("▁" if c == " " else c) for c in text.lower()][:23]
            ids += [1] + [0] * (23 - len(ids))
            expected.append(model.text_model(input_ids=torch.tensor([ids])).pooler_output[0].numpy())
    encoder = TextEncoder(settings_for(folders / kind))
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    assert encoder.encode(["FOG"]).tobytes() == encoder.encode(["fog"]).tobytes()


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_registers"])
def test_patch_means_leave_registers_out(folders: Path, kind: str) -> None:
    import torch
    import transformers as t

    images = pictures(2)
    wide = ImageEncoder(settings_for(folders / kind, pooling="cls_mean")).encode(images)
    model = t.AutoModel.from_pretrained(folders / kind).eval()
    processor = t.BitImageProcessorPil.from_pretrained(folders / kind)
    with torch.no_grad():
        hidden = model(**processor(images=images, return_tensors="pt")).last_hidden_state.numpy()
    assert hidden.shape[1] == 1 + (3 if kind == "dinov2_registers" else 0) + 16
    np.testing.assert_allclose(wide, np.hstack([hidden[:, 0], hidden[:, -16:].mean(1)]), atol=1e-5)


def test_what_does_not_fit_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cls_mean for DINOv2"):
        ImageEncoder(settings_for(folders / "clip", pooling="cls_mean"))
    with pytest.raises(UserError, match="reads no text"):
        TextEncoder(settings_for(folders / "dinov2"))
    with pytest.raises(UserError, match="type 'bert'"):
        ImageEncoder(settings_for(folders / "dense"))
    with pytest.raises(UserError, match=r"a picture of shape \(5, 5\)"):
        ImageEncoder(settings_for(folders / "clip")).encode([np.zeros((5, 5), np.uint8)])
    from safetensors.numpy import load_file, save_file

    damaged = shutil.copytree(folders / "clip", tmp_path / "damaged")
    state = load_file(damaged / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks weights of visual_projection"):  # else it would be random
        ImageEncoder(settings_for(damaged))
    bare = shutil.copytree(folders / "clip", tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"no preprocessor_config\.json"):
        ImageEncoder(settings_for(bare))
    broken = ImageEncoder(settings_for(folders / "clip"))
    broken._tower.network.visual_projection.weight.data[0, 0] = float("nan")
    with pytest.raises(ArithmeticError, match="not finite"):
        broken.encode(pictures(1))


# --- sentences ---------------------------------------------------------------------------------------------------


def hidden_of(folder: Path, text: str, model: Any) -> np.ndarray:
    """Token vectors of one sentence, alone and not padded."""
    import torch
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=80)
        inputs.pop("token_type_ids", None)
        return np.asarray(model.eval()(**inputs).last_hidden_state[0].numpy())


POOLED = {
    "mean": lambda h: h.mean(0),
    "cls": lambda h: h[0],
    "lasttoken": lambda h: h[-1],
    "max": lambda h: h.max(0),
    "mean_sqrt_len_tokens": lambda h: h.sum(0) / np.sqrt(len(h)),
    "weightedmean": lambda h: (h * np.arange(1, len(h) + 1)[:, None]).sum(0) / np.arange(1, len(h) + 1).sum(),
}
OLD_NAMES = {
    "mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken", "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
}  # fmt: skip


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


@pytest.mark.parametrize("mode", POOLINGS)
def test_every_pooling_is_what_its_name_says(tmp_path: Path, mode: str) -> None:
    import tiny_encoders as tiny
    import transformers as t

    folder = tiny.bert_sentences(tmp_path / "old", {OLD_NAMES[mode]: True, "pooling_mode_cls_token": mode == "cls"})
    tiny.write(folder / "1_Pooling" / "config.json", {OLD_NAMES[mode]: True})
    encoder = SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, batch_size=2))
    model = t.BertModel.from_pretrained(folder)
    expected = [unit(POOLED[mode](hidden_of(folder, text, model))) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-6)
    tiny.write(folder / "1_Pooling" / "config.json", {"pooling_mode": mode})  # the newer form of the file
    newer = SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, batch_size=2))
    assert newer.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()
    (folder / "modules.json").unlink()
    plain = SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, 2, max_tokens=80, pooling=mode))
    assert plain.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()


def test_layers_after_pooling_and_prompts(folders: Path) -> None:
    import transformers as t
    from safetensors.numpy import load_file

    folder = folders / "dense"
    layer = load_file(folder / "2_Dense" / "model.safetensors")
    encoder = SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, batch_size=2, prompt="query: "))
    model = t.BertModel.from_pretrained(folder)
    means = np.stack([hidden_of(folder, f"query: {text}", model).mean(0) for text in TEXTS])
    expected = np.tanh(means @ layer["linear.weight"].T + layer["linear.bias"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-6)
    assert encoder.encode(TEXTS).shape == (5, 5)


def test_the_llama_that_looks_both_ways(folders: Path) -> None:
    """Against the same weights with the causal mask taken out by hand: attention without any mask."""
    import torch
    import transformers as t

    folder = folders / "nemotron"
    settings = SentenceSettings(Checkpoint(str(folder)), CPU, batch_size=2, prompt="Query: ")
    encoder = SentenceEncoder(settings)
    config = t.LlamaConfig.from_dict(
        {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k not in ("auto_map",)}
        | {"model_type": "llama"}
    )
    plain = t.LlamaModel.from_pretrained(folder, config=config, attn_implementation="eager").eval()

    def no_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"attention_mask": None}

    for layer in plain.layers:
        layer.self_attn.register_forward_pre_hook(no_mask, with_kwargs=True)
    expected = [unit(hidden_of(folder, f"Query: {text}", plain).mean(0)) for text in TEXTS[:3]]
    np.testing.assert_allclose(encoder.encode(TEXTS[:3]), expected, atol=2e-6)
    # A sentence that fills its bucket has no padding, so no mask is made: attention must not fall back to causal.
    exact = "y" * (32 - 2 - len("Query: "))
    expected_exact = unit(hidden_of(folder, f"Query: {exact}", plain).mean(0))
    np.testing.assert_allclose(encoder.encode([exact])[0], expected_exact, atol=2e-6)
    causal = t.LlamaModel.from_pretrained(folder, config=config)
    with torch.no_grad():
        one_way = unit(hidden_of(folder, "Query: a lake", causal).mean(0))
    assert np.abs(one_way - encoder.encode(["a lake"])[0]).max() > 1e-3


def test_sentences_do_not_depend_on_neighbours(folders: Path) -> None:
    encoder = SentenceEncoder(SentenceSettings(Checkpoint(str(folders / "nemotron")), CPU, batch_size=3))
    texts = [*TEXTS, "a" * 31, "b" * 64, "c"]
    together = encoder.encode(texts)
    assert encoder.encode(texts[::-1])[::-1].tobytes() == together.tobytes()
    assert np.concatenate([encoder.encode([text]) for text in texts]).tobytes() == together.tobytes()
    with pytest.raises(TypeError, match="not one str"):
        encoder.encode("a lake")


def test_a_sentence_is_cut_where_any_file_says_so(tmp_path: Path) -> None:
    """Newer checkpoints leave the limit to the tokenizer, or to the network's positions."""
    import tiny_encoders as tiny

    folder = tiny.bert_sentences(tmp_path / "a", {"pooling_mode": "mean"})

    def cut() -> int:
        encoder = SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, batch_size=1))
        assert encoder.encode(["y" * 300]).tobytes() == encoder.encode(["y" * 200]).tobytes()
        return encoder._longest

    assert cut() == 80
    (folder / "sentence_bert_config.json").unlink()
    assert cut() == 96
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tiny.write(folder / "tokenizer_config.json", config | {"model_max_length": 40})
    assert cut() == 40


def test_unknown_recipes_are_refused(tmp_path: Path) -> None:
    import tiny_encoders as tiny

    folder = tiny.bert_sentences(tmp_path / "a", {"pooling_mode_attention": True})
    with pytest.raises(UserError, match="pooling_mode_attention"):
        SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, 2))
    tiny.write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False})
    with pytest.raises(UserError, match="without the prompt"):
        SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, 2))
    with pytest.raises(UserError, match=r"its modules\.json says how"):
        SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, 2, pooling="mean"))
    (folder / "modules.json").unlink()
    with pytest.raises(UserError, match=r"no modules\.json"):
        SentenceEncoder(SentenceSettings(Checkpoint(str(folder)), CPU, 2))


# --- stages and files ----------------------------------------------------------------------------------------------


def test_stages_pack_what_encoders_give(folders: Path, tmp_path: Path) -> None:
    from PIL import Image

    store = Store(tmp_path)
    images = pictures(2)
    items = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        items.append({"image": str(i), "_path": f"{i}.png"})
    stage = EncodeImages(settings_for(folders / "siglip", normalise=True), Needs(memory_gb=1))
    stage.setup(store)
    rows = stage.process(items)
    expected = ImageEncoder(stage.settings).encode(images)
    assert unpack(row["vector"] for row in rows).tobytes() == expected.tobytes()
    for settings in (stage.settings, SentenceSettings(Checkpoint(str(folders / "dense")), CPU, 2)):
        texts = EncodeTexts(settings, Needs(memory_gb=1))
        texts.setup(store)
        assert [row["text"] for row in texts.process([{"text": "fog"}, {"text": "mist"}])] == ["fog", "mist"]
        assert texts.identity()["encoder"] in ("text", "sentence")
    assert EncodeImages(settings_for(folders / "clip"), Needs(1)).identity() != stage.identity()


@pytest.mark.parametrize("form", ["lists", "packed", "columns", "csv", "npz"])
def test_precomputed_features_in_every_form(tmp_path: Path, form: str) -> None:
    vectors = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    ids = ["007", "b", "c", "d"]
    path = tmp_path / f"features.{ {'csv': 'csv', 'npz': 'npz'}.get(form, 'parquet') }"
    if form == "npz":
        np.savez(path, image_id=np.array(ids), vector=vectors)
    elif form in ("lists", "packed"):
        cells = [pack(v) for v in vectors] if form == "packed" else list(vectors)
        pd.DataFrame({"image_id": ids, "vector": cells}).to_parquet(path)
    else:
        frame = pd.DataFrame(vectors, columns=["f0", "f1", "f2"]).assign(image_id=ids, note="x")
        frame.to_csv(path, index=False) if form == "csv" else frame.to_parquet(path)
    features = PrecomputedFeatures(path)
    np.testing.assert_array_equal(features.encode(["c", "007", "c"]), vectors[[2, 0, 2]])
    assert features.width == 3
    with pytest.raises(TableError, match="lacks 1 of 2 images, such as 'e'"):
        features.encode(["b", "e"])


def test_precomputed_features_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(frame: pd.DataFrame, message: str) -> None:
        frame.to_parquet(tmp_path / "f.parquet")
        with pytest.raises(TableError, match=message):
            PrecomputedFeatures(tmp_path / "f.parquet")

    refused(pd.DataFrame({"image_id": ["a", "a"], "f": [1.0, 2.0]}), "'a' twice")
    refused(pd.DataFrame({"image_id": ["a", "b"], "f": [1.0, np.nan]}), "vector of 'b' is not finite")
    refused(pd.DataFrame({"image_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}), "2 different lengths")
    refused(pd.DataFrame({"image": ["a"], "f": [1.0]}), "one called image_id")
    refused(pd.DataFrame({"image_id": ["a"]}), "no numeric columns")
    np.savez(tmp_path / "f.npz", image_id=np.array(["a", {}], dtype=object), vector=np.zeros((2, 1)))
    with pytest.raises(TableError, match="no objects"):
        PrecomputedFeatures(tmp_path / "f.npz")
    for path in ("none.csv", "f.pickle"):
        with pytest.raises(TableError, match="features file"):
            PrecomputedFeatures(tmp_path / path)
