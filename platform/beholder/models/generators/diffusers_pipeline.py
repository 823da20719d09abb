"""Text to pictures with any text-to-image pipeline of diffusers, from a hub id at a commit or a folder.

Which classes a pipeline is made of (FLUX.2, FLUX.1, Stable Diffusion 3.5, XL, ...) is said by its `model_index.json`;
diffusers does the loading. Noise is drawn on the CPU, one generator a picture from its own seed, so neither the batch a
picture travels in nor the GPU it lands on chooses its content.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, check_digest, explained, with_safetensors
from beholder.models.computing import Computing
from beholder.models.interfaces import Picture
from beholder.models.resizing import at_size

Pipeline = Any
"""A `diffusers.DiffusionPipeline`; diffusers has no types to check against."""
LONGEST_PROMPT = 20_000
"""Characters; pipelines read 77 to 512 tokens and would cut the rest off without a word."""
Compile = Literal["no", "default", "reduce-overhead", "max-autotune"]
Offload = Literal["no", "model", "sequential"]
_SEEING = ("PixtralProcessor",)
"""Processors that could also read pictures, which transformers gives only beside torchvision (FLUX.2 dev has one). Of
them a text-to-image pipeline uses the tokenizer and its chat template, which are loaded alone."""
_SET_BY_FIELDS = frozenset(
    {"prompt", "generator", "num_inference_steps", "guidance_scale", "height", "width", "output_type", "return_dict"}
    | {"latents", "num_images_per_prompt"}
)


@dataclass(frozen=True)
class PipelineSettings:
    """Everything that decides a picture besides prompt and seed.

    Parameters
    ----------
    checkpoint : Checkpoint
    computing : Computing
    steps : int
        Denoising steps.
    guidance : float or None
        The pipeline's `guidance_scale`; None for a pipeline that takes none.
    width, height : int
        Pixels; a multiple of what the pipeline asks for (8 or 16).
    batch_size : int
        Pictures in every call; tails are filled up. Bytes differ between batch sizes, not between neighbours.
    variant : str, optional
        Of the weight files, such as "fp16".
    options : mapping
        Further arguments of the pipeline's call by name, such as `negative_prompt` or `max_sequence_length`.
    compile : {"no", "default", "reduce-overhead", "max-autotune"}
        Compile the denoiser, in this mode of `torch.compile`: slower to start, faster to run, other last digits.
    offload : {"no", "model", "sequential"}
        Keep parts that do not compute in main memory, where the pipeline does not fit on the card. Does not change
        results.
    remote_code : bool
        Run Python files of the checkpoint. Read them first.

    Raises
    ------
    UserError
        An impossible value.
    """

    checkpoint: Checkpoint
    computing: Computing
    steps: int
    guidance: float | None
    width: int
    height: int
    batch_size: int
    variant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    compile: Compile = "no"
    offload: Offload = "no"
    remote_code: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "width", "height", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}", "1 or more")
        if clash := _SET_BY_FIELDS & self.options.keys():
            raise UserError(f"options {sorted(clash)}", "arguments that have no setting of their own")
        if self.compile not in get_args(Compile):
            raise UserError(f"compile {self.compile!r}", ", ".join(get_args(Compile)))
        if self.offload not in get_args(Offload):
            raise UserError(f"offload {self.offload!r}", ", ".join(get_args(Offload)))
        if self.offload != "no" and self.computing.device == "cpu":
            raise UserError(f"offload {self.offload!r} on a CPU", "'no'")

    def identity(self) -> dict[str, Any]:
        """Checkpoint, settings, device and versions. Hashes the files of a folder, so keep the answer."""
        return {
            "generator": "diffusers",
            **self.checkpoint.identity(),
            "variant": self.variant,
            **self.computing.identity("diffusers", "transformers"),
            "steps": self.steps,
            "guidance": self.guidance,
            "width": self.width,
            "height": self.height,
            "batch_size": self.batch_size,
            "options": dict(self.options),
            "compile": self.compile,
        }


class DiffusersGenerator:
    """A loaded pipeline.

    Parameters
    ----------
    settings : PipelineSettings
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.

    Raises
    ------
    WeightsError
        The checkpoint is missing, not allowed, has no safetensors or is another one than the plan's.
    UserError
        The pipeline makes no picture from text, lacks an argument named in `options`, or asks for another size.
    """

    def __init__(
        self, settings: PipelineSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        self.settings, self.batch_size = settings, settings.batch_size
        folder = fetch_pipeline(settings, offline)
        if identity is not None and settings.checkpoint.is_folder:
            check_digest(folder, identity)
        self._identity = dict(identity) if identity is not None else settings.identity()
        device = settings.computing.prepare()
        self._pipeline = load_pipeline(settings, folder)
        self._accepted = _arguments(self._pipeline, settings)
        if settings.offload == "model":
            self._pipeline.enable_model_cpu_offload(device=device)
        elif settings.offload == "sequential":
            self._pipeline.enable_sequential_cpu_offload(device=device)
        else:
            self._pipeline.to(device)
        if settings.compile != "no":
            denoiser(self._pipeline).compile(mode=settings.compile)

    def identity(self) -> Mapping[str, Any]:
        """Checkpoint, settings, device and versions."""
        return self._identity

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`. Not once it was compiled for one."""
        self.settings, self.batch_size = replace(self.settings, batch_size=batch_size), batch_size
        self._identity = at_size(self._identity, batch_size)
        self._accepted = _arguments(self._pipeline, self.settings)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        """One picture a prompt.

        The pipeline always sees `batch_size` prompts; a tail is filled up with the last one and seed 0, and what comes
        of that is thrown away.

        Parameters
        ----------
        prompts : sequence of str
            1 to `batch_size`.
        seeds : sequence of int
            0 to 2^63 - 1, one a prompt.

        Returns
        -------
        list of Picture
            `notes` says `flagged`, whether the pipeline's own safety checker painted the picture black (None: it has
            no checker).

        Raises
        ------
        UserError
            A prompt that is empty or of more than 20,000 characters, or too many of them.
        ArithmeticError
            A picture that is not finite.
        """
        import torch

        if not 1 <= len(prompts) <= self.batch_size or len(prompts) != len(seeds):
            raise UserError(f"{len(prompts)} prompts and {len(seeds)} seeds", f"1 to {self.batch_size} of each")
        for prompt in prompts:
            if not 1 <= len(prompt) <= LONGEST_PROMPT:
                raise UserError(f"a prompt of {len(prompt)} characters", f"1 to {LONGEST_PROMPT}")
        missing = self.batch_size - len(prompts)
        noise = [torch.Generator("cpu").manual_seed(int(seed)) for seed in [*seeds, *[0] * missing]]
        with torch.inference_mode():
            made = self._pipeline(prompt=[*prompts, *[prompts[-1]] * missing], generator=noise, **self._accepted)
        found = made.images.shape[1:3]
        if found != (self.settings.height, self.settings.width):
            raise ArithmeticError(f"the pipeline made {found[1]} x {found[0]} pixels of another size than asked")
        flags = getattr(made, "nsfw_content_detected", None) or [None] * len(prompts)
        return [
            Picture(_pixels(image), {"flagged": None if flag is None else bool(flag)})
            for image, flag in zip(made.images[: len(prompts)], flags, strict=False)
        ]


