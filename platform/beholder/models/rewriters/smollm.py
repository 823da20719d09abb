"""A rewriter that writes its own clauses: SmolLM2-135M-Instruct from a local folder, on one CPU thread.

So small a model cannot plan, list or judge. It is therefore led by the hand: a look is drawn from the phrase bank and
asked for, three example turns show the form, and its answer is begun for it with the base prompt and the clauses that
stay, so that the subject is kept by construction. What it adds is the wording. Source: Ben Allal et al. 2025,
arXiv 2502.02737 (SmolLM2); weights Apache-2.0. They were quantised to about 4 bits by whoever packed them; the cache
holds the unpacked numbers in half precision (52 % of them exactly, the others to 1 in 2,000), which gave the same
greedy texts as the packed ones and distributions of the next token within 1e-5 nats.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from beholder.errors import UserError, WeightsError
from beholder.models.rewriters import phrases
from beholder.models.rewriters.base import MOST_CLAUSES, Rewrites, choose_move, clauses_of, compose

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.7
TOP_P = 0.9
"""Usual values for writing freely (0.9 and 0.92) gave more clauses that cannot be drawn; read side by side."""
TOP_K = 256
"""The likeliest tokens that are looked at, at most; they nearly always hold more than `TOP_P`."""
REPETITION_PENALTY = 1.15
"""Divides the logit of a token (multiplies a negative one) that was written already."""
NEW_TOKENS = 16
NEW_CLAUSES = 2
MOST_CLAUSE_WORDS = 8
VERSION = 1
"""Raised when the examples or the way of writing change, since the rewrites then change too."""

EXAMPLES = (
    ("a red bicycle against a wall", "cool blue light", "cool blue light before sunrise, pale shade on the bricks"),
    ("a black cat on a sofa, soft focus", "oil painting", "oil painting, thick layers of paint in the fur"),
    ("children on a beach", "crowded with life", "crowded with swimmers and bright parasols, busy waves"),
)
"""Prompt, look asked for, and how the model is to go on."""
_CHATTER = re.compile(
    r"[^\x20-\x7e]|[:\"#*_<>{}\[\]()/\\]|\b(I|you|your|we|my|prompt|add|image shows)\b", re.IGNORECASE
)


def identity(digest: str) -> dict[str, Any]:
    """Id, weights, versions and settings: everything that can change what is written."""
    return {
        "rewriter": "smollm2",
        "version": VERSION,
        "weights": digest,
        "phrases": phrases.VERSION,
        "dtype": "float32",
        "threads": 1,
        "device": "cpu",
        "torch": version("torch"),
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "top_k": TOP_K,
        "repetition_penalty": REPETITION_PENALTY,
        "new_tokens": NEW_TOKENS,
        "new_clauses": NEW_CLAUSES,
    }


class Ask(NamedTuple):
    """One clause to write: the beginning that stays and the look to add."""

    kept: tuple[str, ...]
    look: str

    @property
    def room(self) -> int:
        """Clauses that may be added."""
        return min(NEW_CLAUSES, MOST_CLAUSES - len(self.kept))


class SmolLM:
    """Rewrites prompts with clauses of a small language model.

    The rewrites of one call are written side by side; each draws its words from a random stream of its own. Calls
    share nothing but the examples' attention state, computed once, so a call gives the same rewrites whenever it is
    made. torch is set to one thread for the process.

    Parameters
    ----------
    folder : Path
        A transformers folder of SmolLM2-135M-Instruct. Nothing is fetched.

    Raises
    ------
    WeightsError
        A needed file is missing.
    """

    def __init__(self, folder: Path) -> None:
        weights = Path(folder) / "model.safetensors"
        if not weights.is_file():
            raise WeightsError(f"{weights} is missing", remedy="run `beholder models fetch embedded`")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a worker's log is not a terminal
        torch.set_num_threads(1)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        with weights.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        examples = "".join(_turn(prompt, look) + f", {answer}<|im_end|>\n" for prompt, look, answer in EXAMPLES)
        tokens = self._torch.tensor([self._tokenizer.encode(examples, add_special_tokens=False)])
        with torch.inference_mode():
            state = self._network(tokens, use_cache=True, logits_to_keep=1).past_key_values
        self._examples = [(layer.keys, layer.values) for layer in state.layers]

    def identity(self) -> Mapping[str, Any]:
        """Id, weights, versions and settings."""
        return identity(self.digest)

    def rewrite(self, prompt: str, *, base: str, n: int, seed: int) -> Rewrites:
        """`n` rewrites; see `base.Rewriter`. Those the model did not manage come from the phrase bank, at the end."""
        if n < 1:
            raise UserError(f"{n} rewrites asked for", "1 or more")
        clauses = clauses_of(prompt, base)
        rng = np.random.default_rng([seed, 1])
        moves = [choose_move(clauses, rng) for _ in range(n)]
        free = [phrase for phrase in phrases.PHRASES if phrase not in clauses]
        looks = [free[k] for k in rng.choice(len(free), size=n, replace=n > len(free))]
        asks = [Ask(move.kept, look) for move, look in zip(moves, looks, strict=True) if move.writes]
        written = self._write(base, asks, rng.spawn(len(asks))) if asks else []
        found: dict[str, None] = {compose(base, move.kept): None for move in moves if not move.writes}
        for ask, text in zip(asks, written, strict=True):
            if new := usable_clauses(text, ask.look, [base, *ask.kept])[: ask.room]:
                found[compose(base, [*ask.kept, *new])] = None
        found.pop(prompt, None)
        missing = n - len(found)
        more = phrases.draw(prompt, base=base, n=missing, seed=seed, taken=list(found)) if missing else ()
        return Rewrites((*found, *more), topped_up=missing)

    def _write(self, base: str, asks: Sequence[Ask], streams: Sequence[np.random.Generator]) -> list[str]:
        """What the model adds to each ask: to the end of its line, to as many clauses as fit, or to `NEW_TOKENS`."""
        begun = [_turn(compose(base, ask.kept), ask.look) + "," for ask in asks]
        tokens, mask = self._padded([self._tokenizer.encode(text, add_special_tokens=False) for text in begun])
        state, known = self._examples_for(len(asks))
        mask = self._torch.cat([mask.new_ones(len(asks), known), mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1)[:, known:]
        end = self._tokenizer.eos_token_id
        written: list[list[int]] = [[] for _ in asks]
        texts = [""] * len(asks)
        going = list(range(len(asks)))
        for _ in range(NEW_TOKENS):
            logits = self._next_logits(tokens, mask, positions, state)
            drawn = [end] * len(asks)  # a row that is done goes on with end marks, so the batch keeps its shape
            for row in going:
                drawn[row] = draw_token(logits[row], written[row], streams[row])
                written[row].append(drawn[row])
                texts[row] = self._tokenizer.decode(written[row])
            going = [
                r for r in going if drawn[r] != end and "\n" not in texts[r] and texts[r].count(",") < asks[r].room
            ]
            if not going:
                break
            tokens = self._torch.tensor(drawn)[:, None]
            mask = self._torch.cat([mask, mask.new_ones(len(asks), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return texts

    def _next_logits(self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, state: Any) -> np.ndarray:
        """Logits of the token after each row's last, shape (rows, vocabulary); `state` grows by what was read."""
        with self._torch.inference_mode():
            out = self._network(
                tokens, attention_mask=mask, position_ids=positions, past_key_values=state, logits_to_keep=1
            )
        return np.asarray(out.logits[:, -1].numpy())

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens filled up on the left to one length, and the mask of the real ones, both (rows, length)."""
        length = max(len(row) for row in rows)
        fill = self._tokenizer.pad_token_id
        tokens = [[fill] * (length - len(row)) + list(row) for row in rows]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in rows]
        return self._torch.tensor(tokens), self._torch.tensor(mask)

    def _examples_for(self, rows: int) -> tuple[Any, int]:
        """A fresh attention state that has read the examples, for `rows` texts side by side, and its length."""
        from transformers import DynamicCache

        state = DynamicCache(config=self._network.config)
        for layer, (keys, values) in enumerate(self._examples):
            state.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return state, int(state.get_seq_length())


def _turn(prompt: str, look: str) -> str:
    """A question in the model's chat form, and the beginning of the answer."""
    return f"<|im_start|>user\nPrompt: {prompt}\nAdd: {look}<|im_end|>\n<|im_start|>assistant\n{prompt}"


