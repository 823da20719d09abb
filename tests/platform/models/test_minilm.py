"""The sentence encoder against a direct pass through the network, and its promise that neighbours do not matter."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beholder.errors import WeightsError
from beholder.models.encoders.minilm import CACHE_SIZE, MiniLM

FOLDER = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models")) / "minilm"
SENTENCES = ["a mountain lake", "", "Ünïcödé 山の湖 🏔", "a mountain lake, seen from miles away"]


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    if not FOLDER.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no text encoder in {FOLDER}")
    return MiniLM(FOLDER)


@pytest.mark.models
def test_vectors_are_the_masked_mean_of_the_last_layer(encoder: MiniLM) -> None:
    import torch
    from transformers import BertModel, BertTokenizerFast

    tokenizer, network = BertTokenizerFast.from_pretrained(FOLDER), BertModel.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
        hidden, mask = network(**batch).last_hidden_state.numpy(), batch["attention_mask"].numpy()
    expected = np.stack([h[m == 1].mean(0) for h, m in zip(hidden, mask, strict=True)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = encoder.encode(SENTENCES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 384)
    # A padded batch adds in another order than a single sentence does: float32 agrees to about 1e-6.
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


@pytest.mark.models
def test_bytes_do_not_depend_on_neighbours_order_or_cache(encoder: MiniLM) -> None:
    together = encoder.encode(SENTENCES)
    fresh = MiniLM(FOLDER)
    alone = np.concatenate([fresh.encode([s]) for s in reversed(SENTENCES)])[::-1]
    assert together.tobytes() == alone.tobytes()
    assert encoder.encode(SENTENCES).tobytes() == together.tobytes()


@pytest.mark.models
def test_nearness_follows_meaning(encoder: MiniLM) -> None:
    lake, tarn, invoice = encoder.encode(["a mountain lake", "a tarn in the hills", "an unpaid electricity invoice"])
    assert lake @ tarn > lake @ invoice + 0.2


@pytest.mark.models
def test_long_text_is_cut_and_no_text_gives_no_rows(encoder: MiniLM) -> None:
    assert np.isfinite(encoder.encode(["wave " * 5000])).all()
    assert encoder.encode([]).shape == (0, 384)
    with pytest.raises(TypeError, match="not one str"):
        encoder.encode("a mountain lake")


@pytest.mark.models
def test_digest_names_the_weight_file_and_the_cache_stays_bounded(encoder: MiniLM) -> None:
    assert encoder.digest == hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert len(encoder._cache) <= CACHE_SIZE


def test_an_incomplete_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"lacks tokenizer\.json, model\.safetensors"):
        MiniLM(tmp_path)


def test_importing_the_module_loads_no_network_library() -> None:
    code = "import sys, beholder.models.encoders.minilm; print(len({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
