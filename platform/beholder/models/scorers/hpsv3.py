"""HPSv3: human preference by a Qwen2-VL with a reward head, through the package `hpsv3` in the environment `hpsv3`.

Source: Ma et al. 2025, arXiv 2508.03789.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beholder.models.scorers import ScorerSettings, scorer_spec
from beholder.models.scorers.base import check_inputs, finite, one_weight_file
from beholder.models.scorers.formulas import mean_reward


class HPSv3:
    """Mean of the reward's distribution; no fixed range, about 0 to 15 in the paper.

    Pictures are scored one by one: in a batch, padding would let a neighbour's long prompt into the last digits.

    Parameters
    ----------
    settings : ScorerSettings
        The checkpoint is a folder with `HPSv3.safetensors` (MizzenAI/HPSv3); part `base` has the files of
        Qwen/Qwen2-VL-7B-Instruct. `batch_size` must be 1.
    identity : mapping, optional
        What the plan was keyed with; another content of a folder is refused.
    offline : bool
        Never ask the hub.
    """

    needs_prompt = True

    def __init__(
        self, settings: ScorerSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        from beholder.errors import UserError

        settings.require(parts=scorer_spec(settings.scorer).parts)
        if settings.batch_size != 1:
            raise UserError(f"batch_size {settings.batch_size} of hpsv3", "1")
        folder, parts = settings.folders(offline, identity)
        device = settings.computing.prepare()
        self._inferencer = load_inferencer(one_weight_file(folder), parts["base"], settings, str(device))

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,)."""
        check_inputs(images, prompts, self.needs_prompt)
        return finite([self._one(image, prompt) for image, prompt in zip(images, prompts, strict=True)], len(images))

    def _one(self, image: np.ndarray, prompt: str) -> float:
        import torch
        from PIL import Image

        with torch.inference_mode():
            # By name: versions of the package differ in the order of these two.
            output = self._inferencer.reward(image_paths=[Image.fromarray(image)], prompts=[prompt])
        return float(mean_reward(output.float().cpu().numpy())[0])


def load_inferencer(weights: Path, base: Path, settings: ScorerSettings, device: str) -> Any:
    """The package's own inferencer, told where the files lie and how to compute."""
    import hpsv3  # type: ignore[import-not-found]
    import yaml

    package = Path(hpsv3.__file__).parent
    config = yaml.safe_load((package / "config" / "HPSv3_7B.yaml").read_text())
    config |= {
        "model_name_or_path": str(base),
        "torch_dtype": settings.computing.dtype,
        "bf16": False,  # only tells the trainer; the network's type is the line above
        "use_cpu": device == "cpu",
        "disable_flash_attn2": True,
        "gradient_checkpointing": False,
        "report_to": "none",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hpsv3.yaml"
        config["output_dir"] = folder
        path.write_text(yaml.safe_dump(config))
        return hpsv3.HPSv3RewardInferencer(config_path=str(path), checkpoint_path=str(weights), device=device)
