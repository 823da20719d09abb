"""Networks of published sizes with random weights, built on disk from published configurations; nothing is fetched.

Random weights cost what trained ones cost. Tokenizers know letters only: texts are filled up to the published lengths,
so encoders read as many tokens, and embeddings have the published number of rows. `tiny` builds the same classes with a
few thousand parameters.

Configurations: black-forest-labs/FLUX.1-dev, google/siglip2-so400m-patch14-384, Qwen/Qwen2-VL-7B-Instruct (under
MizzenAI/HPSv3) on the Hugging Face hub.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "models"))
import tiny_encoders
import tiny_pipelines


@dataclass(frozen=True)
class Layers:
    """How many layers are built; None for as many as published.

    Attributes
    ----------
    double, single : int, optional
        Of FLUX.1's transformer (19 and 38).
    text : int, optional
        Of T5 (24).
    scorer : int, optional
        Of Qwen2-VL's language model (28).
    """

    double: int | None = None
    single: int | None = None
    text: int | None = None
    scorer: int | None = None


@contextmanager
def made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Networks made inside have their parameters there, in this type: 12 billion random numbers take long on a CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def flux(folder: Path, device: str, dtype: torch.dtype, layers: Layers) -> Path:
    """FLUX.1 dev: 12 billion parameters, T5-XXL's 4.8 billion and CLIP-L's 123 million for the text."""
    torch.manual_seed(1)
    clip, t5 = tiny_encoders.clip_tokenizer(77), tiny_pipelines.t5_tokenizer()
    with made_on(device, dtype):
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=layers.double or 19, num_single_layers=layers.single or 38,
            attention_head_dim=128, num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768,
            guidance_embeds=True, axes_dims_rope=(16, 56, 56),
        )  # fmt: skip
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16, norm_num_groups=32, sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159,
            use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
        text = t.CLIPTextModel(
            t.CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, projection_dim=768, hidden_act="quick_gelu",
                bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        long_text = t.T5EncoderModel(
            t.T5Config(
                vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=layers.text or 24, num_heads=64,
                feed_forward_proj="gated-gelu", tie_word_embeddings=False,
            )
        )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096,
    )  # fmt: skip
    FluxPipeline(
        scheduler=scheduler, vae=vae, text_encoder=text, tokenizer=clip, text_encoder_2=long_text, tokenizer_2=t5,
        transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def siglip2(folder: Path, device: str, dtype: torch.dtype) -> Path:
    """SigLIP 2 so400m, patches of 14 in pictures of 384: 428 million parameters see, 708 million read."""
    torch.manual_seed(2)
    shared: dict[str, Any] = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    }  # fmt: skip
    text = shared | {"vocab_size": 256000, "max_position_embeddings": 64}
    vision = shared | {"image_size": 384, "patch_size": 14}
    with made_on(device, dtype):
        t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    tiny_encoders.gemma_like_tokenizer().save_pretrained(folder)
    t.SiglipImageProcessorPil(size={"height": 384, "width": 384}).save_pretrained(folder)
    return folder


def qwen2_vl(device: str, dtype: torch.dtype, layers: Layers, *, tiny: bool) -> Any:
    """The network under HPSv3, Qwen2-VL 7B, without a head: 8 billion parameters."""
    torch.manual_seed(3)
    if tiny:
        text = {
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1,
        }  # fmt: skip
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2}
        sections = [2, 3, 3]
    else:
        text = {
            "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": layers.scorer or 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        }  # fmt: skip
        vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 3584, "mlp_ratio": 4}
        sections = [16, 24, 24]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    config = t.Qwen2VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={**vision, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=5, vision_start_token_id=6, vision_end_token_id=7, video_token_id=8,
    )  # fmt: skip
    with made_on(device, dtype):
        return t.Qwen2VLModel(config).eval()
