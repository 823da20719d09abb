"""How to read each section of a report: one paragraph below its heading."""

from __future__ import annotations

READ = {
    "contrasts": (
        "Share of trials in which the first condition was chosen; a tie counts one half. Thick bars are each "
        "contrast's own interval, thin ones hold for all contrasts together. Claims rest on Holm's p. The "
        "naive test takes every vote as independent of all others; it is shown so that the difference can be "
        "seen, and finds effects where there are none in far more than one study in twenty."
    ),
    "per_protocol": "The same contrasts without the participants whom the plan's rules leave out.",
    "yoked": (
        "Two people judge the same two images, one made for each of them. The effect is 0 when one image is "
        "simply better, and 1 when both always choose their own."
    ),
    "ranking": (
        "Strength of every condition on one scale, with ties as an outcome of their own. Where groups of "
        "people have opposite tastes the mean strength is nobody's preference: the win rates above come "
        "first."
    ),
    "ranking_sensitivity": "The same votes under another model of ties; the order should not hang on the choice.",
    "logistic": (
        "The same comparisons by another model: effects of people and prompts are normal on the logit, ties are left "
        "out. Log odds speak of a median person and prompt; the win rate beside them is the mean over both. It should "
        "agree with the win rates above in direction and roughly in p."
    ),
    "monitoring": (
        "What somebody would have known who looked after every participant. The sequence and the e-value hold "
        "however often one looks, for these prompts; each contrast has its share of the error rate. Where a study "
        "stopped early, this is its headline, and the intervals above are not adjusted for the stopping."
    ),
    "order_effects": (
        "What the left side gains, how answers change from the first to the last third of a session, and whether "
        "people repeat or avoid the side they chose last. None of them is taste."
    ),
    "consistency": (
        "T2 is above 0 when images steered for one person share a style across different prompts. Only pairs "
        "of different prompts enter, so what a prompt shows cannot create it. T1 says whether runs of the "
        "search repeat themselves."
    ),
    "accuracy": "Pairs of images that a model orders as the person rated them; mean over persons, never pooled.",
    "accuracy_population": "The same for the average rating of each image.",
    "ladder": (
        "Reward models from the simplest up, each with its interval; the ceiling is what noise in the ratings allows."
    ),
    "differences": "Differences of two models on identical pairs; only these decide which one is better.",
    "tie_curve": (
        "Accuracy rises with the margin for every model that has any skill. Dashed is what constant skill "
        "would give: only a curve that leaves it upwards shows more skill on clear pairs."
    ),
    "disagreement": (
        "Pairs of images on which two people disagree. A model that tells everybody the same is right about "
        "exactly one of them: accuracy one half. What lies above is personal."
    ),
    "planted": (
        "People are simulated, so the true probability of every answer is known. Planted is the win rate of "
        "this study's trials under these; the interval speaks for new people and prompts and should hold it."
    ),
}
"""Section -> paragraph; a section that is not here needs none."""
