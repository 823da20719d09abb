"""Run inside a scorer's own environment: builds a tiny random checkpoint of its package's classes, loads it through
the production code, and prints scores beside the same ones worked out by hand.

    PYTHON scorer_in_environment.py SCORER FOLDER
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.converting import to_safetensors
from beholder.models.scorers import ScorerSettings, load_scorer

PROMPTS = ["a lake", "an old stone bridge over a river", "fog"]
Built = tuple[ScorerSettings, Callable[[Any, np.ndarray, str], float]]


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (60 + 9 * i, 80 - 7 * i, 3), dtype=np.uint8) for i in range(3)]


def settings(scorer: str, folder: Path, batch_size: int = 1, **parts: Path) -> ScorerSettings:
    checkpoints = {name: Checkpoint(str(path)) for name, path in parts.items()}
    return ScorerSettings(
        scorer, Checkpoint(str(folder)), Computing("cpu", "float32"), batch_size=batch_size, parts=checkpoints
    )


def hpsv2(folder: Path) -> Built:
    """open_clip's CLIP; by hand: its own unit vectors, and resizing by torch."""
    import open_clip

    vision = {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 7}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    shape = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    model = open_clip.CLIP(24, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text)).eval()
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, folder / "HPS_v2.1_compressed.pt")
    checkpoint = folder / "hps"
    to_safetensors(folder / "HPS_v2.1_compressed.pt", checkpoint / "hps.safetensors")
    (checkpoint / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape}))

    def by_hand(scorer: Any, image: np.ndarray, prompt: str) -> float:
        x = torch.from_numpy(image).permute(2, 0, 1).float()[None] / 255
        height, width = image.shape[:2]
        scale = 28 / min(height, width)
        size = (28, int(28 * width / height)) if height < width else (int(28 * height / width), 28)
        assert min(size) == 28, scale
        x = torch.nn.functional.interpolate(x, size=size, mode="bicubic", antialias=True)
        top, left = round((size[0] - 28) / 2), round((size[1] - 28) / 2)
        x = x[..., top : top + 28, left : left + 28]
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
        sd = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
        out = model((x - mean) / sd, open_clip.tokenize([prompt]))
        return float(out[0] @ out[1].T)

    return settings("hpsv2", checkpoint, batch_size=2), by_hand


def qalign(folder: Path) -> Built:
    """pyiqa's mPLUG-Owl2; by hand: the method `score` of its own class."""
    import pyiqa.archs.q_align.modeling_mplug_owl2 as owl
    from transformers import CLIPImageProcessorPil, LlamaTokenizer

    from beholder.models.scorers.base import FromFolder, redirected
    from beholder.models.scorers.formulas import LEVELS

    vocab = ["<unk>", "<s>", "</s>", "▁", *string.ascii_letters, *string.punctuation, "\n"]
    merges: dict[tuple[str, str], None] = {}
    for word in LEVELS:
        built = "▁"
        for letter in word:
            merges[built, letter] = None
            built += letter
    vocab += [left + right for left, right in merges]
    vocab = list(dict.fromkeys(vocab))
    tokenizer = LlamaTokenizer(vocab={word: i for i, word in enumerate(vocab)}, merges=list(merges))
    tokenizer.save_pretrained(folder / "owl")
    CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, do_center_crop=True
    ).save_pretrained(folder / "owl")
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    abstractor = {
        "num_learnable_queries": 4, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 44, "encoder_hidden_size": 32, "grid_size": 2,
    }  # fmt: skip
    config = owl.MPLUGOwl2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, visual_config={"visual_model": vision, "visual_abstractor": abstractor},
    )  # fmt: skip
    with redirected(
        owl,
        LlamaTokenizer=FromFolder(LlamaTokenizer, folder / "owl"),
        CLIPImageProcessor=FromFolder(CLIPImageProcessorPil, folder / "owl"),
    ):
        model = owl.MPLUGOwl2LlamaForCausalLM(config)
    model.lm_head.weight.data *= 40  # else all levels are as likely and the score is 3 for every picture
    model.save_pretrained(folder / "owl")

    def by_hand(scorer: Any, image: np.ndarray, prompt: str) -> float:
        own = scorer._model
        own.weight_tensor = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])  # its own is in half precision
        background = tuple(int(channel * 255) for channel in own.image_processor.image_mean)
        picture = owl.expand2square(Image.fromarray(image), background)
        pixels = own.image_processor.preprocess([picture], return_tensors="pt")["pixel_values"]
        return float(own.score(None, task_="aesthetic", image_tensor=pixels))

    return settings("qalign", folder / "owl", batch_size=2), by_hand


def deqa(folder: Path) -> Built:
    """The same class asked for quality."""
    made, _ = qalign(folder)

    def by_hand(scorer: Any, image: np.ndarray, prompt: str) -> float:
        import pyiqa.archs.q_align.modeling_mplug_owl2 as owl

        own = scorer._model
        own.weight_tensor = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
        background = tuple(int(channel * 255) for channel in own.image_processor.image_mean)
        picture = owl.expand2square(Image.fromarray(image), background)
        pixels = own.image_processor.preprocess([picture], return_tensors="pt")["pixel_values"]
        return float(own.score(None, task_="quality", image_tensor=pixels))

    return settings("deqa", Path(made.checkpoint.model), batch_size=2), by_hand


