"""A bundle: everything another person needs to compute a report's numbers again, in one folder or zip file.

    plan.yaml            the analysis part of the plan, every field spelt out
    settings.json        scale of the ratings, registered hash, stated deviations
    tables/NAME.parquet  the tables as used, after renaming and selecting
    tables/votes.csv     the votes again, for programs that read no Parquet
    results.json         every result of the report
    numbers.csv          its numbers as a flat list: where, value
    analysis.R           the main numbers in R, from votes.csv and numbers.csv alone
    README.txt           how to use all this
    MANIFEST.json        format, plan hash, versions, and the SHA-256 of every file above and of the page

The manifest is written last and the whole is put in its place by one rename, so a bundle that is there is complete.
No file holds a time or a path: the same tables and versions give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import UserError
from analysis.plan import AnalysisPlan
from analysis.r_script import r_script
from analysis.report_numbers import flatten, is_number
from analysis.report_sections import HALF_WINS
from analysis.results import package_versions

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report import Report

FORMAT = 1
MANIFEST = "MANIFEST.json"
VERSIONS = ("numpy", "scipy", "pandas", "pyarrow", "mixedlm", "altair", "vl-convert-python")

README = """\
A study's tables, plan and results, complete enough to compute every number again.

In Python:   pip install beholder;  python -m analysis rerun FOLDER_OR_ZIP
In R:        Rscript analysis.R     (in this folder; packages that are not installed are passed over with a note)

plan.yaml says what was planned, results.json what was found, numbers.csv the same as a flat list, MANIFEST.json which
versions computed it and the SHA-256 of every file. Tables are described at the top of analysis/tables.py.
"""


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file by temporary file and rename: a reader sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return path


def write_bundle(
    report: Report, tables: Mapping[str, pd.DataFrame], target: Path, *, page: bytes | None = None
) -> Path:
    """Write a bundle to the folder `target`, or to one file if its name ends in `.zip`.

    Parameters
    ----------
    report : Report
    tables : mapping of str to DataFrame
        Those the report was made from.
    target : Path
        An earlier bundle there is replaced.
    page : bytes, optional
        The report's page, whose digest the manifest records.

    Raises
    ------
    UserError
        `target` is something else than a bundle.
    """
    _refuse_to_replace(target)
    files = _contents(report, tables)
    manifest = {
        "format": FORMAT,
        "title": report.plan.title,
        "plan_hash": report.plan.hash,
        "seed": report.plan.seed,
        "versions": dict(package_versions(VERSIONS)),
        "page": hashlib.sha256(page).hexdigest() if page is not None else None,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    files[MANIFEST] = _json(manifest)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".zip":
        return write_whole(target, _zipped(files))
    return _write_folder(files, target)


def _contents(report: Report, tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    from analysis.report import settings_of

    files = {
        "plan.yaml": report.plan.to_yaml().encode(),
        "settings.json": _json(settings_of(report)),
        "results.json": _json(report.to_json()),
        "numbers.csv": _numbers(report.to_json()["sections"]),
        "analysis.R": r_script(report.plan, half_wins=_half_wins(report)).encode(),
        "README.txt": README.encode(),
    }
    for name, frame in tables.items():
        files[f"tables/{name}.parquet"] = frame.to_parquet(index=False)
    if "votes" in tables:
        files["tables/votes.csv"] = tables["votes"].to_csv(index=False, lineterminator="\n").encode()
    return files


def _half_wins(report: Report) -> bool:
    ranking = report.result("ranking")
    return ranking is not None and HALF_WINS in ranking.warnings


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _numbers(sections: Mapping[str, Any]) -> bytes:
    """`where,value` of every number of the sections; shortest forms that read back to the same number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "value"])
    writer.writerows((where, repr(value)) for where, value in flatten(sections) if is_number(value))
    return text.getvalue().encode()


def _refuse_to_replace(target: Path) -> None:
    if target.suffix == ".zip":
        if target.is_dir():
            raise UserError(f"{target} is a folder", "a file name ending in .zip", "choose another name")
    elif target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise UserError(
            f"{target} is there and is no bundle", "a new or empty folder, or an old bundle", "move it away"
        )


def _write_folder(files: Mapping[str, bytes], target: Path) -> Path:
    """All files into a folder beside the target, the manifest last, then a rename; the old bundle goes after that."""
    token = uuid.uuid4().hex
    fresh, old = (target.with_name(f"{target.name}.{token}.{kind}") for kind in ("tmp", "old"))
    try:
        for name, data in files.items():  # the manifest is the last of them
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if target.exists():
            os.replace(target, old)
        os.replace(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return target


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(
                name, date_time=(1980, 1, 1, 0, 0, 0)
            )  # no time of making: same content, same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes
    ----------
    path : Path
    manifest : mapping
        As written.
    files : mapping of str to bytes
        Everything in it but the manifest, by name.
    """

    path: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read a folder or zip file whole.

        Raises
        ------
        UserError
            Nothing there, no manifest (an unfinished bundle), or another format.
        """
        files = _read_zip(path) if path.is_file() else _read_folder(path)
        try:
            manifest = json.loads(files.pop(MANIFEST))
            found = manifest["format"]
            known = isinstance(manifest["files"], dict)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: no readable {MANIFEST}", "a finished bundle", "write the report again") from None
        if found != FORMAT or not known:
            raise UserError(f"{path}: format {found!r}", f"format {FORMAT}", "use the version that wrote it")
        return cls(path, manifest, files)

    def altered(self) -> list[tuple[str, str, str]]:
        """Files that are not as the manifest says: name, digest in the manifest, digest found (or what is wrong)."""
        found = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        promised = self.manifest["files"]
        return [
            (name, str(promised.get(name, "not listed")), found.get(name, "missing"))
            for name in sorted({*promised, *found})
            if promised.get(name) != found.get(name)
        ]

    def need(self, name: str) -> bytes:
        """A file's content; raises `UserError` where it is missing."""
        if name not in self.files:
            raise UserError(f"{self.path}: no {name}", "a complete bundle", "get another copy")
        return self.files[name]

    def plan(self) -> AnalysisPlan:
        """The plan."""
        import yaml

        return AnalysisPlan.of(yaml.safe_load(self.need("plan.yaml")), f"{self.path}: plan.yaml: ")

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables as used, by name; a Parquet file that cannot be read is a `UserError`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = {}
        for name, data in self.files.items():
            folder, _, file = name.partition("/")
            if folder != "tables" or not file.endswith(".parquet"):
                continue
            try:
                found[file.removesuffix(".parquet")] = pq.read_table(pa.BufferReader(data)).to_pandas()
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(
                    f"{self.path}: {name} cannot be read ({error})", "Parquet", "get another copy"
                ) from None
        return found


def _read_folder(path: Path) -> dict[str, bytes]:
    if not path.is_dir():
        raise UserError(f"{path}: no such bundle", "a folder or a zip file", "check the path")
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: {error}", "a folder or a zip file", "get another copy") from None
