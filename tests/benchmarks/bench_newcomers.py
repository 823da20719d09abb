"""What N ratings of a newcomer are worth, drawn at random or chosen, on simulated worlds at the size of a large study.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_newcomers.py [--worlds 10]

164 people teach the empirical-Bayes model; 41 newcomers answer N images of a pool of 500, drawn at random or the
A-optimal set (the same for all), and their own ratings of about a thousand other images (some 70 each) are predicted.
Prints the share of pairs ordered right, mean over worlds, with one prior variance for all slopes and with factors, and
what five chosen images are worth against twenty random ones with the standard error over worlds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from beholder.taste.base import FittedModel, Floats, Ratings
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design
from beholder.taste.neighbours import Neighbours
from beholder.taste.onboarding import make_pool, onboarding_set
from beholder.taste.people import People

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "taste"))
from worlds import TRUTHS, PaperWorld, Truth, pairwise_accuracy, paper_world

SHOWN = (0, 1, 2, 5, 10, 15, 20, 25, 50)
POOL = 500
FACTORS = 6
METHODS = ("posterior", "posterior_chosen", "neighbours", "neighbours_published", "factors", "factors_chosen")


def joined(parts: list[Ratings]) -> Ratings:
    """One after the other."""
    return Ratings(
        *(np.concatenate([getattr(p, c) for p in parts]) for c in ("user_id", "image_id", "prompt_id", "score"))
    )


def measure(world: PaperWorld, seed: int) -> Floats:
    """Accuracy, shape (methods + 1, N); the last row is that of the truth itself."""
    rng = np.random.default_rng([seed, 7])
    training, test = world.training(), world.new_test()
    fitted = EBSlopes().fit(training, world.design, rng)
    factors = EBSlopes(factors=FACTORS).fit(training, world.design, rng)
    around = [Neighbours(centred=centred).around(fitted, training, world.design) for centred in (True, False)]
    images = rng.choice(world.training_images, POOL, replace=False)
    shown = Design(images, world.design.rows(images), world.design.block_names, world.design.block_sizes)
    target = world.design.rows(world.test_images)
    sets = []
    for model in (fitted, factors):
        pool = make_pool(shown, images, model.noise_sd**2 + model.image_sd**2)
        sets.append(np.array(onboarding_set(model.newcomer, pool, target, max(SHOWN)).image_ids))
    people, rows = People(world.new_users), world.design.rows(test.image_id)
    users = world.new_users.tolist()
    drawn = {u: world.answers(u, rng.choice(pool.image_ids, max(SHOWN), replace=False), rng) for u in users}
    asked = [{u: world.answers(u, chosen, rng) for u in users} for chosen in sets]
    found = np.empty((len(METHODS) + 1, len(SHOWN)))
    for column, n in enumerate(SHOWN):
        random, *best = (joined([answers[u].take(np.arange(n)) for u in users]) for answers in (drawn, *asked))
        models: list[FittedModel] = [fitted.adapt(random, world.design, people)]
        models.append(fitted.adapt(best[0], world.design, people))
        models += [model.adapt(random, world.design, people) for model in around]
        models += [factors.adapt(ratings, world.design, people) for ratings in (random, best[1])]
        found[:-1, column] = [pairwise_accuracy(m.predict_mean(test.user_id, rows), test) for m in models]
        found[-1, column] = pairwise_accuracy(world.truth(test), test)
    return found


def show(truth: Truth, each: Floats) -> None:
    """Print one truth; `each` has shape (worlds, methods + 1, N)."""
    print(f"{truth}, {len(each)} worlds" + "".join(f"{f'N={n}':>9}" for n in SHOWN))
    for name, row in zip((*METHODS, "truth"), each.mean(axis=0), strict=True):
        print(f"  {name:24}" + "".join(f"{value:9.4f}" for value in row))
    for random, best in (("posterior", "posterior_chosen"), ("factors", "factors_chosen")):
        gap = each[:, METHODS.index(best), SHOWN.index(5)] - each[:, METHODS.index(random), SHOWN.index(20)]
        error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
        told = f"{gap.mean():+.4f} (standard error {error:.4f}, worst world {gap.min():+.4f})"
        print(f"  {random}: 5 chosen less 20 at random {told}")


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=10)
    given = parser.parse_args()
    for truth in TRUTHS:
        started = time.process_time()
        each = [
            measure(paper_world(truth, np.random.default_rng([seed, TRUTHS.index(truth)])), seed)
            for seed in range(given.worlds)
        ]
        show(truth, np.array(each))
        print(f"  {time.process_time() - started:.0f} s CPU", flush=True)


if __name__ == "__main__":
    main()
