"""Published pickles to safetensors, without running their code.

Some scorers are published as `.pt`, `.pth` or `.bin` only. These files are pickles; they are read once, with torch's
reader that knows tensors and plain containers and nothing else, and stored again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.errors import WeightsError
from beholder.models.weights import sha256_of

if TYPE_CHECKING:
    import torch

_NESTED = ("state_dict", "model", "params", "module")
"""Names under which training code stores the weights."""


def to_safetensors(source: Path, target: Path) -> dict[str, str]:
    """Store the tensors of a pickle as safetensors.

    Parameters
    ----------
    source : Path
        A state dict, alone or under one of the usual names.
    target : Path
        The new file, ending in `.safetensors`; written whole or not at all, never over another.

    Returns
    -------
    dict
        `source_sha256` and `sha256`, for the record.

    Raises
    ------
    WeightsError
        A file that is missing, holds more than tensors, or no tensors; a target that exists or has another ending.
    """
    import torch
    from safetensors.torch import save_file

    if target.suffix != ".safetensors" or target.exists():
        raise WeightsError(f"target {target}", "a file that does not exist yet and ends in .safetensors")
    if not source.is_file():
        raise WeightsError(f"no file {source}", remedy="check the path")
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle.UnpicklingError, RuntimeError and others for what it refuses
        first = str(error).splitlines()[0]
        raise WeightsError(f"{source} cannot be read as tensors: {first}", "a state dict, without code") from error
    tensors = _tensors(found)
    if not tensors:
        raise WeightsError(f"{source} holds no tensors", "a state dict")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    source_digest = sha256_of(source)
    try:
        # Copies, since tensors that share memory cannot be stored side by side.
        save_file(
            {name: value.clone().contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"format": "pt", "source_sha256": source_digest},
        )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return {"source_sha256": source_digest, "sha256": sha256_of(target)}


def _tensors(found: Any) -> dict[str, torch.Tensor]:
    """The state dict in a loaded pickle; numbers and strings beside it are left out."""
    import torch

    if not isinstance(found, Mapping):
        return {}
    for name in _NESTED:
        if isinstance(found.get(name), Mapping):
            return _tensors(found[name])
    return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
