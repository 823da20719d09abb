"""Sentences to vectors with any sentence-embedding checkpoint, through transformers.

How token vectors become one (mean, class token, last token, ...; layers after that; unit length) is read from the files
the sentence-transformers project writes: `modules.json` and what it names. Llama-Embed-Nemotron-8B is a Llama that
looks both ways; it is loaded with transformers' own Llama, none of the checkpoint's code runs.

Sources: Reimers and Gurevych 2019, arXiv 1908.10084; Babakhin et al. 2025, arXiv 2511.07025 (Llama-Embed-Nemotron-8B).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, check_digest
from beholder.models.computing import Computing
from beholder.models.resizing import at_size

if TYPE_CHECKING:
    import torch

BUCKET = 32
"""Lengths are filled up to multiples of this many tokens: how far depends on the sentence alone."""
POOLINGS = ("mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean")
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Switches of older pooling files, in the order in which their vectors are put side by side."""
_BOTH_WAYS = ("LlamaBidirectionalModel",)
"""Architectures that are a decoder without its causal mask."""


@dataclass(frozen=True)
class SentenceSettings:
    r"""Everything that decides a vector besides its sentence.

    Parameters
    ----------
    checkpoint : Checkpoint
    computing : Computing
    batch_size : int
        Sentences in every call of the network.
    max_tokens : int
        Longer sentences are cut off here, or where the checkpoint says.
    prompt : str
        Put before each sentence, such as "Instruct: ...\nQuery: "; instruction-tuned encoders need the one of their
        model card.
    pooling : str, optional
        For a checkpoint without `modules.json` only: one of `POOLINGS`; vectors then get unit length.

    Raises
    ------
    UserError
        An impossible value.
    """

    checkpoint: Checkpoint
    computing: Computing
    batch_size: int
    max_tokens: int = 512
    prompt: str = ""
    pooling: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}", "1 or more")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise UserError(f"pooling {self.pooling!r}", ", ".join(POOLINGS))

    def identity(self) -> dict[str, Any]:
        """Checkpoint, settings, device and versions. Hashes the files of a folder, so keep the answer."""
        return {
            "encoder": "sentence",
            **self.checkpoint.identity(),
            **self.computing.identity("transformers", "tokenizers"),
            "batch_size": self.batch_size,
            "bucket": BUCKET,
            "max_tokens": self.max_tokens,
            "prompt": self.prompt,
            "pooling": self.pooling,
        }


@dataclass(frozen=True)
class _Recipe:
    """What follows the network: how to pool, linear layers, unit length."""

    pooling: tuple[str, ...]
    dense: tuple[Path, ...]
    normalise: bool
    max_tokens: int | None
    network: Path


