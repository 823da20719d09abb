"""Plain words for the names that tables use, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping

CONDITIONS = {
    "own": "own",
    "other": "another person's",
    "population": "the population model's",
    "statistics": "the image-statistics score's",
    "unoptimised": "the unoptimised",
}
"""Whose picture it is, in the order in which conditions are shown; reads well before "picture"."""

MODELS = {
    "constant": "Constant",
    "user_mean": "Each person's mean",
    "population": "Population",
    "population_bias": "Population + person's level",
    "crowd": "Mean of other raters",
    "user_ridge": "Ridge for each person",
    "eb_population": "Its mean person (empirical Bayes)",
    "eb_slopes": "Personal (empirical Bayes)",
    "mlp": "Personal (network)",
    "stack": "Personal (stacked)",
    "fusion": "Personal (fusion)",
    "lore": "Personal (reward basis)",
    "factors": "Personal (factors)",
    "ideal_points": "Personal (ideal points)",
    "neighbours": "Most similar people",
    "neighbours_published": "Most similar people, as published",
    "mlp_single": "Personal (one network)",
    "fusion_light": "Personal (small fusion)",
    "oracle": "Knows the true taste",
}

SPLITS = {
    "seen": "known people, new images",
    "unseen": "new people, new images",
    "warm": "known people, rated images",
}

LEVELS = {"user": "for each person", "population": "for people on average"}

METRICS = {"accuracy": "pairs ordered right", "srocc": "rank correlation", "plcc": "linear correlation"}

NEWCOMERS = {
    "posterior": "Own model, images at random",
    "posterior_chosen": "Own model, images chosen",
    "neighbours": "Most similar people",
    "neighbours_published": "Most similar people, as published",
}
"""How somebody is predicted whom no model was trained on."""

INPUTS = {
    "no_user": "the person's own ratings",
    "no_text": "what the prompt says",
    "no_demographics": "demographics",
    "no_profiles": "what people write of themselves",
    "no_others": "other data sets",
}
"""What a variant of a model does without."""

FINDINGS = {
    "apart": "tells people apart",
    "drifted": "drifted to the average",
    "average": "average: tells nobody apart",
    "shrunken": "shrunken: says too little",
}
"""Of the check whether a model still knows one person from another."""

LASTING = {
    "gain_first": "on the first occasion",
    "gain_later": "on the later occasion",
    "change": "later less first",
    "share_kept": "share of the gain that is left",
}

STAGES = {
    "generate": "Generate images",
    "embed": "Embed images",
    "embed_text": "Embed prompts",
    "rewrite": "Rewrite prompts",
    "score": "Score images",
}


def named(words: Mapping[str, str], name: object) -> str:
    """The plain word, or the name itself where none is known (another scorer, another condition)."""
    return words.get(str(name), str(name))


def percent(share: float, digits: int = 1) -> str:
    """`53.9 %`, or a dash where the number is missing."""
    return "–" if _missing(share) else f"{100 * share:.{digits}f}\u00a0%"


def number(value: float, digits: int = 3) -> str:
    """`0.451`, or a dash where the number is missing."""
    return "–" if _missing(value) else f"{value:.{digits}f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points: `+6.9 points`."""
    return "–" if _missing(difference) else f"{100 * difference:+.1f}\u00a0points"


def interval(low: float, high: float, digits: int = 1) -> str:
    """`49.2 to 58.6 %`."""
    return (
        "no interval"
        if _missing(low) or _missing(high)
        else f"{100 * low:.{digits}f} to {100 * high:.{digits}f}\u00a0%"
    )


def points_between(low: float, high: float) -> str:
    """`+1.2 to +6.9 points`."""
    return "no interval" if _missing(low) or _missing(high) else f"{100 * low:+.1f} to {points(high)}"


def people_and_images(n_users: float, n_images: float) -> str:
    """`40 people, 160 images`."""
    return f"{count(n_users, 'person', 'people')}, {count(n_images, 'image')}"


def p_value(p: float) -> str:
    """`p = .034`, `p < .001`."""
    if _missing(p):
        return "no p value"
    return "p\u00a0<\u00a0.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.3f}".replace("0.", ".", 1)


def duration(seconds: float) -> str:
    """`4.2 s`, `3.5 min`, `1.2 h`, or a dash where the time is not known."""
    if _missing(seconds):
        return "–"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f}\u00a0h"
    return f"{seconds / 60:.1f}\u00a0min" if seconds >= 60 else f"{seconds:.1f}\u00a0s"


def count(n: float, singular: str, plural: str | None = None) -> str:
    """`1 image`, `2,400 images`."""
    return f"{int(n):,} {singular if n == 1 else plural or singular + 's'}"


def sentence_case(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
