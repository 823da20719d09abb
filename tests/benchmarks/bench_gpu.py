"""What a GPU does under the engine: pictures, vectors and scores a second, the card's busy share, bytes, and training.

    python tests/benchmarks/bench_gpu.py [flux encoder scorer fusion] [--layers 6,12] [--images 16] [--out FILE]
    python tests/benchmarks/bench_gpu.py --tiny            # the same with toy networks on the CPU, in a minute

Networks have random weights and published sizes (`gpu_models.py`); they are built first, on disk, and nothing is
fetched. FLUX.1 takes 34 GB of disk and of the card at full size; `--layers DOUBLE,SINGLE` builds fewer of its layers
(and as many of the scorer's as the first), the figures then say so.

* `flux`: the stage `generate` of the engine (in-process, so one card) beside a loop by hand that calls the same
  pipeline and saves its pictures; whether bytes are the same in another order of the batch, and how far pictures drawn
  in other batch sizes are from them.
* `encoder`: the stage `embed` with SigLIP 2 so400m, and the network alone on prepared pictures.
* `scorer`: one forward pass a picture (256 picture tokens, 300 of text) of the network under HPSv3, with a reward head.
  HPSv3's own package lies in its own environment and is not run here.
* `fusion`: one member of the fusion predictor on a CPU thread and on the card, and how far their losses are apart.

The busy share is nvidia-smi's "utilization": the share of time in which any kernel ran. No figures of a card were taken
with this file yet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beholder.engine.inprocess import InProcess
from beholder.engine.memory import release
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.diffusers_stage import GenerateDiffusers
from beholder.models.encode_stages import EncodeImages
from beholder.models.encoders.towers import ImageEncoder, TowerSettings
from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings
from beholder.models.interfaces import Needs
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "taste"))

PROMPTS = ("a lake in the mist", "an old stone bridge", "pears on a table", "a mill by the river", "fog", "two boats")
PICTURE_TOKENS, TEXT_TOKENS = 256, 300
Figures = dict[str, Any]


class Busy:
    """The card's busy share while a block runs, by nvidia-smi five times a second; NaN without one."""

    def __init__(self, device: str) -> None:
        self.share, self._device = float("nan"), device

    def __enter__(self) -> Busy:
        self._seen: list[float] = []
        if self._device == "cuda":
            command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._read)
            self._thread.start()
        return self

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if line.strip().isdigit():
                self._seen.append(float(line))

    def __exit__(self, *error: object) -> None:
        if self._device == "cuda":
            self._process.terminate()
            self._thread.join()
            self._process.wait()
        self.share = float(np.mean(self._seen)) / 100 if self._seen else float("nan")


