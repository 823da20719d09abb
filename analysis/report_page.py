"""The page of a report: one HTML file that asks nothing of the network, for reading on screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.report_figures import Figure, figure_of
from analysis.report_gallery import Gallery
from analysis.report_sections import Section
from analysis.report_tables import (
    FRAMES,
    Table,
    contrasts_table,
    frame_table,
    p_short,
    plain_table,
    ranking_table,
    whole,
)
from analysis.report_words import READ
from analysis.results import percent

if TYPE_CHECKING:
    from analysis.report import Report


@dataclass(frozen=True)
class View:
    """A section as the page shows it."""

    name: str
    title: str
    kind: str
    read: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    summary: str | None
    estimand: str | None
    warnings: tuple[str, ...]
    reason: str | None


def page(report: Report, gallery: Gallery, bundle: str) -> str:
    """The page as HTML text.

    Parameters
    ----------
    report : Report
    gallery : Gallery
    bundle : str
        Name of the bundle that lies beside the page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        report=report,
        plan=report.plan,
        lead=_lead(report),
        tally=[(s, sum(c.status == s for c in report.checks)) for s in ("passed", "failed", "not run")],
        design=_design(report),
        sections=[_view(report, s) for s in report.sections if not s.name.startswith("win_rate ")],
        gallery=gallery,
        exclusions=_exclusions(report),
        estimands=_estimands(report),
        provenance=_provenance(report),
        plan_text=report.plan.to_yaml(),
        bundle=bundle,
        percent=percent,
    )


def _lead(report: Report) -> str | None:
    """The primary contrast in one sentence."""
    contrasts = report.result("contrasts")
    if contrasts is None:
        return None
    c = contrasts.contrasts[0]
    return (
        f"“{c.focal}” was chosen over “{c.against}” in {percent(c.estimate)} of {whole(c.n_votes)} votes "
        f"({100 * contrasts.confidence:g} % interval {percent(c.ci_low)} to {percent(c.ci_high)}; "
        f"p {_equals(c.p_holm)} after Holm's correction for {len(contrasts.contrasts)} planned contrasts), for "
        f"{contrasts.estimand.people} people and {contrasts.estimand.items} prompts."
    )


def _estimands(report: Report) -> list[tuple[str, str]]:
    """Every estimand once, with the titles of the sections that estimate it."""
    titles: dict[str, list[str]] = {}
    for section in report.sections:
        if section.result is not None:
            titles.setdefault(section.result.estimand.text, []).append(section.title)
    return [("; ".join(names), text) for text, names in titles.items()]


def _equals(p: float) -> str:
    text = p_short(p)
    return text if text.startswith("<") else f"= {text}"


def _view(report: Report, section: Section) -> View:
    result = section.result
    return View(
        name=section.name,
        title=section.title,
        kind=section.kind,
        read=READ.get(section.name, ""),
        figures=() if result is None else _figures(report, section),
        tables=() if result is None else _tables(report, section),
        summary=None if result is None else result.summary(),
        estimand=None if result is None else result.estimand.text,
        warnings=() if result is None else result.warnings,
        reason=section.reason,
    )


def _figures(report: Report, section: Section) -> tuple[Figure, ...]:
    result: Any = section.result
    made = []
    chart = result.plot() if section.kind != "sensitivity" else None
    if chart is not None:
        made.append(figure_of(chart, section.name, section.title, f"{section.title}. {result.summary()}"))
    if section.name == "contrasts":
        first = report.result("win_rate " + ":".join(report.plan.contrasts[0]))
        if first is not None:
            caption = (
                f"Each participant's win rate, {first.focal} over {first.against}; line and band: mean and interval"
            )
            rates = first.participants["rate"]
            alt = f"{caption}. From {percent(rates.min())} to {percent(rates.max())}; median {percent(rates.median())}."
            made.append(figure_of(first.plot(), "participants", caption, alt))
    return tuple(made)


def _tables(report: Report, section: Section) -> tuple[Table, ...]:
    name, result = section.name, section.result
    found: list[Table | None] = []
    if name in ("contrasts", "per_protocol"):
        found.append(contrasts_table(report, name))
    elif name in ("ranking", "ranking_sensitivity"):
        found.append(ranking_table(report, name))
    elif name in FRAMES and result is not None:
        level = "" if section.kind == "as handed in" else f"{100 * report.plan.confidence:g} %"
        found.append(frame_table(name, result.to_frame(), level))
        if name.startswith("accuracy"):
            differences = result.tables()["differences"]
            found += [frame_table("differences", differences, level)] if len(differences) else []
    return tuple(table for table in found if table is not None)


def _design(report: Report) -> tuple[Table, ...]:
    counts = plain_table("What was collected", ("", "Number"), report.design.counts, (None, _count))
    if not report.design.pairs:
        return (counts,)
    fitted = _fitted(report)
    rows = [(*vars(p).values(), *fitted.get((p.first, p.second), (None, None))) for p in report.design.pairs]
    head = (
        "First",
        "Second",
        "Votes",
        "Ties",
        "First on the left",
        "People",
        "Prompts",
        "First won",
        "Ranking expects",
    )
    pairs = plain_table("Which conditions met", head, rows, (None, None, *[whole] * 5, percent, percent))
    return counts, pairs


def _fitted(report: Report) -> dict[tuple[str, str], tuple[float, float]]:
    ranking = report.result("ranking")
    if ranking is None:
        return {}
    return {(p.first, p.second): (p.observed, p.fitted) for p in ranking.pairs}


def _count(x: float) -> str:
    return whole(x) if x == round(x) else f"{x:.1f}"


def _exclusions(report: Report) -> tuple[Table, ...]:
    rows: list[tuple[str, str, int, int, str]] = []
    for section in report.sections:
        if section.result is not None and not section.name.startswith("win_rate "):
            e = section.result.exclusions
            why = ", ".join(f"{n} ({reason})" for reason, n in e.reasons) or "none"
            rows.append((section.title, e.unit, e.n_in, e.n_used, why))
    found = [
        plain_table("Rows used", ("Section", "Rows", "In", "Used", "Left out"), rows, (None, None, whole, whole, None))
    ]
    kept = report.result("per_protocol")
    if kept is not None and kept.left_out:
        people = [(x.participant_id, x.rule.replace("_", " "), x.value) for x in kept.left_out]
        found.append(
            plain_table(
                "Participants left out per protocol", ("Participant", "Rule", "Found"), people, (None, None, None)
            )
        )
    return tuple(found)


def _provenance(report: Report) -> tuple[Table, ...]:
    made = [("seed", str(report.plan.seed)), *report.provenance.versions]
    data: Sequence[tuple[str, str]] = report.provenance.data
    return (
        plain_table("Made with", ("What", "Version"), made, (None, None)),
        plain_table("Made from", ("Table", "SHA-256"), data, (None, None)),
    )
