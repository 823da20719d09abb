"""Compute what the plan asks for from votes and steered images, and write the report of the study.

    python jobs/analyse.py --plan jobs/studies/demo.yaml --store store

Needs `votes`; uses `truth_votes`, `steered`, and what `evaluate_taste.py` wrote, as far as they are there. Writes the
tables `contrasts`, `ranking`, `consistency` and, where people are simulated, `recovered` (planted win rates beside the
estimates); and `report/report.html` with `report/bundle`, from which `python -m analysis rerun` computes all again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.report import Report, make_report, write_report
from analysis.report_gallery import Gallery, gallery
from beholder.errors import EstimateError
from beholder.plans import Plan, analysis_plan
from beholder.records import key_of
from beholder.runs import Context, run_job, start

MATERIAL = (
    *("votes", "truth_votes", "steered", "ladder", "differences", "tie_curve", "disagreement"),
    *("ratings", "predictions", "predictions_dense"),
)
"""Tables the report is made from, as far as they are in the store; the last three compute the evaluation's again."""
PICTURES = ("steered_images",)
STEERED = ("user_id", "prompt_id", "run", "condition", "image_id", "reward", "embedding")
PAGE = "report/report.html"
VERSION = 2
"""Raised by hand when the same tables give other results or another page."""


def run(context: Context) -> None:
    """Tables first, then the page and the bundle; what is there and still true is left alone."""
    plan = analysis_plan(context.plan)
    inputs = ["votes", *(name for name in MATERIAL[1:] if context.store.has_table(name))]
    made: list[Report] = []

    def report() -> Report:
        if not made:
            made.append(make_report(plan, material(context, inputs)))
        return made[0]

    settings = plan.to_json()
    context.derive("Analyse", lambda: result_tables(report()), version=VERSION, inputs=inputs, settings=settings)
    shown = [name for name in PICTURES if context.store.has_table(name)]
    key = key_of({"version": VERSION, "plan": settings, "made_from": {n: context.digest(n) for n in (*inputs, *shown)}})
    if not is_written(context, key):
        with context.progress.step("Report"):
            write(context, report(), inputs, key)


def material(context: Context, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The tables a report is made from, without how images were drawn and where they lie."""
    tables = {name: context.load(name) for name in names}
    if "steered" in tables:
        tables["steered"] = tables["steered"][[c for c in STEERED if c in tables["steered"].columns]]
    return tables


def result_tables(report: Report) -> dict[str, pd.DataFrame]:
    """The tables of the store; contrasts and ranking must be there, the others where their material is.

    Raises
    ------
    EstimateError
        The votes do not allow the planned contrasts or the ranking.
    """
    for section in report.sections:
        if section.name in ("contrasts", "ranking") and section.result is None:
            raise EstimateError(f"{section.title}: {section.reason}", remedy="see what the votes table holds")
    tables = {name: report.result(name).to_frame() for name in ("contrasts", "ranking")}
    if report.result("consistency") is not None:
        tables["consistency"] = report.result("consistency").to_frame()
    if report.result("planted") is not None:
        rates = report.result("planted").to_frame()
        tables["recovered"] = rates.assign(quantity=rates["focal"] + " chosen over " + rates["against"])
    return tables


def write(context: Context, report: Report, inputs: Sequence[str], key: str) -> None:
    """Page and bundle; the record that says so goes first and comes last."""
    context.store.delete_record("report")
    with context.store.place("report").folder_to_fill() as folder:
        page, _ = write_report(report, material(context, inputs), folder, pictures=pictures(context))
        digest = hashlib.sha256(page.read_bytes()).hexdigest()
    context.store.write_record("report", context.provenance(inputs) | {"key": key, "page": digest})


def is_written(context: Context, key: str) -> bool:
    """Whether the page of this key is there, unchanged, with its bundle."""
    record = context.store.read_record("report")
    if record is None or record["key"] != key or not context.store.exists("report/bundle/MANIFEST.json"):
        return False
    try:
        page = context.store.read(PAGE)
    except FileNotFoundError:
        return False
    return bool(hashlib.sha256(page).hexdigest() == record["page"])


def pictures(context: Context) -> Gallery | None:
    """A gallery of what was shown in the study."""
    if not context.store.has_table("steered_images"):
        return None
    shown = context.load("steered_images")
    prompts = shown[["prompt_id", "base"]].drop_duplicates("prompt_id").rename(columns={"base": "prompt"})
    images = shown.drop_duplicates("image_id")
    return gallery(context.load("votes"), images, context.store.read, analysis_plan(context.plan), prompts=prompts)


def forecast(plan: Plan) -> Mapping[str, Any]:
    """What the job would make."""
    return {"contrasts": len(analysis_plan(plan).contrasts)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line."""
    return run_job("analyse", __doc__, argv, run, forecast)


if __name__ == "__main__":
    sys.exit(start(main))
