"""Prompt -> attributes: clauses, listed words and the sentence encoder's opinion, added up and saturated.

A listed word never decides alone: in a clause it is averaged with what the encoder hears in the whole clause, so a
word taken off the list moves the look by a bounded amount and mostly keeps its direction.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes.anchors import SUBJECT_ANCHORS
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS, Attributes
from beholder.models.generators.scenes.directions import TEMPLATE, Encode, fit
from beholder.models.generators.scenes.lexicon import AXIS_WORDS, MEDIA_WORDS, MODIFIERS, NEGATIONS, SUBJECT_NAMES

CACHE_SIZE = 4096
"""Clauses a reader remembers: a few hundred bytes each."""
WORD_PUSH = 0.75
"""What a listed word adds to its axis before tanh, beside half of the encoder's opinion of the clause."""
ENCODER_BESIDE_WORD = 0.5
FIRST_CLAUSE = 0.45
"""The first clause names the subject: what it says of the look counts this much."""
NAMED_MEDIUM = 1.6
MEDIUM_GAIN = 2.2
BASE_LOGITS = {"photo": 0.75, "watercolour": 0.22, "oil": 0.22, "ink": 0.15}
SOFTMAX_GAIN = 2.2
NAME_BONUS = 0.15
_ONLY_AFTER_A = frozenset(["bit", "touch", "hint", "little"])
_SPLIT = re.compile(r"[,;.:|()\[\]!?\n]+|\b(?:with|in the style of)\b|(?<!black) and ")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """What one clause asks for.

    Attributes
    ----------
    axes : np.ndarray
        Pushes before tanh, shape (8,).
    media : np.ndarray
        What is added to the media's logits, shape (4,).
    subjects : np.ndarray
        Cosine to the nearest anchor of each subject, plus a bonus for a named one, shape (12,).
    """

    axes: np.ndarray
    media: np.ndarray
    subjects: np.ndarray


class PromptReader:
    """Reads prompts into attributes. Making one encodes the anchor phrases, which takes seconds; reading is fast.

    Parameters
    ----------
    encode : callable
        Sentences to unit vectors, shape (n, width).
    words : mapping
        The listed words of each axis, high end and low end.
    """

    def __init__(self, encode: Encode, words: Mapping[str, tuple[frozenset[str], frozenset[str]]] = AXIS_WORDS) -> None:
        self._encode = encode
        self._directions = fit(encode)
        self._pushes = {
            word: (column, sign)
            for column, axis in enumerate(AXES)
            for sign, side in zip((1.0, -1.0), words[axis], strict=True)
            for word in side
        }
        phrases = [(k, phrase) for k, s in enumerate(SUBJECTS) for phrase in SUBJECT_ANCHORS[s]]
        self._subject_of = np.array([k for k, _ in phrases])
        self._subject_points = np.asarray(encode([phrase for _, phrase in phrases]), dtype=float)
        self._cache: OrderedDict[str, Clause] = OrderedDict()

    def read(self, prompt: str) -> Attributes:
        """The look `prompt` asks for, before a seed has moved it, rounded to three decimals.

        Parameters
        ----------
        prompt : str
            Any text. Clauses are parted by punctuation, "with", "and" and "in the style of". None: a neutral mountain.
        """
        clauses = [self._clause(text) for text in clauses_of(prompt)]
        if not clauses:
            return Attributes()
        share = np.ones(len(clauses))
        share[0] = FIRST_CLAUSE if len(clauses) > 1 else 0.7
        axes = np.tanh(sum(s * c.axes for s, c in zip(share, clauses, strict=True)))
        logits = np.array([BASE_LOGITS[m] for m in MEDIA]) + sum(c.media for c in clauses)
        weights = np.exp(SOFTMAX_GAIN * (logits - logits.max()))
        weights /= weights.sum()
        scores = clauses[0].subjects.copy()
        for later in clauses[1:3]:
            scores = np.maximum(scores, later.subjects - 0.10)
        values = {axis: _rounded(value) for axis, value in zip(AXES, axes, strict=True)}
        values |= {medium: _rounded(value) for medium, value in zip(MEDIA, weights, strict=True)}
        return Attributes(**values, subject=SUBJECTS[int(np.argmax(scores.round(3)))])

    def _clause(self, text: str) -> Clause:
        known = self._cache.get(text)
        if known is None:
            known = self._cache[text] = self._heard(text)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(text)
        return known

    def _heard(self, text: str) -> Clause:
        tokens = words_of(text)
        vectors = np.asarray(self._encode([TEMPLATE.format(text), text]), dtype=float)
        opinion, medium_opinion = (a[0] for a in self._directions.opinions(vectors[:1]))
        pushed = self._listed(tokens)
        axes = np.where(pushed == 0, opinion, pushed + ENCODER_BESIDE_WORD * opinion * (opinion * pushed > 0))
        named = np.array([bool(MEDIA_WORDS[m] & set(tokens)) for m in MEDIA])
        media = NAMED_MEDIUM * named if named.any() else MEDIUM_GAIN * _smoothstep(0.2, 0.8, medium_opinion)
        cosines = self._subject_points @ vectors[1]
        subjects = np.array([cosines[self._subject_of == k].max() for k in range(len(SUBJECTS))])
        for k, subject in enumerate(SUBJECTS):
            found = [n for n, word in enumerate(tokens) if word in SUBJECT_NAMES[subject]]
            subjects[k] += NAME_BONUS * 0.9 ** found[0] if found else 0.0
        return Clause(axes, media, subjects)

    def _listed(self, tokens: list[str]) -> np.ndarray:
        pushed, factor = np.zeros(len(AXES)), 1.0
        for before, word in zip(["", *tokens], tokens, strict=False):
            if word in NEGATIONS:
                factor *= NEGATIONS[word]
            elif word in MODIFIERS and (word not in _ONLY_AFTER_A or before == "a"):
                factor *= MODIFIERS[word]
            elif word in self._pushes:
                column, sign = self._pushes[word]
                pushed[column] += WORD_PUSH * sign * factor
        return pushed


def clauses_of(prompt: str) -> list[str]:
    """Clauses in order, lower case, without the signs and words that part them."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    return [clause for part in _SPLIT.split(text) if (clause := " ".join(part.split()))]


def words_of(clause: str) -> list[str]:
    """Words of a clause; a hyphenated one whole and, after it, its parts."""
    return [w for word in _WORD.findall(clause) for w in dict.fromkeys([word, *word.split("-")])]


def _smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _rounded(value: float) -> float:
    return round(float(value), 3) + 0.0 if math.isfinite(value) else 0.0
