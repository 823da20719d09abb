"""Text-to-image pipelines of the real classes, with random weights and a few thousand parameters, built on disk."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

sys.path.insert(0, str(Path(__file__).parent))
from tiny_encoders import clip_tokenizer

SIZE = 32
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def t5_tokenizer() -> T5Tokenizer:
    """Letters only."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in string.ascii_lowercase]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes only, with a chat form."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT
    return tokenizer


def clip_text(tokenizer: CLIPTokenizer, *, projected: bool = False) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5_text(tokenizer: T5Tokenizer, width: int = 16) -> T5EncoderModel:
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return T5EncoderModel(config).eval()


def vae(latent_channels: int, *, shifted: bool) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 16), norm_num_groups=4, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
        latent_channels=latent_channels, use_quant_conv=not shifted, use_post_quant_conv=not shifted,
        shift_factor=0.06 if shifted else None, scaling_factor=1.5 if shifted else 0.13,
    ).eval()  # fmt: skip


def flux(folder: Path) -> Path:
    """FLUX.1's class."""
    torch.manual_seed(1)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(4, shifted=True), text_encoder=clip_text(clip),
        tokenizer=clip, text_encoder_2=t5_text(t5), tokenizer_2=t5, transformer=transformer.eval(),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def sdxl(folder: Path) -> Path:
    """Stable Diffusion XL's class, with a scheduler that draws noise at every step."""
    torch.manual_seed(2)
    clip = clip_tokenizer()
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=SIZE // 2, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=64,
        cross_attention_dim=32, norm_num_groups=4,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=vae(4, shifted=False), text_encoder=clip_text(clip), text_encoder_2=clip_text(clip, projected=True),
        tokenizer=clip, tokenizer_2=clip, unet=unet.eval(), scheduler=EulerAncestralDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def sd3(folder: Path) -> Path:
    """Stable Diffusion 3 and 3.5's class."""
    torch.manual_seed(3)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=SIZE // 2, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=32,
        qk_norm="rms_norm",
    )  # fmt: skip
    StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(4, shifted=True), transformer=transformer.eval(),
        text_encoder=clip_text(clip, projected=True), text_encoder_2=clip_text(clip, projected=True), tokenizer=clip,
        tokenizer_2=clip, text_encoder_3=t5_text(t5, 32), tokenizer_3=t5,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def flux2_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, layers_per_block=1, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def flux2_transformer(*, guided: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guided,
    ).eval()  # fmt: skip


def flux2_dev(folder: Path) -> Path:
    """FLUX.2 dev's class: Mistral 3, which could see pictures too, reads the prompt."""
    from tokenizers.pre_tokenizers import ByteLevel

    torch.manual_seed(5)
    special = ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]", "</s>", "<pad>"]
    words = {word: i for i, word in enumerate([*sorted(ByteLevel.alphabet()), *special])}
    tokenizer = Qwen2Tokenizer(
        vocab=words, merges=[], pad_token="<pad>", eos_token="</s>", additional_special_tokens=special[:5]
    )
    chat = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{% endif %}{% for c in m.content %}{{ c.text }}"
        "{% endfor %}{% if m.role == 'user' %}[/INST]{% endif %}{% endfor %}"
    )
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "model_type": "mistral",
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8,
        "image_size": 28, "patch_size": 14, "model_type": "pixtral",
    }  # fmt: skip
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=words["[IMG]"])
    Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=flux2_vae(), tokenizer=None,
        text_encoder=Mistral3ForConditionalGeneration(config).eval(), transformer=flux2_transformer(guided=True),
    ).save_pretrained(folder)  # fmt: skip
    # transformers has PixtralProcessor only beside torchvision: its files are written here as it writes them.
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "chat_template.jinja").write_text(chat)
    image = {"image_processor_type": "PixtralImageProcessor", "patch_size": {"height": 16, "width": 16}}
    processor = {"processor_class": "PixtralProcessor", "patch_size": 16, "image_processor": image}
    (folder / "tokenizer" / "processor_config.json").write_text(json.dumps(processor))
    index = json.loads((folder / "model_index.json").read_text()) | {"tokenizer": ["transformers", "PixtralProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def flux2(folder: Path) -> Path:
    """FLUX.2 klein's class: Qwen3 reads the prompt."""
    torch.manual_seed(4)
    tokenizer = qwen_tokenizer()
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=4,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
        )
    )  # fmt: skip
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=flux2_vae(), text_encoder=text.eval(), tokenizer=tokenizer,
        transformer=flux2_transformer(guided=False),
    ).save_pretrained(folder)  # fmt: skip
    return folder
