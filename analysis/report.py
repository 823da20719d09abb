"""The report of a study: everything its plan asks for, with the checks, exclusions and deviations that belong to it.

`make_report` computes; `write_report` lays a page (`report.html`) and a bundle into a folder. The page is one file that
asks nothing of the network and is the same, byte for byte, whenever it is made from the same tables and versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import EstimateError, UserError
from analysis.plan import AnalysisPlan
from analysis.report_checks import Check, run_checks, shortfalls
from analysis.report_design import Design, design_of
from analysis.report_sections import GIVEN, Material, Section, ask_all, result_of
from analysis.results import Estimand, Exclusions, Result, plain
from analysis.tables import Scale, check_table

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report_gallery import Gallery

CHECKED = ("votes", "ratings", "predictions", "steered", "users", "images")
"""Tables with a definition; they are checked on the way in."""

KNOWN = (*CHECKED, "predictions_dense", "truth_votes", "prompts", *GIVEN)
"""Every table a report uses. `predictions_dense` is checked as `predictions`."""


@dataclass(frozen=True, kw_only=True)
class Report(Result):
    """A report's numbers; see `make_report`.

    Attributes
    ----------
    plan : AnalysisPlan
    registered : str or None
        Hash of the plan that was registered before the data.
    scale : Scale
        Of the ratings.
    design : Design
    checks : tuple of Check
    sections : tuple of Section
        Every question, answered or not.
    stated : tuple of str
        Deviations that the authors state.
    deviations : tuple of str
        All deviations from the plan: stated ones and those found in the data.
    """

    plan: AnalysisPlan = field(metadata={"json": False})
    registered: str | None
    scale: Scale
    design: Design
    checks: tuple[Check, ...]
    sections: tuple[Section, ...] = field(metadata={"json": False})
    stated: tuple[str, ...]
    deviations: tuple[str, ...]

    def result(self, name: str) -> Any:
        """The result of one section, or None."""
        return result_of(self.sections, name)

    def summary(self) -> str:
        """The planned contrasts (or the first answered question), then how the checks went."""
        first = next(s.result for s in self.sections if s.result is not None)
        counts = {status: sum(c.status == status for c in self.checks) for status in ("passed", "failed", "not run")}
        failed = "; ".join(f"{c.name}: {c.found}" for c in self.checks if c.status == "failed")
        return (
            f"{first.summary()} Checks: {counts['passed']} passed, {counts['failed']} failed"
            f"{f' ({failed})' if failed else ''}, {counts['not run']} not run. Plan {self.plan.hash[:12]}, "
            f"{len(self.deviations)} deviations."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a section: whether it was answered, and its estimand."""
        import pandas as pd

        rows = [
            {
                "section": s.name,
                "title": s.title,
                "kind": s.kind,
                "answered": s.result is not None,
                "reason": s.reason,
                "estimand": s.result.estimand.text if s.result is not None else None,
            }
            for s in self.sections
        ]
        return pd.DataFrame(rows)

    def tables(self) -> dict[str, pd.DataFrame]:
        """`sections`, `checks`, and the tables of every answered section under names that start with its own."""
        import pandas as pd

        found = {"sections": self.to_frame(), "checks": pd.DataFrame([vars(c) for c in self.checks])}
        for section in self.sections:
            stem = section.name.replace(" ", "_").replace(":", "_over_")
            for name, frame in section.result.tables().items() if section.result is not None else ():
                found[stem if name == "result" else f"{stem}_{name}"] = frame
        return found

    def to_json(self) -> dict[str, Any]:
        """Plan with its hash, design, checks, sections by name (`not_run` with its reason), deviations."""
        sections = {
            s.name: s.result.to_json() if s.result is not None else {"not_run": s.reason} for s in self.sections
        }
        return {
            "plan": self.plan.to_json(),
            "plan_hash": self.plan.hash,
            **super().to_json(),
            "sections": sections,
        }


