"""Prompt -> attributes: what listed words and the sentence encoder hear in each clause, added up and saturated.

No word decides alone. A listed word adds to the encoder's opinion of its whole clause, so that its neighbours in
meaning move the look the same way, and a word taken off the list is still heard by the encoder.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes import anchor_vectors
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS, Attributes
from beholder.models.generators.scenes.directions import TEMPLATE, Encode
from beholder.models.generators.scenes.lexicon import AXIS_WORDS, MEDIA_WORDS, MODIFIERS, NEGATIONS, SUBJECT_NAMES

CACHE_SIZE = 4096
"""Clauses a reader remembers, at some 500 bytes each."""
WORD_PUSH = 0.55
"""What a listed word adds to the encoder's opinion of its axis, before tanh."""
MOST_PUSH = 1.3
"""One clause moves an axis by less than this, so that a later clause can still answer."""
FIRST_CLAUSE = 0.5
"""The first clause names the subject: what the encoder hears of the look in it counts this much."""
BASE_LOGITS = {"photo": 0.75, "watercolour": 0.22, "oil": 0.22, "ink": 0.15}
"""The media's logits when no clause speaks of a medium."""
MEDIUM_LOGIT = 1.6
"""The logit of a medium that is asked for; the others' is then 0."""
MEDIUM_GAIN = 2.2
MEDIUM_HEARD = (0.15, 0.5)
"""The encoder's opinion of a medium counts from the first of these on and in full from the second."""
NAMED_MEDIUM = 0.75
"""A named medium is at least this much asked for, whatever the encoder says."""
NAMED_SUBJECT = 0.3
LATER_SUBJECT = 0.15
"""Lead of the first clause when the two after it name other subjects."""
DOUBT = 0.25
"""Opinions on the words after a modifier count from here on: fragments are heard less well than clauses."""
_ARTICLE_FIRST = frozenset(["bit", "touch", "hint", "little"])
_TURNS = frozenset(("but", "yet"))
"""Words that end what a modifier before them reaches."""
_PART = re.compile(r"[,;.:|()\[\]!?\n]+|\bwith\b|\bin the style of\b")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """What one clause asks for.

    Attributes
    ----------
    listed, heard : np.ndarray
        Pushes on the axes before tanh by the listed words and by the encoder, shape (8,).
    media : np.ndarray
        How much each medium is asked for, 0 to 1, shape (4,).
    subjects : np.ndarray
        How much it speaks of each subject, about 0 to 1.3, shape (12,).
    """

    listed: np.ndarray
    heard: np.ndarray
    media: np.ndarray
    subjects: np.ndarray

    def push(self, share: float) -> np.ndarray:
        """Both pushes together, the encoder's at `share`, saturated at MOST_PUSH."""
        return np.asarray(MOST_PUSH * np.tanh((self.listed + share * self.heard) / MOST_PUSH))


