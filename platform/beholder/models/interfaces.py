"""What a model is: a small interface for each role. A model knows of pictures and texts, never of users or Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model asks of the worker it runs on.

    Parameters
    ----------
    memory_gb : float
        Main memory, in 10^9 bytes.
    gpu_memory_gb : float
        Memory of a GPU at the batch size of the plan; 0 for a model that runs on a CPU.
    environment : str
        Name of its package environment; "platform" is the one Beholder itself runs in.
    network : bool
        Whether it calls a service outside.
    python : str, optional
        The Python that its worker must run, where that is not the platform's.
    """

    memory_gb: float
    gpu_memory_gb: float = 0.0
    environment: str = "platform"
    network: bool = False
    python: str | None = None


class Picture(NamedTuple):
    """One generated picture."""

    pixels: np.ndarray
    """RGB, shape (height, width, 3), uint8."""
    notes: Mapping[str, Any]
    """What else its row says, as plain JSON values."""


class Generator(Protocol):
    """Text to pictures."""

    batch_size: int

    def identity(self) -> Mapping[str, Any]:
        """Plain JSON values: everything but the arguments that can change a picture."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        """One picture a prompt, at most `batch_size` of them; each depends on its own prompt and seed only."""
        ...


class Encoder(Protocol):
    """Pictures, or texts, to vectors."""

    def identity(self) -> Mapping[str, Any]:
        """Plain JSON values: everything but the arguments that can change a vector."""
        ...

    def encode(self, inputs: Sequence[Any]) -> np.ndarray:
        """float32, shape (n, width); row i depends on input i only.

        Pictures are arrays of shape (height, width, 3), uint8; texts are str.
        """
        ...


class Scorer(Protocol):
    """Picture and prompt to a number; higher is better."""

    needs_prompt: bool

    def identity(self) -> Mapping[str, Any]:
        """Plain JSON values: everything but the arguments that can change a score."""
        ...

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        """float64, shape (n,): row i depends on picture i and prompt i only. Prompts are ignored if not needed."""
        ...