def draw_token(logits: np.ndarray, written: Sequence[int], rng: np.random.Generator) -> int:
    """Draw the next token: repetition penalty, temperature, then the likeliest tokens that hold `TOP_P` together.

    Parameters
    ----------
    logits : np.ndarray
        Shape (vocabulary,).
    written : sequence of int
        Tokens drawn before, which become less likely.
    rng : Generator
        Moved on by one uniform number.
    """
    scores = np.asarray(logits, dtype=np.float64).copy()
    if again := sorted(set(written)):
        seen = scores[again]
        scores[again] = np.where(seen > 0, seen / REPETITION_PENALTY, seen * REPETITION_PENALTY)
    scores = (scores - scores.max()) / TEMPERATURE
    likeliest = np.argpartition(-scores, min(TOP_K, len(scores)) - 1)[:TOP_K]
    order = likeliest[np.lexsort((likeliest, -scores[likeliest]))]
    share = np.cumsum(np.exp(scores[order])) / np.exp(scores).sum()
    held = int(np.searchsorted(share[:-1], TOP_P)) + 1
    return int(order[np.searchsorted(share[: held - 1], rng.random() * share[held - 1], side="right")])


def usable_clauses(text: str, look: str, before: Sequence[str]) -> list[str]:
    """Clauses of a written text that can stand in a prompt.

    A clause counts only if something ends it (comma, full stop, line or end mark): the last one may be cut off.
    Sentences after the first are dropped, and so are clauses with chatter, of more than `MOST_CLAUSE_WORDS` words, or
    that only say again what is in `before` or in an earlier clause. A clause that is `look` but for an article is
    written as the look is.
    """
    end = re.search(r"[.\n]|<\|im_end\|>", text)
    parts = text[: end.start()].split(",") if end else text.split(",")[:-1]
    said = [_words(clause) for clause in before]
    clauses = []
    for part in parts:
        clause = re.sub(r"^(and|with)\s+", "", part.strip(" ;-'`!?"), flags=re.IGNORECASE)
        words = _words(clause)
        if words == _words(look):
            clause = look
        elif not words or words in _EXAMPLE_CLAUSES or _CHATTER.search(clause):
            continue
        if len(clause.split()) > MOST_CLAUSE_WORDS or any(words <= other for other in said):
            continue
        said.append(words)
        clauses.append(clause)
    return clauses


def _words(clause: str) -> frozenset[str]:
    """What a clause says: its words without articles."""
    return frozenset(re.findall(r"[a-z]+", clause.lower())) - {"a", "an", "the", "one", "in"}


_EXAMPLE_CLAUSES = frozenset(_words(clause) for _, _, answer in EXAMPLES for clause in answer.split(","))