class PromptReader:
    """Reads prompts into attributes.

    Parameters
    ----------
    encode : callable
        Sentences to unit vectors, shape (n, width), each independent of the others.
    words : mapping
        axis: (words of its high end, words of its low end).
    """

    def __init__(self, encode: Encode, words: Mapping[str, tuple[frozenset[str], frozenset[str]]] = AXIS_WORDS) -> None:
        self._encode = encode
        self._directions = anchor_vectors.directions(encode)
        self._pushes = {
            word: (column, sign)
            for column, axis in enumerate(AXES)
            for sign, side in zip((1.0, -1.0), words[axis], strict=True)
            for word in side
        }
        self._cache: OrderedDict[str, Clause] = OrderedDict()

    def read(self, prompt: str) -> Attributes:
        """The look `prompt` asks for, before a seed has moved it, rounded to three decimals.

        The rounding keeps the last bits of the encoder, which differ between machines, from the pixels.

        Parameters
        ----------
        prompt : str
            Any text. Clauses are parted by punctuation, "with" and "in the style of". Without any: a neutral mountain.
        """
        clauses = [self._clause(text) for text in clauses_of(prompt)]
        if not clauses:
            return Attributes()
        first, *later = clauses
        axes = np.tanh(np.sum([first.push(FIRST_CLAUSE), *(clause.push(1.0) for clause in later)], axis=0))
        media = _media_weights(np.max([clause.media for clause in clauses], axis=0))
        subjects = np.max([first.subjects, *(clause.subjects - LATER_SUBJECT for clause in later[:2])], axis=0)
        names, values = AXES + MEDIA, np.concatenate([axes, media])
        return Attributes(
            **{name: round(float(value), 3) + 0.0 for name, value in zip(names, values, strict=True)},  # no -0.0
            subject=SUBJECTS[int(np.argmax(subjects.round(3)))],
        )

    def _clause(self, text: str) -> Clause:
        if text in self._cache:
            self._cache.move_to_end(text)
        else:
            self._cache[text] = self._listen(text)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return self._cache[text]

    def _listen(self, text: str) -> Clause:
        tokens = words_of(text)
        heard, media, subjects = self._opinions(text)
        factor, rest = _modified(tokens)
        if factor != 1.0 and rest:
            # The encoder hears "not bright" as bright: take what follows the modifier out and put `factor` of it in.
            said = self._opinions(" ".join(rest))[0]
            heard = heard - (1.0 - factor) * np.sign(said) * np.maximum(np.abs(said) - DOUBT, 0.0)
        low, high = MEDIUM_HEARD
        ramp = np.clip((media - low) / (high - low), 0.0, 1.0)
        media = ramp * ramp * (3.0 - 2.0 * ramp)
        named = np.array([not MEDIA_WORDS[medium].isdisjoint(tokens) for medium in MEDIA])
        if named.any():
            media = np.where(named, np.maximum(media, NAMED_MEDIUM), 0.0)
        for k, subject in enumerate(SUBJECTS):
            places = [n for n, word in enumerate(tokens) if word in SUBJECT_NAMES[subject]]
            if places:
                subjects[k] += NAMED_SUBJECT * 0.9 ** places[0]
        return Clause(self._listed(tokens), heard, media, subjects)

    def _opinions(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        axes, media, subjects = self._directions.opinions(self._encode([TEMPLATE.format(text)]))
        return axes[0], media[0], subjects[0]

    def _listed(self, tokens: list[str]) -> np.ndarray:
        pushed, factor, before = np.zeros(len(AXES)), 1.0, ""
        for word in tokens:
            if word in _TURNS:
                factor = 1.0
            factor *= _factor(word, before)
            if word in self._pushes:
                column, sign = self._pushes[word]
                pushed[column] += WORD_PUSH * sign * factor
            before = word
        return pushed


def clauses_of(prompt: str) -> list[str]:
    """Clauses in order, lower case, without the signs and words that part them."""
    text = unicodedata.normalize("NFKC", prompt).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower()
    return [clause for part in _PART.split(text) if (clause := " ".join(part.split()))]


def words_of(clause: str) -> list[str]:
    """Words of a clause, hyphens and apostrophes kept."""
    return _WORD.findall(clause)


def _factor(word: str, before: str) -> float:
    """What a word makes of those after it."""
    if word in _ARTICLE_FIRST and before != "a":
        return 1.0
    return NEGATIONS.get(word, MODIFIERS.get(word, 1.0))


def _modified(tokens: list[str]) -> tuple[float, list[str]]:
    """Product of the modifiers and negations before the first "but", and the words after the last of them."""
    end = next((n for n, word in enumerate(tokens) if word in _TURNS), len(tokens))
    factors = [_factor(word, before) for before, word in zip(["", *tokens], tokens[:end], strict=False)]
    last = max((n for n, factor in enumerate(factors) if factor != 1.0), default=-1)
    return float(np.prod(factors)), tokens[last + 1 : end]


def _media_weights(asked: np.ndarray) -> np.ndarray:
    """Softmax weights of the media, from the base to those asked for as the largest of `asked` goes from 0 to 1."""
    base = np.array([BASE_LOGITS[medium] for medium in MEDIA])
    logits = MEDIUM_GAIN * ((1.0 - asked.max()) * base + MEDIUM_LOGIT * asked)
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())