def fetch_pipeline(settings: PipelineSettings, offline: bool) -> Path:
    """The folder of a pipeline; of a hub model only what its `model_index.json` asks for is downloaded."""
    checkpoint = settings.checkpoint
    if checkpoint.is_folder:
        folder = Path(checkpoint.model)
    else:
        checkpoint.fetch_files(["model_index.json"], offline)  # says in one line what is wrong, if anything is
        from diffusers import DiffusionPipeline

        with explained(checkpoint.model, checkpoint.revision):
            folder = Path(
                DiffusionPipeline.download(
                    checkpoint.model,
                    revision=checkpoint.revision,
                    variant=settings.variant,
                    use_safetensors=True,
                    trust_remote_code=settings.remote_code,
                    local_files_only=offline,
                )
            )
    if not (folder / "model_index.json").is_file():
        raise WeightsError(f"{checkpoint.model} has no model_index.json", "a diffusers pipeline")
    return with_safetensors(folder)


def load_pipeline(settings: PipelineSettings, folder: Path) -> Pipeline:
    """The pipeline in main memory, by diffusers' own loading."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    logging.disable_progress_bar()  # a worker's log is not a terminal
    transformers_logging.disable_progress_bar()
    _refuse_code(folder, settings.remote_code)
    index = json.loads((folder / "model_index.json").read_text())
    seeing = [name for name, what in index.items() if isinstance(what, list) and what[-1] in _SEEING]
    try:
        pipeline: Pipeline = DiffusionPipeline.from_pretrained(
            folder,
            dtype=settings.computing.torch_dtype,
            variant=settings.variant,
            use_safetensors=True,
            trust_remote_code=settings.remote_code,
            local_files_only=True,
            **dict.fromkeys(seeing),
        )
    except (OSError, ValueError, AttributeError) as error:
        first = " ".join(str(error).split())[:300]
        raise WeightsError(f"{settings.checkpoint.model} cannot be loaded: {first}") from error
    for name in seeing:
        tokenizer = AutoTokenizer.from_pretrained(folder / name, local_files_only=True, trust_remote_code=False)
        pipeline.register_modules(**{name: tokenizer})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _refuse_code(folder: Path, allowed: bool) -> None:
    """Python files would run when the pipeline is loaded."""
    index = json.loads((folder / "model_index.json").read_text())
    named = isinstance(index.get("_class_name"), list)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    if (named or files) and not allowed:
        what = ", ".join(files) or str(index["_class_name"])
        raise WeightsError(f"{folder} brings its own code ({what})", remedy="read it, then set remote_code: true")


def denoiser(pipeline: Pipeline) -> Any:
    """The network that is called at every step: a transformer, or a U-Net."""
    for name in ("transformer", "unet"):
        if getattr(pipeline, name, None) is not None:
            return getattr(pipeline, name)
    raise UserError(f"{type(pipeline).__name__} has neither a transformer nor a unet", "a text-to-image pipeline")


def _arguments(pipeline: Pipeline, settings: PipelineSettings) -> dict[str, Any]:
    """Arguments of every call; refuses those the pipeline does not know."""
    known = inspect.signature(type(pipeline).__call__).parameters
    name = type(pipeline).__name__
    if not {"prompt", "generator", "output_type"} <= known.keys() or "image" in _required(known):
        raise UserError(f"{name} makes no picture from a text alone", "a text-to-image pipeline of diffusers")
    asked: dict[str, Any] = {"num_inference_steps": settings.steps, **settings.options}
    asked |= {"height": settings.height, "width": settings.width}
    if settings.guidance is not None:
        asked["guidance_scale"] = settings.guidance
    if unknown := sorted(asked.keys() - known.keys()):
        raise UserError(f"{name} takes no {', '.join(unknown)}", ", ".join(sorted(known.keys() - {"self"})))
    unit = int(pipeline.image_processor.config.vae_scale_factor)
    if settings.width % unit or settings.height % unit:
        raise UserError(f"size {settings.width} x {settings.height}", f"multiples of {unit} for {name}")
    for argument, value in settings.options.items():
        if argument.startswith("negative_prompt") and isinstance(value, str):
            asked[argument] = [value] * settings.batch_size
    return {**asked, "output_type": "np"}


def _required(parameters: Mapping[str, inspect.Parameter]) -> set[str]:
    return {name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name != "self"}


def _pixels(image: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8 as diffusers rounds; a NaN would silently become a black pixel."""
    if not np.isfinite(image).all():
        raise ArithmeticError("the picture has values that are not finite")
    return np.asarray((image.astype(np.float32) * 255).round().astype(np.uint8))
