"""What a network of taste is, and the settings it is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from beholder.errors import UserError
from beholder.taste.nets import Dropout
from beholder.taste.training_set import Vocabulary

if TYPE_CHECKING:
    import torch

    from beholder.taste.nets import Params

    Encoded = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes that a network takes from its data.

    Attributes
    ----------
    block_sizes : tuple of int
        Columns of each block of the design.
    categories : tuple of int
        Categories of each demographic, unknown among them.
    datasets : int
        Data sets, unknown among them.
    profile : int
        Columns of a profile; 0 without profiles.
    """

    block_sizes: tuple[int, ...]
    categories: tuple[int, ...]
    datasets: int
    profile: int

    @classmethod
    def of(cls, block_sizes: tuple[int, ...], vocabulary: Vocabulary) -> Shape:
        """The sizes of a design and of what is told of people."""
        categories = tuple(len(c) for c in vocabulary.demographics.values())
        return cls(block_sizes, categories, len(vocabulary.datasets), len(vocabulary.profile_centre))


@dataclass(frozen=True, eq=False)
class Persons:
    """m people as tensors: own embeddings, shape (m, e), and `beholder.taste.training_set.Told`.

    An embedding of zeros is nobody's: the mean person of those of whom the same is told.
    """

    embedding: torch.Tensor
    categories: torch.Tensor
    dataset: torch.Tensor
    profiles: torch.Tensor


class Network(Protocol):
    """A network's settings and its functions. Images and people are encoded apart, each once, then paired.

    The user embeddings are a parameter named `users`, shape (U, e); every other parameter belongs to the network.
    """

    @property
    def kind(self) -> str:
        """Its name in saved files."""
        ...

    @property
    def embedding(self) -> int:
        """Numbers a user, e."""
        ...

    @property
    def dropout(self) -> float:
        """Share of hidden values dropped in training."""
        ...

    @property
    def reads_people(self) -> bool:
        """Whether it looks at more of a person than the embedding."""
        ...

    def start(self, shape: Shape, generator: torch.Generator) -> Params:
        """Parameters to start from, without `users`."""
        ...

    def images(self, params: Params, rows: torch.Tensor, dropout: Dropout) -> Encoded:
        """Images from rows of the design, shape (m, p); each tensor has m entries."""
        ...

    def people(self, params: Params, persons: Persons, dropout: Dropout) -> Encoded:
        """People, each tensor with an entry a person."""
        ...

    def score(
        self,
        params: Params,
        images: Encoded,
        people: Encoded,
        which: torch.Tensor,
        who: torch.Tensor,
        dropout: Dropout,
    ) -> torch.Tensor:
        """What person `who[k]` thinks of image `which[k]`, in standard deviations within users; shape (b,)."""
        ...


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    Attributes
    ----------
    seeds : int
        Networks in the ensemble, each from its own start and stopped by its own fold of prompts.
    epochs : int
        At most; the learning rate falls to 0 over them.
    patience : int
        Epochs without a better validation loss before the end.
    folds : int
        Folds of prompts; one is held out for stopping.
    batch : int
        Ratings a batch, about: whole images are drawn with all their ratings. Small sets get smaller batches.
    rate : float
        Learning rate of AdamW after a warm-up of 50 steps.
    decay : float
        Weight decay of matrices and embeddings.
    start_sd : float
        SD of the user embeddings at the start.
    ranking : float
        Weight of the within-user ranking loss beside the squared error.
    user_dropout : float
        Share of people whose embedding is put to zero in a batch, so that the network learns to do without; with 1
        people are known by what is told of them only.
    told_dropout : float
        Share of entries told of people that are put to unknown in a batch.
    sampling : mapping of str to float, optional
        How often the images of each data set are drawn an epoch; 1 where a set is not named.
    device : str
        Where torch trains, such as `cpu` or `cuda`. Only a CPU gives the same bits again.
    """

    seeds: int = 5
    epochs: int = 8
    patience: int = 2
    folds: int = 8
    batch: int = 720
    rate: float = 1e-3
    decay: float = 0.01
    start_sd: float = 0.3
    ranking: float = 0.0
    user_dropout: float = 0.0
    told_dropout: float = 0.0
    sampling: Mapping[str, float] | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}", "1 or more")
        if self.folds < 2:
            raise UserError(f"folds = {self.folds}", "2 or more: one is held out")
        for name in ("user_dropout", "told_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} = {getattr(self, name)}", "a share, 0...1")
        if any(weight < 0 for weight in (self.sampling or {}).values()):
            raise UserError(f"sampling = {self.sampling}", "weights of 0 or more")

    def settings(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "sampling": None if self.sampling is None else dict(self.sampling)}
