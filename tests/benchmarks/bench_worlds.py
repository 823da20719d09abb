"""The ladder of reward models in simulated worlds at the size of a large study: does the stack lead, and by how much?

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_worlds.py --out worlds.jsonl [--truths linear,nonlinear]
        [--worlds 10] [--first 1] [--models population,eb_slopes,stack,mlp]

205 users, 5,077 images with 14 ratings each, 64 features (`tests/platform/taste/worlds.py`); accuracy of known people's
pairs of new images. The world's number seeds it and the models. A finished world is a line in `--out`; what is there
already is not done again, so a run that was stopped goes on, and several runs may write to one file. `eb_factors` and
`fusion` are the parts of the stack, not trained again. Everything runs on one thread; seconds are CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import UserError
from beholder.taste.base import Floats, Prediction, Ratings, TasteModel
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.lore import LoRe
from beholder.taste.mlp import MLP
from beholder.taste.models import Population, UserRidge
from beholder.taste.registry import taste_model
from beholder.taste.stack import convex_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "taste"))
from worlds import PARTS, TRUTHS, PaperWorld, Truth, pairwise_accuracy, paper_world

MODELS: dict[str, TasteModel] = {
    "population": Population(),
    "population_bias": Population(bias=True),
    "user_ridge": UserRidge(),
    "eb_slopes": EBSlopes(),
    "lore": LoRe(),
    "stack": taste_model("stack"),
    "mlp": MLP(),
}
PARTS_OF_STACK = ("eb_factors", "fusion")
SIMPLER = ("population", "population_bias", "user_ridge", "eb_slopes", "eb_factors", "lore", "mlp", "fusion")
ORACLES = ("crowd_oracle", "oracle")
Scores = dict[tuple[Truth, int], dict[str, float]]
"""Accuracy of each rung in each world."""


def measure(world: PaperWorld, seed: int, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy of each rung, CPU seconds of each training, weights of the stack."""
    test = world.test()
    rows = world.design.rows(test.image_id)
    accuracy = {
        "crowd_oracle": pairwise_accuracy(world.crowd(test), test),
        "oracle": pairwise_accuracy(world.truth(test), test),
    }
    seconds, about = {}, {}
    for name in names:
        start = time.process_time()
        fitted = MODELS[name].fit(world.training(), world.design, np.random.default_rng(seed), world.people)
        seconds[name] = round(time.process_time() - start, 1)
        found = fitted.predict(test.user_id, rows)
        accuracy[name] = pairwise_accuracy(found.mean, test)
        if name == "stack":
            each = np.stack([part.predict_mean(test.user_id, rows) for part in fitted.parts])  # type: ignore[attr-defined]
            about = about_stack(fitted.state().settings["settings"]["weights"], each, found, test)
            accuracy |= {r: pairwise_accuracy(mean, test) for r, mean in zip(PARTS_OF_STACK, each, strict=True)}
    return {"accuracy": accuracy, "seconds": seconds, **about}


def about_stack(weights: Mapping[str, float], each: Floats, found: Prediction, test: Ratings) -> dict[str, Any]:
    """Its weights, those that the test ratings would have chosen and their accuracy, and the SD of its z."""
    errors = each - test.score
    best = convex_weights(errors @ errors.T / len(test))
    z = (test.score - found.mean) / found.predictive_sd
    return {
        "weights": dict(weights),
        "best_weights": best.tolist(),
        "accuracy_of_best_weights": pairwise_accuracy(best @ each, test),
        "z_sd": float(z.std()),
    }


def finished(path: Path) -> list[dict[str, Any]]:
    """The lines of earlier runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, line: Mapping[str, Any]) -> None:
    """One line by one write, so that runs side by side do not mix theirs."""
    with open(path, "ab", buffering=0) as file:
        file.write((json.dumps(line) + "\n").encode())
        os.fsync(file.fileno())


def scores(lines: Sequence[Mapping[str, Any]]) -> Scores:
    """Every world's rungs, of all its lines."""
    found: Scores = defaultdict(dict)
    for line in lines:
        found[line["truth"], line["world"]] |= line["accuracy"]
    return found


def table(found: Scores, truth: Truth, worlds: Sequence[int]) -> str:
    """Means over worlds, and the stack less each rung with the standard error over worlds."""
    mine = {w: found[truth, w] for w in worlds if "stack" in found.get((truth, w), {})}
    noise = PARTS["noise"] / sum(PARTS.values())
    ceiling = 0.5 + np.arcsin(np.sqrt(1 - noise)) / np.pi  # of who knows all but the noise, for normal ratings
    lines = [f"{truth}: {len(mine)} worlds, ceiling {ceiling:.4f}", f"{'rung':16s}{'accuracy':>9s}  stack less rung"]
    for rung in (*SIMPLER, "stack", *ORACLES):
        both = [(one[rung], one["stack"]) for one in mine.values() if rung in one]
        if not both:
            continue
        each, stack = np.array(both).T
        lead = stack - each
        text = f"{rung:16s}{each.mean():9.4f}"
        if rung != "stack":
            error = lead.std(ddof=1) / np.sqrt(len(lead)) if len(lead) > 1 else np.nan
            text += f"  {lead.mean():+.4f} +- {error:.4f} ({len(lead)} worlds, {lead.min():+.4f} to {lead.max():+.4f})"
        lines.append(text)
    return "\n".join(lines)


def costs(lines: Sequence[Mapping[str, Any]]) -> str:
    """Mean CPU seconds of each training, mean weights and z of the stack."""
    seconds, z = defaultdict(list), [line["z_sd"] for line in lines if "z_sd" in line]
    weights = defaultdict(list)
    for line in lines:
        for name, spent in line["seconds"].items():
            seconds[name].append(spent)
        for name, weight in line.get("weights", {}).items():
            weights[line["truth"], name].append(weight)
    text = "CPU s: " + ", ".join(f"{name} {np.mean(s):.1f}" for name, s in seconds.items())
    text += "\nweights: " + ", ".join(
        f"{truth} {name} {np.mean(w):.2f}" for (truth, name), w in sorted(weights.items())
    )
    return text + (f"\nz SD of the stack: {min(z):.3f} to {max(z):.3f}" if z else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a finished world")
    parser.add_argument("--truths", default=",".join(TRUTHS))
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1, help="number of the first world")
    parser.add_argument("--models", default=",".join(MODELS), help=", ".join(MODELS))
    args = parser.parse_args(argv)
    truths, names = args.truths.split(","), args.models.split(",")
    for given, known in ((truths, TRUTHS), (names, tuple(MODELS))):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise UserError(", ".join(unknown), ", ".join(known))
    worlds = range(args.first, args.first + args.worlds)
    for world in worlds:
        for truth in truths:
            done = scores(finished(args.out))
            missing = [name for name in names if name not in done.get((truth, world), {})]
            if not missing:
                continue
            drawn = paper_world(truth, np.random.default_rng(world))
            line = {"truth": truth, "world": world, **measure(drawn, world, missing)}
            append(args.out, line)
            each = ", ".join(f"{rung} {a:.4f}" for rung, a in line["accuracy"].items())
            print(f"{truth}, world {world}: {each}; CPU s {line['seconds']}", flush=True)
    lines = finished(args.out)
    for truth in truths:
        print("\n" + table(scores(lines), truth, worlds))
    print("\n" + costs(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
