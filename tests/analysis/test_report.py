"""The page of a report: it shows what the functions give, stands alone, and can be read by anybody."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.contrasts import planned_contrasts
from analysis.report import Report, make_report, write_report
from analysis.report_figures import figure_of
from analysis.report_gallery import Gallery, files_in, gallery
from analysis.report_page import page
from analysis.win_rates import win_rate

sys.path.insert(0, str(Path(__file__).parent))
import report_studies
from html_reader import Reader


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return report_studies.everything(np.random.default_rng(7))


@pytest.fixture(scope="module")
def report(tables: dict[str, pd.DataFrame]) -> Report:
    return make_report(report_studies.plan(exclusions={"median_ms_below": 400}), tables)


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page(report, Gallery(), "bundle")


def test_numbers_on_the_page_are_those_of_the_functions(html: str, tables: dict[str, pd.DataFrame]) -> None:
    numbers = Reader(html).numbers
    for against in ("other", "population", "unoptimised"):
        rate = win_rate(tables["votes"], "own", against)
        at = f"contrasts/contrasts[own:{against}]"
        for name in (
            "estimate",
            "ci_low",
            "ci_high",
            "t",
            "df",
            "p",
            "n_votes",
            "n_ties",
            "n_participants",
            "n_prompts",
        ):
            assert numbers[f"{at}/{name}"] == getattr(rate, name)
        assert numbers[f"win_rate own:{against}/naive/p"] == rate.naive["p"]
    pairs = [("own", c) for c in ("other", "population", "unoptimised")]
    planned = planned_contrasts(tables["votes"], pairs, rng=np.random.default_rng(0))
    for contrast in planned.contrasts:
        assert numbers[f"contrasts/contrasts[own:{contrast.against}]/p_holm"] == contrast.p_holm


def test_every_number_on_the_page_with_a_path_is_in_the_results(html: str, report: Report) -> None:
    from analysis.report_numbers import flatten

    results = dict(flatten(report.to_json()["sections"]))
    numbers = Reader(html).numbers
    assert len(numbers) > 60
    assert {where: results[where] for where in numbers} == numbers


def test_what_is_shown_is_the_number_rounded(html: str) -> None:
    reader = Reader(html)
    at = "contrasts/contrasts[own:other]"
    assert reader.shown[f"{at}/estimate"] == f"{100 * reader.numbers[f'{at}/estimate']:.1f} %"
    p = reader.numbers[f"{at}/p"]
    assert reader.shown[f"{at}/p"] == ("< .001" if p < 0.001 else f"{p:.3f}"[1:])


def test_a_section_has_the_same_numbers_whatever_stands_beside_it(tables: dict[str, pd.DataFrame]) -> None:
    plan = report_studies.plan()
    alone = make_report(plan, {"steered": tables["steered"]})
    together = make_report(plan, tables)
    assert alone.result("consistency").to_json() == together.result("consistency").to_json()


def test_the_seed_of_the_plan_is_the_seed_of_the_permutations(tables: dict[str, pd.DataFrame]) -> None:
    only = {name: tables[name] for name in ("ratings", "predictions")}
    first, same, other = (
        make_report(report_studies.plan(seed=s), only).result("tie_curve").to_json() for s in (1, 1, 2)
    )
    assert first == same
    assert first["models"] != other["models"]


def test_the_page_stands_alone(html: str) -> None:
    reader = Reader(html)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "iframe", "object", "form")]
    for tag, attributes in reader.tags:
        for name in ("src", "href", "xlink:href", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html


def test_ids_are_unique_and_references_meet_them(html: str) -> None:
    reader = Reader(html)
    assert len(set(reader.ids)) == len(reader.ids)
    wanted = {a["href"][1:] for tag, a in reader.tags if tag == "a" and a.get("href")}
    wanted |= {str(a["aria-labelledby"]) for _, a in reader.tags if a.get("aria-labelledby")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert wanted <= set(reader.ids)


def test_pictures_and_figures_say_what_they_show(html: str, report: Report) -> None:
    reader = Reader(html)
    assert next(a for tag, a in reader.tags if tag == "html")["lang"] == "en"
    labels = [a["aria-label"] for tag, a in reader.tags if tag == "figure"]
    assert len(labels) >= 6
    assert all(label and len(label) > 40 for label in labels)
    assert any(report.result("contrasts").summary() in str(label) for label in labels)
    scopes = [a.get("scope") for tag, a in reader.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}


def test_the_page_is_the_same_bytes_again(html: str, tables: dict[str, pd.DataFrame]) -> None:
    again = make_report(report_studies.plan(exclusions={"median_ms_below": 400}), tables)
    assert page(again, Gallery(), "bundle") == html


def test_hostile_names_stay_text(tables: dict[str, pd.DataFrame]) -> None:
    evil = '<script>alert("x")</script>&'
    votes = tables["votes"].replace({"own": evil})
    plan = report_studies.plan(
        title=f"{evil} title", focal=evil, contrasts=[f"{evil}:other", f"{evil}:population", f"{evil}:unoptimised"]
    )
    report = make_report(plan, {"votes": votes}, deviations=(f"{evil} deviation",))
    text = page(report, Gallery(), "bundle")
    reader = Reader(text)
    assert not [tag for tag, _ in reader.tags if tag == "script"]
    assert f"{evil} title" in "".join(reader.text)
    assert f"{evil} deviation" in "".join(reader.text)


def test_checks_exclusions_estimands_and_provenance_are_on_the_page(html: str, report: Report) -> None:
    text = " ".join("".join(Reader(html).text).split())
    for check in report.checks:
        assert f"{check.status} {check.name}: {check.found}." in text
    for section in report.sections:
        if section.result is not None:
            estimand = section.result.estimand.text
            assert f"{estimand[0].upper()}{estimand[1:]}." in text
    assert report.plan.hash in text
    for name, digest in report.provenance.data:
        assert f"{name}{digest}" in text
    for package, version in report.provenance.versions:
        assert f"{package}{version}" in text
    assert "24 (kind is not main)" in text  # two repeats of twelve people
    assert "Naive p, not valid" in text


def test_ids_of_figures_do_not_meet() -> None:
    import altair as alt

    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    chart = alt.layer(alt.Chart(frame).mark_line(clip=True).encode(x="x", y="y"))
    first, second = (figure_of(chart, name, "c", "a").svg for name in ("one", "two"))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]+)\)", first)) <= ids[0]


@pytest.fixture
def browser_page() -> Iterator[Any]:
    """A page of the system's Chromium; skip without, but never in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: pages must be looked at in CI")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


