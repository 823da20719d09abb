"""Encoder checkpoints of the real classes with a few thousand random weights, built on disk."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, processors

IMAGE = 28
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": IMAGE, "patch_size": 7,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 24,
}  # fmt: skip


def clip_tokenizer(length: int = 16) -> t.CLIPTokenizer:
    """Letters only, each with and without the end-of-word mark."""
    letters = [*string.ascii_lowercase, *string.digits]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    return t.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=length)


def clip(folder: Path, seed: int = 1) -> Path:
    """CLIP's classes: model, tokenizer, Pillow processor."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(24)
    text = TEXT | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    t.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": IMAGE}
    t.CLIPImageProcessorPil(size=size, crop_size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    return folder


def gemma_like_tokenizer() -> t.Siglip2Tokenizer:
    """SigLIP 2's class over letters; an end token follows each text, as in the published tokenizer."""
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_lowercase]
    tokenizer = t.Siglip2Tokenizer(vocab={word: i for i, word in enumerate(letters)}, merges=[])
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", letters.index("<eos>"))]
    )
    return tokenizer


def siglip(folder: Path, seed: int = 2) -> Path:
    """The classes of SigLIP and of SigLIP 2's fixed-size checkpoints."""
    torch.manual_seed(seed)
    tokenizer = gemma_like_tokenizer()
    config = t.SiglipConfig(text_config=TEXT | {"vocab_size": len(tokenizer)}, vision_config=VISION)
    model = t.SiglipModel(config)
    model.logit_scale.data.fill_(2.0)
    model.logit_bias.data.fill_(-3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    t.SiglipImageProcessorPil(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    return folder


def siglip2(folder: Path, seed: int = 3) -> Path:
    """SigLIP 2's classes for pictures of any shape."""
    torch.manual_seed(seed)
    tokenizer = gemma_like_tokenizer()
    vision = {k: v for k, v in VISION.items() if k != "image_size"} | {"num_patches": 16}
    config = t.Siglip2Config(text_config=TEXT | {"vocab_size": len(tokenizer)}, vision_config=vision)
    t.Siglip2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    t.Siglip2ImageProcessorPil(patch_size=7, max_num_patches=16).save_pretrained(folder)
    return folder


def dinov2(folder: Path, registers: int = 0) -> Path:
    """DINOv2's classes, with or without registers."""
    torch.manual_seed(4 + registers)
    small = {k: v for k, v in VISION.items() if k != "intermediate_size"}
    if registers:
        config = t.Dinov2WithRegistersConfig(**small, num_register_tokens=registers)
        t.Dinov2WithRegistersModel(config).save_pretrained(folder)
    else:
        t.Dinov2Model(t.Dinov2Config(**small)).save_pretrained(folder)
    crop = {"height": IMAGE, "width": IMAGE}
    t.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop).save_pretrained(folder)
    return folder


def word_tokenizer() -> t.PreTrainedTokenizerFast:
    """One token a character, with a beginning and an end."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *string.printable]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return t.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def bert_sentences(folder: Path, pooling: dict[str, Any], *, dense: bool = False) -> Path:
    """A sentence-transformers folder around BERT's class."""
    torch.manual_seed(7)
    tokenizer = word_tokenizer()
    config = t.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=96,
    )  # fmt: skip
    t.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    paths = ["", *(f"{i}_{name}" for i, name in enumerate(names) if i)]
    types = [f"sentence_transformers.models.{name}" for name in names]
    modules = [
        {"idx": i, "name": str(i), "path": p, "type": k} for i, (p, k) in enumerate(zip(paths, types, strict=True))
    ]
    write(folder / "modules.json", modules)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 80, "do_lower_case": False})
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **pooling})
    if dense:
        from safetensors.torch import save_file

        activation = "torch.nn.modules.activation.Tanh"
        write(
            folder / "2_Dense" / "config.json",
            {"in_features": 16, "out_features": 5, "bias": True, "activation_function": activation},
        )
        layer = torch.nn.Linear(16, 5)
        state = {"linear.weight": layer.weight.data, "linear.bias": layer.bias.data}
        save_file(state, folder / "2_Dense" / "model.safetensors")
    return folder


def nemotron(folder: Path) -> Path:
    """Llama-Embed-Nemotron-8B's layout: a Llama under its own class name, whose code must not run."""
    torch.manual_seed(8)
    tokenizer = word_tokenizer()
    config = t.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128,
    )  # fmt: skip
    t.LlamaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stored = json.loads((folder / "config.json").read_text())
    name = "LlamaBidirectionalModel"
    stored |= {"model_type": "llama_bidirec", "architectures": [name], "pooling": "avg"}
    stored["auto_map"] = {"AutoModel": f"llama_bidirectional_model.{name}"}
    stored |= {"rope_theta": 10000.0}
    stored.pop("rope_parameters", None)
    write(folder / "config.json", stored)
    (folder / "llama_bidirectional_model.py").write_text("raise SystemExit('this must never run')\n")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    return folder


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
