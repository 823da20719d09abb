"""Raters with a known taste, for dry runs, power and tests: what they like, how they rate, how they vote."""

from beholder.simulate.pixels import PIXEL_MEASURES, pixel_measures
from beholder.simulate.ratings import assign, rate, slider, taste_truth
from beholder.simulate.votes import answer, vote, vote_probabilities
from beholder.simulate.world import PARTS, Raters, Settings, World, reference_scenes, scene_arrays

__all__ = [
    "PARTS",
    "PIXEL_MEASURES",
    "Raters",
    "Settings",
    "World",
    "answer",
    "assign",
    "pixel_measures",
    "rate",
    "reference_scenes",
    "scene_arrays",
    "slider",
    "taste_truth",
    "vote",
    "vote_probabilities",
]
