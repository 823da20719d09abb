"""The demo in several worlds: other people, prompts and pictures, the same plan.

    python tests/validation/seeds.py --stores DIR --out docs/seeds.md [--seeds 1 2 3 4 5]

Runs `jobs/demo.py` once a seed (minutes each; what is in a store already is found), and writes one table of what was
planted and recovered. Nothing is left out: a seed in which a true value lies outside its interval is shown as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from beholder.store import Store

ROOT = Path(__file__).parents[2]
HEAD = """# The demo in {n} worlds

Each row is one run of `jobs/demo.py` under the plan `{plan}` with another seed of the world: other people, other
prompts, other pictures. "Planted" is the expected share of votes in that study, computed from the simulated people's
true utilities; intervals are 95 %, two-way clustered, for new people and new prompts. Made by
`python tests/validation/seeds.py`, on {set}.

"""


def one_seed(seed: int, plan: Path, store: Path) -> dict[str, object]:
    """Run the demo; what was planted and found."""
    command = [sys.executable, "jobs/demo.py", "--plan", str(plan), "--store", str(store), "--set", f"seed={seed}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    last = json.loads(done.stdout.strip().splitlines()[-1])
    tables = Store.existing(store)
    recovered = tables.read_table("recovered").set_index("against")
    ladder = tables.read_table("ladder").set_index(["model", "split", "level"])["accuracy"]
    row: dict[str, object] = {"seed": seed}
    for model in ("population", "eb_slopes"):
        for split in ("seen", "unseen"):
            row[f"{model}, {split}"] = f"{ladder[model, split, 'user']:.3f}"
    for against, found in recovered.iterrows():
        inside = found["ci_low"] <= found["planted"] <= found["ci_high"]
        text = f"{found['planted']:.3f}; {found['estimate']:.3f} [{found['ci_low']:.3f}, {found['ci_high']:.3f}]"
        row[f"own over {against}"] = text + ("" if inside else " **outside**")
    row["T2, p"] = f"{tables.read_table('consistency')['p'].iloc[0]:.3f}"
    row["seconds"] = f"{last['seconds']:.0f}"
    return row


def main() -> None:
    """Run from a command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stores", type=Path, required=True)
    options.add_argument("--out", type=Path, default=Path("docs/seeds.md"))
    options.add_argument("--plan", type=Path, default=Path("jobs/studies/demo.yaml"))
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    given = options.parse_args()
    rows = []
    for seed in given.seeds:
        rows.append(one_seed(seed, given.plan, given.stores / str(seed)))
        print(rows[-1], file=sys.stderr)
    table = pd.DataFrame(rows)
    record = Store.existing(given.stores / str(given.seeds[0])).read_record("table-votes") or {}
    head = HEAD.format(n=len(rows), plan=given.plan.name, set=record.get("instruction_set", "an unknown machine"))
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in table.itertuples(index=False)]
    given.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
