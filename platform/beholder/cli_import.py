"""`beholder import`: a public data set, or one's own, into the tidy tables of a store."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.readers.about import ABOUT

if TYPE_CHECKING:
    from beholder.readers.base import Dataset
    from beholder.readers.comparisons import Comparisons
    from beholder.readers.storing import Imported
    from beholder.store import Store

MOST_NOTES = 60


def import_data(
    reader: Annotated[str, typer.Option(help=f"Which data set it is: {', '.join(ABOUT)} (with --mapping, any).")],
    data: Annotated[Path, typer.Option(help="Folder of the unpacked release.")],
    to: Annotated[str, typer.Option(help="Folder of tables and images, or s3://BUCKET/PREFIX.")] = "store",
    mapping: Annotated[
        Path | None, typer.Option(help="For --reader csv: which files and columns hold what.", show_default=False)
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Keep ratings whose pictures are not there; nobody looks at pictures.")
    ] = False,
    near: Annotated[int, typer.Option(help="Differing bits, of 64, at which two pictures are still the same.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print the record of the import and nothing else.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take the store over from a run that is known to be gone.")
    ] = False,
) -> None:
    """Read a data set, check it, show what is in it, and write its tables as STORE/tables/NAME_*.parquet."""
    from rich.console import Console

    from beholder.engine.progress import Quiet
    from beholder.engine.runlog import RunLog
    from beholder.readers.registry import any_reader_of
    from beholder.readers.storing import store_dataset
    from beholder.records import key_of
    from beholder.runs import versions
    from beholder.store import Store
    from beholder.storelock import StoreLock

    store, folder = Store(to), str(data.absolute())
    key = key_of(
        {"reader": reader, "folder": folder, "mapping": mapping and str(mapping), "near": near, "bare": no_pictures}
    )
    run = f"import-{key[:12]}"
    with (
        StoreLock(store, run, "import", key, force=force),
        RunLog(store, run, "import", key, Quiet()) as log,
        _unpacked(store, reader) as pictures,
    ):
        source = any_reader_of(reader, mapping, pictures, not no_pictures)
        with log.step("Read"), Console(stderr=True).status(f"reading {data}"):
            dataset = source.read(data)
        with log.step("Store"):
            done = store_dataset(store, reader, dataset, {"folder": folder, "versions": versions()}, near)
    if json:
        typer.echo(_as_json(done))
        return
    for line in summary(reader, dataset, done):
        typer.echo(line)
    typer.echo(f"Tables: {store.url}/tables/{done.name}_{{{','.join(sorted(done.rows))}}}.parquet")


@contextmanager
def _unpacked(store: Store, reader: str) -> Generator[Path, None, None]:
    """Where pictures lie that come out of tables: in the store, or until they are in the bucket."""
    if store.is_folder:
        yield store.path(f"images/{reader}")
        return
    with TemporaryDirectory(prefix="beholder-") as folder:
        yield Path(folder)


def summary(reader: str, dataset: Dataset | Comparisons, done: Imported) -> list[str]:
    """What was read, what was changed, and what is shared with other sets, in lines of text."""
    from beholder.readers.base import Dataset

    about = ABOUT[reader]
    lines = [f"{done.name}: {about.title}. Licence: {about.licence}. Source: {about.source}", ""]
    lines += [f"  {count:>9,}  {what.replace('_', ' ')}" for what, count in done.counts.items()]
    if isinstance(dataset, Dataset):
        low, high = dataset.scale["raw"]
        lines += ["", f"Scale {low:g}...{high:g} as ticks 0...1000: {dataset.scale['formula']}"]
        per_person = dataset.ratings.groupby("user_id").size()
        lines.append(
            f"Ratings a person: {per_person.min()} to {per_person.max()}, median {per_person.median():g}; "
            f"an image: mean {len(dataset.ratings) / max(1, dataset.ratings['image_id'].nunique()):.1f}"
        )
    lines += ["", "Read, changed and set aside:"]
    lines += [f"- {note.what}: {note.rows:,}" for note in dataset.notes[:MOST_NOTES]]
    lines += ["", *_shared(done)]
    return lines


def _shared(done: Imported) -> list[str]:
    """Pictures and people in common with the other sets of the store."""
    lines = [
        f"{count:,} of these images are probably in {other} too (pairs in {done.name}_overlap): do not test on them "
        f"what was trained on {other}."
        for other, count in done.overlaps.items()
    ]
    lines += [
        f"{count:,} ids of people are also in {other}: they are taken to be the same people."
        for other, count in done.same_people.items()
    ]
    return [*(lines or ["No pictures and no people in common with other sets of this store."]), ""]


def _as_json(done: Imported) -> str:
    import json

    return json.dumps(done.record, indent=1, sort_keys=True)
