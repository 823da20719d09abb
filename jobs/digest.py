"""Say what a store's tables hold, in one digest each, and where two stores part.

    python jobs/digest.py --store store [--compare OTHER_STORE]

Digests are computed from the tables themselves, without times and worker names, and held against the records of the
run that wrote them. With `--compare`, each table that differs is named, and those whose inputs are the same in both
stores although they differ themselves: that is where to look. Exit 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beholder.errors import StoreError, UserError
from beholder.records import key_of, table_digest
from beholder.store import Store


@dataclass(frozen=True)
class TableState:
    """A table as found: its digest, rows, the tables it was made from, and the digest its record promises."""

    digest: str
    rows: int
    inputs: Mapping[str, str]
    recorded: str | None
    made_on: str


def tables_of(store: Store) -> dict[str, TableState]:
    """Every table of a store, by name.

    Raises
    ------
    StoreError
        The store has no tables.
    """
    names, records = store.tables(), store.read_records("table-")
    if not names:
        raise StoreError(f"no tables in {store.url}", remedy="run a job that writes some")
    found = {}
    for name in names:
        frame, record = store.read_table(name), records.get(f"table-{name}", {})
        found[name] = TableState(
            table_digest(frame),
            len(frame),
            record.get("inputs", {}),
            record.get("digest"),
            record.get("instruction_set", "unknown"),
        )
    return found


def steps_of(store: Store) -> dict[str, str]:
    """Step that wrote each table, where a record says so."""
    steps = {}
    for name, record in store.read_records("step-").items():
        for table in record["outputs"]:
            steps[table] = name.removeprefix("step-")
    return steps


def differing(ours: Mapping[str, TableState], theirs: Mapping[str, TableState]) -> list[str]:
    """Names of tables that are not the same in both, or in one only."""
    return [
        n for n in sorted({*ours, *theirs}) if n not in ours or n not in theirs or ours[n].digest != theirs[n].digest
    ]


def origins(names: Sequence[str], ours: Mapping[str, TableState], theirs: Mapping[str, TableState]) -> list[str]:
    """Of tables that differ, those none of whose inputs differs: where the stores part."""
    apart = set(names)
    return [n for n in names if n in ours and n in theirs and not apart & {*ours[n].inputs, *theirs[n].inputs}]


def compare(ours: Mapping[str, TableState], theirs: Mapping[str, TableState], steps: Mapping[str, str]) -> list[str]:
    """One line a difference; none when the stores hold the same."""
    names = differing(ours, theirs)
    first = origins(names, ours, theirs)
    lines = []
    for name in names:
        if name not in theirs or name not in ours:
            lines.append(f"{name}: only in {'this store' if name in ours else 'the other store'}")
            continue
        rows = "" if ours[name].rows == theirs[name].rows else f", {ours[name].rows} rows against {theirs[name].rows}"
        step = f" (step {steps[name]})" if name in steps else ""
        lines.append(f"{name}{step}: differs{rows}" + ("; its inputs are the same: look here" if name in first else ""))
    kinds = {name: (ours[name].made_on, theirs[name].made_on) for name in first}
    lines += [f"{n}: made on {a} here, on {b} there" for n, (a, b) in kinds.items() if a != b]
    return lines


def run(store: Store, other: Store | None) -> tuple[int, dict[str, Any]]:
    """Print the digests and the differences; exit status and what the last line says."""
    ours = tables_of(store)
    for name, table in ours.items():
        print(f"{table.digest}  {name}  {table.rows} rows")
    lines = [
        f"{name}: not what its record says (changed after it was written?)"
        for name, table in ours.items()
        if table.recorded is not None and table.recorded != table.digest
    ]
    if other is not None:
        lines += compare(ours, tables_of(other), steps_of(store))
        print("\n".join(lines) if lines else f"the same {len(ours)} tables")
    elif lines:
        print("\n".join(lines))
    digests = {name: table.digest for name, table in ours.items()}
    return int(bool(lines)), {"digest": key_of(digests), "tables": digests, "differences": lines}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line. The last line of standard output is one JSON object."""
    parser = argparse.ArgumentParser(
        prog="jobs/digest.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="store", help="folder or s3://BUCKET/PREFIX (%(default)s)")
    parser.add_argument("--compare", metavar="OTHER_STORE", help="another store of the same plan")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    try:
        store = Store.existing(arguments.store)
        status, found = run(store, Store.existing(arguments.compare) if arguments.compare else None)
    except UserError as error:
        print(f"digest: {error}", file=sys.stderr)
        return 2
    seconds = round(time.monotonic() - started, 2)
    last = {"job": "digest", "run_id": f"digest-{found['digest'][:12]}", "store": store.url, **found}
    print(json.dumps(last | {"counts": {"tables": len(found["tables"])}, "seconds": seconds}))
    return status


if __name__ == "__main__":
    sys.exit(main())