def timed(device: str, work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds until the card has done all of it, and its busy share."""
    import torch

    with Busy(device) as busy:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds, busy.share


def requests(count: int) -> list[dict[str, Any]]:
    """Prompts and seeds."""
    return [{"prompt": PROMPTS[i % len(PROMPTS)], "seed": 100 + i} for i in range(count)]


def bench_flux(args: argparse.Namespace, folder: Path) -> Figures:
    """The engine's stage beside a loop by hand, then bytes."""
    settings = flux_settings(args, folder)
    items, size = requests(settings.batch_size + args.images), settings.batch_size
    store = Store(folder / "store")
    stage = GenerateDiffusers(settings, Needs(memory_gb=1))
    with Engine(store, InProcess(store), Quiet()) as engine:
        engine.run(stage, items[:size])
        seconds, busy = timed(args.device, lambda: engine.run(stage, items[size:]))
    release()
    bare, bare_busy = flux_by_hand(args, settings, items, folder)
    release()
    rate, by_hand = args.images / seconds, args.images / bare
    figures = {"images_a_second": rate, "by_hand": by_hand, "share_of_by_hand": rate / by_hand}
    return figures | {"busy": busy, "busy_by_hand": bare_busy, **flux_bytes(settings, args.batches)}


def flux_settings(args: argparse.Namespace, folder: Path) -> PipelineSettings:
    """The pipeline, built on disk."""
    import gpu_models
    import tiny_pipelines

    if args.tiny:
        built, options, pixels = tiny_pipelines.flux(folder / "flux"), {"max_sequence_length": 32}, 32
    else:
        layers = gpu_models.Layers(*args.layers) if args.layers else gpu_models.Layers()
        built = gpu_models.flux(folder / "flux", args.device, Computing("cpu", args.dtype).torch_dtype, layers)
        options, pixels = {"max_sequence_length": 512}, args.pixels
    release()
    return PipelineSettings(
        Checkpoint(str(built)), Computing(args.device, args.dtype),
        steps=args.steps, guidance=3.5, width=pixels, height=pixels, batch_size=args.batch, options=options,
    )  # fmt: skip


def flux_by_hand(
    args: argparse.Namespace, settings: PipelineSettings, items: Sequence[dict[str, Any]], folder: Path
) -> tuple[float, float]:
    """The same pictures by a loop as diffusers' documentation has it: seconds without the first batch, busy share."""
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(settings.checkpoint.model, dtype=settings.computing.torch_dtype)
    pipeline.to(args.device)
    pipeline.set_progress_bar_config(disable=True)
    (folder / "by_hand").mkdir()

    def draw(batch: Sequence[dict[str, Any]]) -> None:
        made = pipeline(
            prompt=[item["prompt"] for item in batch], num_inference_steps=settings.steps,
            guidance_scale=settings.guidance, width=settings.width, height=settings.height,
            generator=[torch.Generator("cpu").manual_seed(item["seed"]) for item in batch], **settings.options,
        )  # fmt: skip
        for item, image in zip(batch, made.images, strict=True):
            image.save(folder / "by_hand" / f"{item['seed']}.png")

    size = settings.batch_size
    batches = [items[k : k + size] for k in range(0, len(items), size)]
    draw(batches[0])
    return timed(args.device, lambda: [draw(batch) for batch in batches[1:]])


def flux_bytes(settings: PipelineSettings, batches: Sequence[int]) -> Figures:
    """Whether order and neighbours leave bytes alone at one batch size, and how far other sizes are away."""
    generator, size = DiffusersGenerator(settings), settings.batch_size
    items = requests(size + 1)

    def draw(order: Sequence[int]) -> dict[int, np.ndarray]:
        found = {}
        for start in range(0, len(order), generator.batch_size):
            part = order[start : start + generator.batch_size]
            made = generator.generate([items[i]["prompt"] for i in part], [items[i]["seed"] for i in part])
            found |= {i: picture.pixels for i, picture in zip(part, made, strict=True)}
        return found

    numbers = list(range(len(items)))
    first, again = draw(numbers), draw(numbers[::-1])
    same = all(digest(first[i]) == digest(again[i]) for i in numbers)
    away = {}
    for other in batches:
        generator.resize(other)
        pictures = draw(numbers)
        apart = np.stack([np.abs(pictures[i].astype(int) - first[i]) for i in numbers])
        away[str(other)] = {"largest": int(apart.max()), "share_of_values": float(np.mean(apart > 0))}
    return {"batch": size, "same_bytes_in_another_order": same, "away_in_batches_of": away}


def digest(pixels: np.ndarray) -> str:
    """Of a picture's bytes."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def bench_encoder(args: argparse.Namespace, folder: Path) -> Figures:
    """The engine's stage, and the network alone."""
    import gpu_models
    import tiny_encoders
    import torch

    if args.tiny:
        built = tiny_encoders.siglip(folder / "siglip")
    else:
        built = gpu_models.siglip2(folder / "siglip", args.device, Computing("cpu", args.dtype).torch_dtype)
    settings = TowerSettings(Checkpoint(str(built)), Computing(args.device, args.dtype), args.batch, True)
    store, rng, pixels = Store(folder / "store"), np.random.default_rng(1), 64 if args.tiny else 512
    items = []
    for k in range(args.batch + args.images):
        path = f"pictures/{k}.png"
        store.write_file(path, png(rng.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)))
        items.append({"image": str(k), "_path": path})
    stage = EncodeImages(settings, Needs(memory_gb=1))
    with Engine(store, InProcess(store), Quiet()) as engine:
        engine.run(stage, items[: args.batch])
        seconds, busy = timed(args.device, lambda: engine.run(stage, items[args.batch :]))
    encoder = ImageEncoder(settings)
    network = encoder._tower.network
    side = network.config.vision_config.image_size
    prepared = torch.rand(args.batch, 3, side, side, device=args.device, dtype=settings.computing.torch_dtype)
    calls = math.ceil(args.images / args.batch)
    with torch.inference_mode():
        network.get_image_features(pixel_values=prepared)
        alone, alone_busy = timed(
            args.device, lambda: [network.get_image_features(pixel_values=prepared) for _ in range(calls)]
        )
    rates = {"images_a_second": args.images / seconds, "network_alone": calls * args.batch / alone}
    return rates | {"busy": busy, "busy_alone": alone_busy, "batch": args.batch}