def hpsv3(folder: Path) -> Built:
    """The package's Qwen2-VL with its reward head; by hand: the head's layers on the hidden state of its token."""
    import transformers as t
    from hpsv3.model.qwen2vl_trainer import Qwen2VLRewardModelBT
    from safetensors.torch import save_file
    from tokenizers.pre_tokenizers import ByteLevel

    base = folder / "base"
    base.mkdir()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>"]  # fmt: skip
    words = [*sorted(ByteLevel.alphabet()), *special]
    (base / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (base / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = t.Qwen2TokenizerFast(
        str(base / "vocab.json"), str(base / "merges.txt"), additional_special_tokens=special[1:]
    )
    chat = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.chat_template = chat
    processor = t.Qwen2VLProcessor(t.Qwen2VLImageProcessor(), tokenizer, chat_template=chat)
    processor.save_pretrained(base)
    ids = {word: i for i, word in enumerate(words)}
    config = t.Qwen2VLConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"], vision_token_id=ids["<|image_pad|>"],
        bos_token_id=ids["<|im_start|>"], eos_token_id=ids["<|im_end|>"],
    )  # fmt: skip
    t.Qwen2VLForConditionalGeneration(config).save_pretrained(base)
    model = Qwen2VLRewardModelBT(config, output_dim=2, rm_head_type="ranknet")
    model.resize_token_embeddings(len(words) + 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    (folder / "hps").mkdir()
    save_file(state, folder / "hps" / "HPSv3.safetensors")
    head = [state[f"rm_head.{i}.{what}"].double().numpy() for i in (0, 3, 5) for what in ("weight", "bias")]

    def by_hand(scorer: Any, image: np.ndarray, prompt: str) -> float:
        own, seen = scorer._inferencer.model, {}
        hook = own.model.register_forward_hook(lambda module, args, out: seen.update(hidden=out[0]))
        batch = scorer._inferencer.prepare_batch([Image.fromarray(image)], [prompt])
        own(return_dict=True, **batch)
        hook.remove()
        places = (batch["input_ids"][0] == len(words)).nonzero().flatten()  # the reward token was added last
        assert len(places) == 1
        x = seen["hidden"][0, places[0]].double().numpy()
        w0, b0, w1, b1, w2, b2 = head
        mu, _ = w2 @ np.maximum(w1 @ np.maximum(w0 @ x + b0, 0) + b1, 0) + b2
        return float(mu)

    return settings("hpsv3", folder / "hps", base=base), by_hand


def image_reward(folder: Path) -> Built:
    """The package's BLIP, its picture side made small; by hand: its head, then standardised."""
    import ImageReward.models.BLIP.blip_pretrain as blip
    from ImageReward.ImageReward import ImageReward
    from ImageReward.models.BLIP.vit import VisionTransformer
    from transformers import BertTokenizer

    from beholder.models.scorers import formulas

    def small(*args: Any, **kwargs: Any) -> Any:
        return VisionTransformer(img_size=224, patch_size=16, embed_dim=32, depth=1, num_heads=2), 32

    blip.create_vit = small
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
    words += [f"##{letter}" for letter in string.ascii_lowercase]
    (folder / "words").mkdir()
    (folder / "words" / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(folder / "words" / "vocab.txt"))
    tokenizer.save_pretrained(folder / "words")
    config = {
        "hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 64,
        "vocab_size": len(words) + 2, "max_position_embeddings": 64, "encoder_width": 32, "add_cross_attention": True,
        "model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2, "pad_token_id": 0,
        "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
    }  # fmt: skip
    checkpoint = folder / "reward"
    checkpoint.mkdir()
    (checkpoint / "med_config.json").write_text(json.dumps(config))
    # A folder needs safetensors to count as a checkpoint; a tokenizer has none of its own.
    from safetensors.torch import save_file

    save_file({"none": torch.zeros(1)}, folder / "words" / "empty.safetensors")
    from beholder.models.scorers.base import redirected

    def words_tokenizer() -> Any:
        found = BertTokenizer.from_pretrained(folder / "words")
        found.add_special_tokens({"bos_token": "[DEC]"})
        found.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
        return found

    with redirected(blip, init_tokenizer=words_tokenizer):
        model = ImageReward(med_config=str(checkpoint / "med_config.json"), device="cpu").eval()
    for parameter in model.mlp.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    torch.save(model.state_dict(), folder / "ImageReward.pt")
    to_safetensors(folder / "ImageReward.pt", checkpoint / "ImageReward.safetensors")
    assert (model.mean, model.std) == (formulas.IMAGE_REWARD_MEAN, formulas.IMAGE_REWARD_SD)

    def by_hand(scorer: Any, image: np.ndarray, prompt: str) -> float:
        seen = {}
        own = scorer._network
        hook = own.mlp.register_forward_hook(lambda module, args, out: seen.update(raw=out))
        own.score(prompt, Image.fromarray(image))
        hook.remove()
        return float(formulas.standardised_reward(seen["raw"].numpy())[0, 0])

    return settings("image_reward", checkpoint, tokenizer=folder / "words"), by_hand


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made, by_hand = globals()[name](folder)
    scorer, images = load_scorer(made, offline=True), pictures()
    together = scorer.score(images, PROMPTS)
    backwards = scorer.score(images[::-1], PROMPTS[::-1])[::-1]
    alone = [scorer.score([image], [prompt])[0] for image, prompt in zip(images, PROMPTS, strict=True)]
    with torch.no_grad():
        hand = [by_hand(scorer, image, prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
        other = scorer.score(images, PROMPTS[1:] + PROMPTS[:1]).tolist()
    result = {"scores": together.tolist(), "backwards": backwards.tolist(), "alone": alone, "by_hand": hand}
    sys.stdout.write(json.dumps(result | {"other_prompts": other, "needs_prompt": scorer.needs_prompt}) + "\n")


if __name__ == "__main__":
    main()