@pytest.mark.browser
def test_the_page_in_a_browser(report: Report, tables: dict[str, pd.DataFrame], tmp_path: Path, browser_page) -> None:
    """No error, no request, no sideways scrolling from telephone to desk, every picture drawn."""
    images = report_studies.painted(tables["votes"], tmp_path)
    pictures = gallery(tables["votes"], images, files_in(tmp_path), report.plan)
    path, _ = write_report(report, tables, tmp_path / "out", pictures=pictures)
    problems: list[str] = []
    browser_page.on("console", lambda message: problems.append(message.text))
    browser_page.on("pageerror", lambda error: problems.append(str(error)))
    browser_page.on("requestfailed", lambda request: problems.append(request.url[:80]))
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url))
    for width in (360, 800, 1280):
        browser_page.set_viewport_size({"width": width, "height": 900})
        browser_page.goto(path.as_uri())
        assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = browser_page.evaluate("Array.from(document.images, i => i.naturalWidth)")
        assert len(sizes) == 16
        assert min(sizes) == 256
    assert problems == []
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
    overlapping = browser_page.evaluate(
        "Array.from(document.querySelectorAll('figure svg'), s => s.getBoundingClientRect().width > 100)"
    )
    assert len(overlapping) >= 6
    assert all(overlapping)
