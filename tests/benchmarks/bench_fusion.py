"""Networks of taste at the size of a large study: accuracy, seconds to train, pairs scored a second, peak memory.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_fusion.py [--truth nonlinear] [--models mlp,fusion] [--seed 1]

205 users, 5,077 images with 14 ratings each, 64 features (`tests/platform/taste/worlds.py`); a fifth of the users and a
fifth of the images are kept for testing. Everything runs on one thread, so CPU seconds are what one core needs; members
of an ensemble can be trained side by side. Peak memory is that of the process so far, the world included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from beholder.taste.base import TasteModel
from beholder.taste.eb_sized import SizedSlopes
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.fusion import LIGHT, Fusion
from beholder.taste.mlp import MLP
from beholder.taste.models import Population
from beholder.taste.registry import taste_model
from beholder.taste.stack import Stack

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "taste"))
from worlds import PaperWorld, Truth, pairwise_accuracy, paper_world

MODELS: dict[str, TasteModel] = {
    "population": Population(),
    "eb_slopes": EBSlopes(),
    "eb_factors": SizedSlopes(),
    "mlp": MLP(),
    "fusion": Fusion(),
    "fusion_light": Fusion(LIGHT),
    "stack": taste_model("stack"),
    "stack_mlp": Stack((SizedSlopes(), MLP())),
}


def measure(name: str, model: TasteModel, world: PaperWorld, seed: int) -> None:
    """Train one model and print a line of figures."""
    start, clock = time.process_time(), time.perf_counter()
    fitted = model.fit(world.training(), world.design, np.random.default_rng(seed), world.people)
    trained, waited = time.process_time() - start, time.perf_counter() - clock
    test = world.test()
    start = time.process_time()
    found = fitted.predict(test.user_id, world.design.rows(test.image_id))
    rate = len(test) / (time.process_time() - start)
    z = float(np.std((test.score - found.mean) / found.predictive_sd))
    new = world.new_test()
    start = time.process_time()
    grown = fitted.adapt(world.context(15, np.random.default_rng(seed)), world.design, world.people.of(world.new_users))
    adapted = time.process_time() - start
    newcomers = grown.predict(new.user_id, world.design.rows(new.image_id))
    z_new = float(np.std((new.score - newcomers.mean) / newcomers.predictive_sd))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:14s} accuracy {pairwise_accuracy(found.mean, test):.4f}  z SD {z:.3f}"
        f"  new at 15 {pairwise_accuracy(newcomers.mean, new):.4f}  z SD {z_new:.3f}"
        f"  fit {trained:6.1f} CPU s ({waited:.0f} s)  adapt {adapted:.1f} s  {rate:9.0f} pairs/s  peak {peak:.0f} MiB",
        flush=True,
    )
    for part in getattr(fitted, "parts", ()):
        alone = part.predict_mean(test.user_id, world.design.rows(test.image_id))
        print(f"    {part.name} in it: accuracy {pairwise_accuracy(alone, test):.4f}", flush=True)
    settings = fitted.state().settings["settings"]
    shown = ("validation_losses", "best_epochs", "weights", "held_out_rmse", "held_out_rmse_stack")
    print("   ", {key: settings[key] for key in shown if key in settings}, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", choices=get_args(Truth), default="nonlinear")
    parser.add_argument("--models", default="population,eb_slopes,mlp,fusion,stack", help=", ".join(MODELS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--told", type=float, default=0.0, help="share of private taste that demographics tell")
    args = parser.parse_args(argv)
    world = paper_world(args.truth, np.random.default_rng(args.seed), told=args.told)
    test = world.test()
    print(f"{args.truth}, world {args.seed}: {len(world.training())} ratings to train on, {len(test)} to test on")
    print(f"oracle {pairwise_accuracy(world.truth(test), test):.4f}, ", end="")
    print(f"oracle of the crowd {pairwise_accuracy(world.crowd(test), test):.4f}", flush=True)
    for name in args.models.split(","):
        measure(name, MODELS[name], world, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