def make_report(
    plan: AnalysisPlan,
    tables: Mapping[str, pd.DataFrame],
    *,
    scale: Scale | None = None,
    registered: str | None = None,
    deviations: Sequence[str] = (),
) -> Report:
    """Compute everything a plan asks for from the tables at hand.

    Parameters
    ----------
    plan : AnalysisPlan
    tables : mapping of str to DataFrame
        By name: `votes`, `ratings`, `predictions`, `predictions_dense`, `steered`, `truth_votes`, and finished ones
        (`ladder`, `differences`, `tie_curve`, `disagreement`) that are shown as they are and, with `predictions` and
        `ratings` beside them, computed again and compared. What is missing leaves its questions "not run".
    scale : Scale, optional
        Of the ratings; 0 … 1000 unless given.
    registered : str, optional
        Hash of the plan as it was registered; another one is a deviation.
    deviations : sequence of str
        What was done otherwise than planned, in the authors' words.

    Raises
    ------
    TableError
        A table does not hold what its definition asks for.
    UserError
        A table of an unknown name.
    EstimateError
        No question could be answered at all.
    """
    scale = scale or Scale()
    unknown = [name for name in tables if name not in KNOWN]
    if unknown:
        raise UserError(f"table {unknown[0]!r}", ", ".join(KNOWN), "leave it out of the report")
    checked = {name: _checked(name, frame, scale) for name, frame in tables.items()}
    material = Material.of(plan, checked, scale)
    sections = ask_all(material)
    answered = [s.result for s in sections if s.result is not None]
    if not answered:
        reasons = "; ".join(dict.fromkeys(str(s.reason) for s in sections))
        raise EstimateError(f"no question of the plan can be answered ({reasons})", "votes, or predictions and ratings")
    design = design_of(checked)
    told = dict.fromkeys(f"{s.title}: {w}" for s in sections if s.result is not None for w in s.result.warnings)
    return Report(
        estimand=answered[0].estimand,
        exclusions=_exclusions(sections, checked),
        warnings=tuple(told),
        provenance=material.provenance(*sorted(checked)),
        plan=plan,
        registered=registered,
        scale=scale,
        design=design,
        checks=run_checks(material, sections, design, registered),
        sections=sections,
        stated=tuple(deviations),
        deviations=(*deviations, *_deviations(material, sections, design, registered)),
    )


def _checked(name: str, frame: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    if name == "predictions_dense":
        return check_table("predictions", frame)
    return check_table(name, frame, scale) if name in CHECKED else frame  # type: ignore[arg-type]


def _exclusions(sections: Sequence[Section], tables: Mapping[str, pd.DataFrame]) -> Exclusions:
    """Of the planned contrasts; of the first answered section where there are no votes."""
    contrasts = result_of(sections, "contrasts")
    if contrasts is not None:
        return contrasts.exclusions
    return next(s.result.exclusions for s in sections if s.result is not None)


def _deviations(
    material: Material, sections: Sequence[Section], design: Design, registered: str | None
) -> tuple[str, ...]:
    """What the data show to be otherwise than planned."""
    plan = material.plan
    found = []
    if registered is not None and registered != plan.hash:
        found.append(f"the plan's hash {plan.hash} is not the registered {registered}")
    found += [f"{s.title} was planned and not run: {s.reason}" for s in sections if s.kind == "planned" and s.reason]
    found += shortfalls(material, design)
    planned = {name for pair in plan.contrasts for name in pair}
    unplanned = [name for name in design.conditions if name not in planned]
    if unplanned:
        found.append(f"shown but in no planned contrast: {', '.join(unplanned)} (in the ranking only)")
    rules = result_of(sections, "per_protocol")
    if rules is not None:
        found += [text for text in rules.warnings if "could not be applied" in text]
    return tuple(found)


def write_report(
    report: Report,
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    *,
    pictures: Gallery | None = None,
    zipped: bool = False,
) -> tuple[Path, Path]:
    """Write `report.html` and the bundle (`bundle/`, or `bundle.zip`) into `folder`; returns both paths.

    Parameters
    ----------
    report : Report
    tables : mapping of str to DataFrame
        Those the report was made from.
    folder : Path
        Made where it is missing; what an earlier call left under these names is replaced.
    pictures : Gallery, optional
        From `analysis.report_gallery.gallery`.
    zipped : bool
        One file instead of a folder.
    """
    from analysis.bundle import write_bundle, write_whole
    from analysis.report_gallery import Gallery
    from analysis.report_page import page

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / ("bundle.zip" if zipped else "bundle")
    html = page(report, pictures or Gallery(), target.name).encode()
    bundle = write_bundle(report, tables, target, page=html)
    write_whole(folder / "report.html", html)
    return folder / "report.html", bundle


def settings_of(report: Report) -> dict[str, Any]:
    """What besides plan and tables a report was made with; `make_report` takes it back (see `analysis.rerun`)."""
    return {"scale": plain(report.scale), "registered": report.registered, "deviations": list(report.stated)}


def estimands(report: Report) -> list[tuple[str, Estimand]]:
    """Title and estimand of every answered section."""
    return [(s.title, s.result.estimand) for s in report.sections if s.result is not None]
