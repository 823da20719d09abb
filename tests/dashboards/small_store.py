"""A small study from prompts to claims in a store, with simulated people and the real analysis; no engine, no networks.

Models see the true taste through noise, and the search is an ordinary one over made-up rewrites, so that tables have
the columns, sizes and oddities that the jobs give them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import small_models
from PIL import Image

from analysis.accuracy import accuracy
from analysis.consistency import steering_consistency
from analysis.contrasts import planned_contrasts
from analysis.disagreement import disagreement
from analysis.ranking import rank_conditions
from analysis.tie_curve import tie_curve
from beholder.engine.inprocess import InProcess
from beholder.engine.meter import Reading
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.engine.runlog import RunLog
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS, Attributes
from beholder.models.generators.scenes.render import paint
from beholder.plans import Plan
from beholder.records import key_of
from beholder.runs import Context
from beholder.simulate import Raters, Settings, World, answer, assign, rate, reference_scenes, scene_arrays, taste_truth
from beholder.steering import outcome, search
from beholder.steering.judges import POPULATION, STATISTICS, own
from beholder.store import Store
from beholder.study.design import StudyDesign, plan_trials
from beholder.taste.report import prediction_errors, sd_calibration

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
PAGES = ("overview", "ladder", "adds", "newcomers", "steering", "taste", "study", "checks", "health")
"""Pages of the app in the order of its menu."""
CONDITIONS = ("other", "population", "statistics", "unoptimised")
PHRASES = {
    "at first light": ("bright", 0.7),
    "under a low, heavy sky": ("bright", -0.7),
    "in warm evening sun": ("warm", 0.8),
    "in cold blue shade": ("warm", -0.8),
    "in strong, clear colours": ("vivid", 0.8),
    "seen from close by": ("close", 0.8),
    "soft and hazy": ("soft", 0.8),
    "with rough brushwork": ("rough", 0.8),
    "full of small things": ("busy", 0.8),
}


@dataclass(frozen=True)
class Size:
    """How large the study is; the default is as small as the analysis allows."""

    raters: int = 16
    prompts: int = 20
    per_image: int = 10
    steered: int = 6
    steered_prompts: int = 6
    trials: int = 16
    pixels: int = 32
    painted: bool = False
    """Whether pictures are scenes; else each is one colour, which takes no time."""
    permutations: int = 199
    seed: int = 5


def make_store(folder: Path, size: Size) -> Store:
    """The whole study, with records and ledger."""
    store = Store(folder)
    plan = Plan(name="small", seed=size.seed)
    context = Context(plan, store, Engine(store, InProcess(store), Quiet()), Quiet(), "models")
    world = World(size.seed, Settings())
    raters = world.raters(size.raters)
    with RunLog(store, "demo-000000000001", "demo", plan.hash, Quiet()) as log:
        with log.step("Generate images"):
            images = _rated(context, world, raters, size)
        with log.stage("Embed images", len(images), 5, 0) as advance:
            advance(20, 0, Reading(("node:1", "node:2"), 30.0, 40.0, 2.0, 15, 0.5))
            advance(len(images) - 26, 1, Reading(("node:1", "node:2"), 45.0, 60.0, 2.0, 0, 0.75))
        with log.step("Evaluate reward models"):
            _evaluated(context, size)
            for name, table in small_models.tables(context).items():
                context.save(name, table, ["predictions", "ratings"])
            small_models.decide(context)
        with log.step("Blind study"):
            _study(context, world, raters, size)
    _ledger(store, images)
    return store


def _rated(context: Context, world: World, raters: Raters, size: Size) -> pd.DataFrame:
    rng = np.random.default_rng([size.seed, 1])
    scene, subject = reference_scenes(size.prompts, rng, world.settings)
    looks = [_look(row, SUBJECTS[code]) for row, code in zip(scene, subject, strict=True)]
    named = [f"a {look.subject.replace('_', ' ')} {k + 1} in {_medium(look)}" for k, look in enumerate(looks)]
    prompts = pd.DataFrame({"prompt": named}).assign(prompt_id=[f"p{k:02d}" for k in range(size.prompts)], role="rated")
    rows = [_drawn(context.store, looks[k], seed, f"p{k:02d}", size) for k in range(size.prompts) for seed in (1, 2)]
    images = pd.DataFrame(rows).assign(role="rated")
    parts = _parts(world, raters, images, rng)
    shown = assign(size.raters, len(images), size.per_image, rng)
    ratings = rate(raters, _sum(parts), shown, list(images["image_id"]), list(images["prompt_id"]), rng)
    context.save("prompts", prompts)
    context.save("images", images, ["prompts"])
    context.save("ratings", ratings, ["images"])
    context.save("truth_ratings", taste_truth(raters, parts, list(images["image_id"])), ["images"])
    return images


def _evaluated(context: Context, size: Size) -> None:
    """Models that see the truth through noise: what they get right is real, and so are the intervals."""
    rng = np.random.default_rng([size.seed, 2])
    truth, ratings = context.load("truth_ratings"), context.load("ratings")
    error = rng.standard_normal((3, len(truth)))
    shared = truth["shared"] + 0.4 * error[0]
    level = truth["user_id"].map(ratings.groupby("user_id")["score"].mean())
    scores = {
        "constant": 500.0 + 0 * shared, "user_mean": level, "population": 500 + 170 * shared,
        "population_bias": level + 170 * shared, "eb_slopes": level + 120 * (truth["utility"] + 0.9 * error[1]),
    }  # fmt: skip
    frames = [
        truth[["user_id", "image_id"]].assign(model=model, score=score + blur * error[2], sd=150.0, split=split)
        for split, blur in (("seen", 0.0), ("unseen", 30.0))
        for model, score in scores.items()
    ]
    dense = pd.concat(frames, ignore_index=True)
    dense.loc[dense["model"] == "constant", "score"] = 500.0
    predictions = dense.merge(ratings[["user_id", "image_id"]].drop_duplicates(), on=["user_id", "image_id"])
    tables = _judged(predictions.assign(fold_score=predictions["score"]), dense, ratings, size, rng)
    context.save("predictions", predictions, ["ratings"])
    for name, table in tables.items():
        context.save(name, table, ["predictions", "ratings"])


def _judged(
    predictions: pd.DataFrame, dense: pd.DataFrame, ratings: pd.DataFrame, size: Size, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    levels = [accuracy(predictions, ratings, level=level) for level in ("user", "population")]
    errors = prediction_errors(predictions, ratings).merge(sd_calibration(predictions, ratings, 0.95))
    rungs = [levels[0].to_frame().merge(errors, on=["model", "split"]), levels[1].to_frame()]
    curve = tie_curve(predictions, ratings, tuple(range(0, 401, 50)), rng=rng)
    diverging = [
        disagreement(dense, ratings, rng=rng, margin=m, draws=size.permutations).to_frame().assign(margin=m)
        for m in (0, 250)
    ]
    return {
        "ladder": pd.concat(rungs, ignore_index=True),
        "differences": pd.DataFrame([vars(d) for found in levels for d in found.differences]),
        "tie_curve": curve.to_frame(),
        "disagreement": pd.concat(diverging, ignore_index=True),
    }


def _study(context: Context, world: World, raters: Raters, size: Size) -> None:
    rng = np.random.default_rng([size.seed, 3])
    for name, table in _searched(context, world, raters, size).items():
        context.save(name, table, ["prompts"])
    shown = context.load("steered_images")
    people = list(raters.ids[: size.steered])
    prompts = sorted(shown["prompt_id"].unique())
    trials = plan_trials(shown, people, prompts, StudyDesign(size.trials, "own", CONDITIONS, repeats=2), rng)
    each = shown.drop_duplicates("image_id")
    truth = _sum(_parts(world, raters, each, np.random.default_rng([size.seed, 4])))
    votes, truth_votes = answer(trials, raters, truth, list(each["image_id"]), rng)
    context.save("trials", trials, ["steered_images"])
    context.save("votes", votes, ["steered_images"])
    context.save("truth_votes", truth_votes, ["steered_images"])
    contrasts = planned_contrasts(votes, [("own", name) for name in CONDITIONS], rng=rng).to_frame()
    context.save("contrasts", contrasts, ["votes"])
    context.save("ranking", rank_conditions(votes).to_frame(), ["votes"])
    recovered = contrasts.rename(columns={"estimate": "found"})
    planted = _planted(votes, truth_votes)
    rows = [
        {"quantity": f"win rate of own over {r.against}", "planted": planted[r.against], "estimate": r.found,
         "ci_low": r.ci_low, "ci_high": r.ci_high}
        for r in recovered.itertuples()
    ]  # fmt: skip
    context.save("recovered", pd.DataFrame(rows), ["votes", "truth_votes"])
    steered = context.load("steered")
    context.save("consistency", steering_consistency(steered, rng=rng, condition="own").to_frame(), ["steered"])


def _searched(context: Context, world: World, raters: Raters, size: Size) -> dict[str, pd.DataFrame]:
    """A real search whose rewrites add phrases and whose judges are the true tastes in ticks."""
    prompts = context.load("prompts").head(size.steered_prompts)
    base = dict(zip(prompts["prompt"], prompts["prompt_id"], strict=True))
    people = list(raters.ids[: size.steered])
    judges = [*map(own, people), POPULATION, STATISTICS]
    searches = [search.Search(j, i, p, run) for j in judges for p, i in base.items() for run in (1, 2)]
    rows = {own(name): k for k, name in enumerate(raters.ids)}

    def judged(shots: Sequence[outcome.Shot]) -> dict[str, dict[outcome.Shot, float]]:
        scene, subject = scene_arrays([_asked(shot.prompt).jittered(shot.seed).to_record() for shot in shots])
        parts = raters.parts(
            scene, subject, world.pixel_map.draw(scene, subject, np.random.default_rng([size.seed, 6]))
        )
        noise = np.random.default_rng([size.seed, 7]).standard_normal(len(shots))
        total = _sum(parts)
        every = {j: 500 + 170 * total[rows[j]] for j in judges if j in rows}
        every |= {POPULATION: 500 + 170 * parts["shared"][0], STATISTICS: noise}
        return {judge: dict(zip(shots, scores.tolist(), strict=True)) for judge, scores in every.items()}

    def score(requests: Sequence[search.ScoreRequest]) -> np.ndarray:
        known = judged(list(dict.fromkeys(outcome.Shot(r.prompt, r.seed) for r in requests)))
        return np.array([known[r.judge][outcome.Shot(r.prompt, r.seed)] for r in requests])

    settings = search.Settings(rounds=3, candidates=4, seeds=2, seed=size.seed)
    trace = search.run_searches(searches, lambda requests: [_rewritten(r) for r in requests], score, settings)
    ends = search.winners(trace)
    seeds = {i: search.image_seeds(settings, i, "heldout", 2) for i in base.values()}
    shots = outcome.heldout_shots(ends, seeds)
    first = {shot for shot in shots if shot.seed in {drawn[0] for drawn in seeds.values()}}
    images = {shot: _steered_image(context.store, shot, size) for shot in shots if shot in first}
    heldout = outcome.Heldout(seeds, images, judged(shots))
    looks = {str(image["image_id"]): outcome.scene_vector(image["scene"]) for image in images.values()}
    return {
        "search_trace": outcome.trace_table(trace),
        "steered_images": outcome.images_table(ends, heldout),
        "steered": outcome.steered_table(ends, heldout, looks),
        "steering_gains": outcome.gains_table(trace, ends, heldout),
        "steering_rewards": outcome.rewards_table(ends, people, heldout),
    }


def _steered_image(store: Store, shot: outcome.Shot, size: Size) -> dict[str, object]:
    made = _drawn(store, _asked(shot.prompt), shot.seed, shot.prompt, size)
    return made | {
        "prompt": shot.prompt,
        "generator": "scenes",
        "width": size.pixels,
        "height": size.pixels,
        "sha256": "",
    }


def _rewritten(request: search.RewriteRequest) -> list[str]:
    added = np.random.default_rng(request.seed).choice(list(PHRASES), request.n)
    return [f"{request.prompt}, {phrase}" for phrase in added]


def _planted(votes: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    both = votes[votes["kind"] == "main"].merge(truth, on="trial_id")
    left = both["left_condition"] == "own"
    against = both["right_condition"].where(left, both["left_condition"])
    win = both["p_left"].where(left, both["p_right"]) + both["p_tie"] / 2
    return {str(name): float(value) for name, value in win.groupby(against).mean().items()}


def _ledger(store: Store, images: pd.DataFrame) -> None:
    """Two stages: one clean, one with an item that failed, one that needed a second try, and a line cut off."""
    common = {"versions": "beholder 0.1.0, avx2", "worker": "node:1", "error": None, "attempt": 1, "seconds": 0.25}
    rows = [
        common | {"key": key_of(["generate", i]), "status": "ok", "written_at": _time(0, k)}
        for k, i in enumerate(images["image_id"])
    ]
    writer = store.ledger_writer("generate")
    writer.put(rows)
    writer.close()
    embed = [row | {"key": key_of(["embed", row["key"]]), "written_at": _time(2, k)} for k, row in enumerate(rows)]
    lost = {"status": "failed", "error": "OSError: image file is truncated"}
    writer = store.ledger_writer("embed")
    writer.put([embed[0] | lost, embed[1] | lost, *embed[2:]])
    writer.put([embed[0] | {"attempt": 2, "worker": "node:2"}, embed[1] | lost | {"attempt": 2, "worker": "node:2"}])
    writer.close()


def _time(minute: int, second: int) -> str:
    return f"2026-01-01T00:{minute:02d}:{second % 60:02d}.0+00:00"


def _drawn(store: Store, look: Attributes, seed: int, prompt_id: str, size: Size, salt: str = "") -> dict[str, object]:
    key = key_of([prompt_id, seed, look.to_record(), salt])
    buffer = io.BytesIO()
    picture = paint(look, seed, size.pixels) if size.painted else _plain(key, size.pixels)
    Image.fromarray(picture).save(buffer, "PNG")
    path = store.put_image(key, buffer.getvalue())
    made = {"image_id": key[:16], "prompt_id": prompt_id, "path": path, "seed": seed}
    return made | {"scene": look.jittered(seed).to_record()}


def _plain(key: str, pixels: int) -> np.ndarray:
    return np.full((pixels, pixels, 3), list(bytes.fromhex(key[:6])), dtype=np.uint8)


def _parts(world: World, raters: Raters, images: pd.DataFrame, rng: np.random.Generator) -> dict[str, np.ndarray]:
    scene, subject = scene_arrays(images["scene"])
    return raters.parts(scene, subject, world.pixel_map.draw(scene, subject, rng))


def _sum(parts: dict[str, np.ndarray]) -> np.ndarray:
    total: np.ndarray = np.sum(list(parts.values()), axis=0)
    return total


def _look(row: np.ndarray, subject: str) -> Attributes:
    return Attributes(**{n: round(float(v), 3) for n, v in zip(AXES + MEDIA, row, strict=True)}, subject=subject)


def _medium(look: Attributes) -> str:
    return max(MEDIA, key=lambda name: getattr(look, name))


def _asked(prompt: str) -> Attributes:
    """What a prompt of this study asks for: its subject and medium, and a push an added phrase."""
    first, *phrases = prompt.split(", ", 1)
    subject, _, _, medium = first.removeprefix("a ").rsplit(" ", 3)
    pushes = dict.fromkeys(AXES, 0.0)
    for phrase, (axis, push) in PHRASES.items():
        pushes[axis] += push * (phrases[0].count(phrase) if phrases else 0)
    axes = {name: float(np.tanh(value)) for name, value in pushes.items()}
    return Attributes(**axes, **{name: float(name == medium) for name in MEDIA}, subject=subject.replace(" ", "_"))