class SentenceEncoder:
    """A loaded checkpoint.

    Parameters
    ----------
    settings : SentenceSettings
    identity : mapping, optional
        What the plan was keyed with; another content of the folder is refused.
    offline : bool
        Never ask the hub.

    Raises
    ------
    WeightsError
        A checkpoint that is missing, not allowed, without safetensors, or not the plan's.
    UserError
        A recipe that is not known here, or none.
    """

    def __init__(
        self, settings: SentenceSettings, *, identity: Mapping[str, Any] | None = None, offline: bool = False
    ) -> None:
        import transformers

        self.settings = settings
        folder = settings.checkpoint.fetch(offline=offline)
        if identity is not None and settings.checkpoint.is_folder:
            check_digest(folder, identity)
        self._identity = dict(identity) if identity is not None else settings.identity()
        transformers.utils.logging.disable_progress_bar()  # a worker's log is not a terminal
        self._device = settings.computing.prepare()
        self._recipe = read_recipe(folder, settings.pooling)
        self._network = load_network(self._recipe.network, settings.computing).to(self._device)
        self._dense = [_load_dense(path).to(self._device) for path in self._recipe.dense]
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            self._recipe.network, local_files_only=True, trust_remote_code=False
        )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        positions = getattr(self._network.config, "max_position_embeddings", None)
        limits = (self._recipe.max_tokens, self._tokenizer.model_max_length, positions)
        self._longest = min(settings.max_tokens, *(int(limit) for limit in limits if limit))

    def identity(self) -> Mapping[str, Any]:
        """Checkpoint, settings, device and versions."""
        return self._identity

    def resize(self, batch_size: int) -> None:
        """Fill every call up to another number; see `beholder.models.resizing`."""
        self.settings = replace(self.settings, batch_size=batch_size)
        self._identity = at_size(self._identity, batch_size)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of sentences, float32, shape (n, width); row i depends on sentence i only.

        Raises
        ------
        ArithmeticError
            A vector that is not finite.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a sequence of sentences, not one str")
        tokens = [
            self._tokenizer(self.settings.prompt + text, truncation=True, max_length=self._longest)["input_ids"]
            for text in texts
        ]
        buckets: dict[int, list[int]] = {}
        for i, ids in enumerate(tokens):
            length = min(-(-max(len(ids), 1) // BUCKET) * BUCKET, max(self._longest, 1))
            buckets.setdefault(length, []).append(i)
        rows: dict[int, np.ndarray] = {}
        size = self.settings.batch_size
        for length, members in buckets.items():
            for start in range(0, len(members), size):
                batch = members[start : start + size]
                filled = [*batch, *[batch[-1]] * (size - len(batch))]
                found = self._forward([tokens[i] for i in filled], length)
                rows.update(zip(batch, found, strict=False))
        return np.stack([rows[i] for i in range(len(texts))]) if tokens else np.empty((0, 0), dtype=np.float32)

    def _forward(self, rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
        import torch

        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=self._device)
        with torch.inference_mode():
            hidden = self._network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            vectors = pool(hidden, mask, self._recipe.pooling)
            for layer in self._dense:
                vectors = layer(vectors)
            if self._recipe.normalise:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
        found = np.asarray(vectors.cpu().numpy(), dtype=np.float32)
        if not np.isfinite(found).all():
            raise ArithmeticError("the network gave a vector that is not finite")
        return found


def pool(hidden: torch.Tensor, mask: torch.Tensor, modes: Sequence[str]) -> torch.Tensor:
    """One vector a sentence from its token vectors (padded on the right); several modes are put side by side.

    Parameters
    ----------
    hidden : Tensor
        Shape (n, tokens, width).
    mask : Tensor
        Shape (n, tokens), 1 for real tokens.
    modes : sequence of str
        Of `POOLINGS`: plain mean; first token; last real token; largest value; sum over the root of the count; mean
        weighted by position 1, 2, ....
    """
    import torch

    weight = mask.unsqueeze(-1).to(hidden.dtype)
    count = weight.sum(1)
    found = []
    for mode in modes:
        if mode == "mean":
            found.append((hidden * weight).sum(1) / count)
        elif mode == "mean_sqrt_len_tokens":
            found.append((hidden * weight).sum(1) / count.sqrt())
        elif mode == "weightedmean":
            place = weight * torch.arange(1, hidden.shape[1] + 1, device=hidden.device).view(1, -1, 1)
            found.append((hidden * place).sum(1) / place.sum(1))
        elif mode == "cls":
            found.append(hidden[:, 0])
        elif mode == "max":
            found.append(hidden.masked_fill(weight == 0, -torch.inf).amax(1))
        elif mode == "lasttoken":
            found.append(hidden[torch.arange(len(hidden)), mask.sum(1) - 1])
        else:
            raise UserError(f"pooling {mode!r}", ", ".join(POOLINGS))
    return torch.cat(found, dim=1)


def read_recipe(folder: Path, pooling: str | None) -> _Recipe:
    """What `modules.json` says, or a plain transformers checkpoint with the pooling given."""
    file = folder / "modules.json"
    if not file.is_file():
        if pooling is None:
            raise UserError(f"{folder} has no modules.json", f"settings with a pooling: {', '.join(POOLINGS)}")
        return _Recipe((pooling,), (), True, None, folder)
    if pooling is not None:
        raise UserError(f"pooling {pooling!r} for {folder}", "none: its modules.json says how")
    modules = [(str(m["type"]).rsplit(".", 1)[-1], folder / m["path"]) for m in json.loads(file.read_text())]
    network, dense, normalise = folder, [], False
    modes: tuple[str, ...] = ()
    for kind, path in modules:
        if kind == "Transformer":
            network = path
        elif kind == "Pooling":
            modes = _pooling_modes(path)
        elif kind == "Dense":
            dense.append(path)
        elif kind == "Normalize":
            normalise = True
        else:
            raise UserError(f"{file} has a module {kind!r}", "Transformer, Pooling, Dense, Normalize")
    if not modes:
        raise UserError(f"{file} has no Pooling", "one")
    limits = _json(network / "sentence_bert_config.json")
    return _Recipe(modes, tuple(dense), normalise, limits.get("max_seq_length"), network)


def _pooling_modes(path: Path) -> tuple[str, ...]:
    config = _json(path / "config.json")
    named = config.get("pooling_mode")
    if named is not None:  # newer files name the modes, older ones have a switch for each
        modes = [named] if isinstance(named, str) else list(named)
    else:
        unknown = [k for k, on in config.items() if k.startswith("pooling_mode_") and on and k not in _SWITCHES]
        if unknown:
            raise UserError(f"{path} asks for {', '.join(unknown)}", ", ".join(POOLINGS))
        modes = [mode for key, mode in _SWITCHES.items() if config.get(key)]
    if config.get("include_prompt", True) is False:
        raise UserError(f"{path} pools without the prompt", "include_prompt: true; not supported otherwise")
    return tuple(modes)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def load_network(folder: Path, computing: Computing) -> Any:
    """The network without its head. A Llama that looks both ways is transformers' own, with its causal mask off."""
    import transformers

    config = _json(folder / "config.json")
    if not config:
        raise WeightsError(f"{folder} has no config.json", "a transformers checkpoint")
    chosen = {"local_files_only": True, "use_safetensors": True, "dtype": computing.torch_dtype}
    if not set(_BOTH_WAYS) & set(config.get("architectures") or []):
        return transformers.AutoModel.from_pretrained(folder, trust_remote_code=False, **chosen).eval()
    plain = {name: value for name, value in config.items() if name not in ("auto_map", "model_type", "architectures")}
    both = transformers.LlamaConfig(**plain)
    both.is_causal = False
    network = transformers.LlamaModel.from_pretrained(folder, config=both, **chosen).eval()
    for layer in network.layers:  # where nothing is padded no mask is made, and attention would fall back to causal
        layer.self_attn.is_causal = False
    return network


def _load_dense(path: Path) -> torch.nn.Module:
    """A linear layer with an activation, as sentence-transformers stores it; in float32."""
    import torch
    from safetensors.torch import load_file

    config = _json(path / "config.json")
    name = str(config["activation_function"]).rsplit(".", 1)[-1]
    known = {"Tanh": torch.nn.Tanh, "Identity": torch.nn.Identity, "ReLU": torch.nn.ReLU, "GELU": torch.nn.GELU}
    if name not in known:
        raise UserError(f"{path} has the activation {name!r}", ", ".join(known))
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    file = path / "model.safetensors"
    if not file.is_file():
        raise WeightsError(f"{path} holds no model.safetensors", "safetensors")
    linear.load_state_dict({k.removeprefix("linear."): v.float() for k, v in load_file(file).items()})
    return torch.nn.Sequential(linear, known[name]()).eval()
