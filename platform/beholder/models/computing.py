"""How a network computes: device, number type, threads. All of it belongs to a key."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

from beholder.errors import EngineError, UserError

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Computing:
    """Device and number type of a network.

    Parameters
    ----------
    device : {"cpu", "cuda"}
    dtype : {"float32", "bfloat16", "float16"}
    card : str, optional
        The GPU's name as torch gives it, such as "NVIDIA H100 80GB HBM3"; a worker with another one refuses. Results
        differ between cards in last digits, so a study names the one it uses.

    Raises
    ------
    UserError
        An unknown device or type, or a card for a CPU.
    """

    device: Device
    dtype: Dtype
    card: str | None = None

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise UserError(f"device {self.device!r}", ", ".join(get_args(Device)))
        if self.dtype not in get_args(Dtype):
            raise UserError(f"dtype {self.dtype!r}", ", ".join(get_args(Dtype)))
        if self.card is not None and self.device == "cpu":
            raise UserError(f"card {self.card!r} with device 'cpu'", "a card with device 'cuda' only")

    def identity(self, *packages: str) -> dict[str, Any]:
        """Device, card, type, threads, and the versions of torch and of the packages named."""
        return {
            "device": self.device,
            "card": self.card,
            "dtype": self.dtype,
            "threads": 1,
            **{name: version(name) for name in ("torch", *packages)},
        }

    def prepare(self) -> torch.device:
        """Set this process up and return the device: one thread, and no kernels chosen by a race.

        Raises
        ------
        EngineError
            No GPU, or another card than the plan's.
        """
        import torch

        torch.set_num_threads(1)
        if self.device == "cuda":
            if not torch.cuda.is_available():
                raise EngineError("no CUDA device on this worker", remedy="run on a GPU worker, or set device to cpu")
            found = torch.cuda.get_device_name()
            if self.card is not None and found != self.card:
                raise EngineError(f"this worker has {found!r}", f"{self.card!r}", "its results would differ")
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
        return torch.device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number type as torch names it."""
        import torch

        found: torch.dtype = getattr(torch, self.dtype)
        return found