def png(pixels: np.ndarray) -> bytes:
    """A picture file."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bench_scorer(args: argparse.Namespace, folder: Path) -> Figures:
    """Forward passes, one picture each, as HPSv3 is asked."""
    import gpu_models
    import torch

    dtype = Computing("cpu", args.dtype).torch_dtype
    layers = gpu_models.Layers(scorer=args.layers[0]) if args.layers else gpu_models.Layers()
    network = gpu_models.qwen2_vl(args.device, dtype, layers, tiny=args.tiny)
    side = 4 if args.tiny else 2 * math.isqrt(PICTURE_TOKENS)
    config, n_tokens = network.config, side**2 // 4
    text = torch.full((TEXT_TOKENS,), 9)
    text[10 : 12 + n_tokens] = torch.tensor([6, *[5] * n_tokens, 7])
    inputs = {
        "input_ids": text[None].to(args.device),
        "pixel_values": torch.rand(side**2, 3 * 2 * 14 * 14, device=args.device, dtype=dtype),
        "image_grid_thw": torch.tensor([[1, side, side]], device=args.device),
        "mm_token_type_ids": (text == config.image_token_id).int()[None].to(args.device),
    }
    head = torch.nn.Linear(config.text_config.hidden_size, 2, device=args.device, dtype=dtype)

    def score() -> float:
        with torch.inference_mode():
            return float(head(network(**inputs, use_cache=False).last_hidden_state[0, -1])[0])

    score()
    seconds, busy = timed(args.device, lambda: [score() for _ in range(args.images)])
    size = sum(p.numel() for p in network.parameters())
    return {
        "images_a_second": args.images / seconds,
        "busy": busy,
        "parameters": size,
        "finite": math.isfinite(score()),
    }


def bench_fusion(args: argparse.Namespace, folder: Path) -> Figures:
    """One member on a CPU thread, and on the card."""
    from worlds import paper_world

    from beholder.taste.fusion import DEFAULT, SMALL, TRAINING
    from beholder.taste.train_network import train_one
    from beholder.taste.training_set import training_set

    rng = np.random.default_rng(1)
    small = {"n_users": 20, "n_images": 200, "raters": 8, "dims": 8} if args.tiny else {}
    world = paper_world("nonlinear", rng, **small)
    network, training = (SMALL, replace(TRAINING, epochs=2)) if args.tiny else (DEFAULT, TRAINING)
    data = training_set(world.training(), world.design, rng, world.people, training.folds)
    figures: Figures = {"ratings": len(data.who)}
    for device in dict.fromkeys(("cpu", args.device)):
        found: list[Any] = []
        on_it = replace(training, device=device)
        train_one(data, network, replace(on_it, epochs=1), (1, 1), 0)  # loads what is loaded once
        seconds, busy = timed(
            device,
            lambda to=found, how=on_it: to.append(train_one(data, network, how, (1, 0), 0)),  # type: ignore[misc]
        )
        figures[device] = {"seconds_a_member": seconds, "busy": busy, "loss": min(found[0].losses)}
    return figures


BENCHES: dict[str, Callable[[argparse.Namespace, Path], Figures]] = {
    "flux": bench_flux,
    "encoder": bench_encoder,
    "scorer": bench_scorer,
    "fusion": bench_fusion,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    args = arguments(argv)
    import torch

    card = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, toy networks: no figures of anything"
    found: Figures = {"card": card, "dtype": args.dtype, "layers": args.layers, "steps": args.steps}
    print(found, flush=True)
    for name in args.benches or BENCHES:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            found[name] = BENCHES[name](args, Path(folder))
        print(f"{name:8s} {found[name]}", flush=True)
        release()
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `--tiny` sets device, type and sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benches", nargs="*", choices=[*BENCHES, []], help="all if none is named")
    parser.add_argument("--tiny", action="store_true", help="toy networks on the CPU")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--layers", type=lambda s: [int(n) for n in s.split(",")], help="of FLUX.1, such as 6,12")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=lambda s: [int(n) for n in s.split(",")], default=[1, 2, 8], help="1,2,8")
    parser.add_argument("--images", type=int, default=32, help="timed, a multiple of the batch")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--scratch", type=Path, help="where networks are built (the system's temporary folder)")
    parser.add_argument("--out", type=Path, help="a JSON file of all figures")
    args = parser.parse_args(argv)
    args.device = "cpu" if args.tiny else "cuda"
    if args.tiny:
        args.dtype, args.batch, args.batches, args.images, args.steps = "float32", 3, [1, 2], 6, 2
    if args.images % args.batch:
        parser.error(f"--images {args.images}: a multiple of --batch {args.batch}")
    return args


if __name__ == "__main__":
    sys.exit(main())
