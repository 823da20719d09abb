"""The dashboards in a real browser on a real server: every page is drawn, linked, and asks nothing of the outside."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from small_store import APP, PAGES

pytestmark = pytest.mark.browser
PATIENCE = 120.0
"""Seconds after which what does not come fails its test; nothing is measured."""
TITLES = {
    "overview": "Do people prefer the pictures made for them?",
    "ladder": "Which model knows whom?",
    "adds": "What does each input add?",
    "newcomers": "How much must a newcomer tell?",
    "steering": "Did steering work, and what does it look like?",
    "taste": "Who disagrees with whom?",
    "study": "How was the blind study answered?",
    "checks": "Can a model be taken at its word?",
    "health": "Can the numbers be trusted?",
}
CHARTS = {
    "overview": 2, "ladder": 7, "adds": 5, "newcomers": 4, "steering": 3, "taste": 5, "study": 4, "checks": 6,
    "health": 2,
}  # fmt: skip
"""Pictures a page draws on a full study."""


@pytest.fixture(scope="module")
def server(store, tmp_path_factory) -> Iterator[str]:
    """`streamlit run` on a free port of this machine, in the project's folder so that its settings hold."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    command += ["--server.fileWatcherType", "none", "--server.headless", "true", "--", "--store", str(store.root)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=APP.parents[1], stdout=stream, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            process.wait(0.1)
            pytest.fail(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        except subprocess.TimeoutExpired:
            pass
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
                if answer.read() == b"ok":
                    return
        except (urllib.error.URLError, OSError):
            continue
    pytest.fail(f"no healthy server: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser(chromium):
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(1000 * PATIENCE)
    yield context.new_page()
    context.close()


def visit(page, url: str) -> None:
    """Open an address and wait until the page is there to its last line, every chart drawn and every image loaded."""
    page.goto(url)
    settled(page)


def settled(page) -> None:
    page.locator(".st-key-foot").wait_for()
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function(
        """() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]
            .every(chart => chart.querySelector('svg .mark-group, canvas'))"""
    )
    page.wait_for_function("() => [...document.images].every(image => image.complete)")


def address(server: str, name: str) -> str:
    return server if name == "overview" else f"{server}/{name}"


def test_a_link_into_a_fresh_server_opens_the_page_in_its_frame(server, page):
    """Must come first: Streamlit takes pages for an app of its own kind until the app's frame has run once."""
    visit(page, f"{server}/ladder?level=population")
    assert page.locator("h1").inner_text() == TITLES["ladder"]
    expect(page.get_by_text("simulated people")).to_be_visible()
    expect(page.locator("[data-testid=stSidebarNavLink]")).to_have_count(len(PAGES))
    expect(page.get_by_role("radio", name="for people on average")).to_be_checked()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn_and_asks_nothing_of_the_outside(server, page, name, tmp_path):
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on(
        "console", lambda said: broken.append(said.text) if said.type == "error" and "404" not in said.text else None
    )
    visit(page, address(server, name))
    charts = page.locator("[data-testid=stVegaLiteChart]")
    expect(charts).to_have_count(CHARTS[name])
    settled(page)
    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    assert page.locator("h1").inner_text() == TITLES[name]
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.locator("[data-testid=stAlertContentError]").count() == 0
    for chart in charts.all():
        assert chart.locator("[aria-roledescription]").count() > 3
        box = chart.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80
    assert page.evaluate("() => [...document.images].every(image => image.naturalWidth > 0)")
    outside = [url for url in asked if not url.startswith((server, server.replace("http", "ws"), "data:", "blob:"))]
    assert outside == []
    # Below a page's address Streamlit first asks for its own state there, which is a 404 and no fault of the page.
    assert [text for text in broken if "404" not in text] == []


def test_the_pages_hold_pictures(server, page):
    visit(page, f"{server}/steering")
    expect(page.locator("[data-testid=stImage] img")).to_have_count(9)
    visit(page, f"{server}/taste")
    expect(page.locator("[data-testid=stImage] img")).to_have_count(10)


def test_the_menu_leads_to_every_page(server, page):
    visit(page, server)
    for link in range(len(PAGES)):
        page.locator("[data-testid=stSidebarNavLink]").nth(link).click()
        page.get_by_role("heading", name=TITLES[PAGES[link]]).wait_for()
        settled(page)
        assert page.locator("[data-testid=stException]").count() == 0


def test_a_choice_goes_into_the_address_and_comes_back_from_it(server, page):
    visit(page, f"{server}/steering")
    page.get_by_role("combobox", name="Person").click()
    page.get_by_role("option", name="rater_003").click()
    page.wait_for_url("**person=rater_003**")
    settled(page)
    link = page.url
    visit(page, link)
    expect(page.get_by_text("For rater_003", exact=True)).to_be_visible()
    expect(page.get_by_role("combobox", name="Person")).to_have_value("rater_003")


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_nothing_lies_beside_the_page(server, browser, name):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    visit(page, address(server, name))
    assert page.locator("[data-testid=stException]").count() == 0
    widths = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    context.close()
