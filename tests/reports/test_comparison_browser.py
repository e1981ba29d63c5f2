"""The report in a real browser: nothing cut off, sorting, tooltips, choices, print, and without a script."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from seqloom.reports.comparison import write_report
from seqloom.reports.data import ReportData

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
expect = playwright.expect
OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian package chromium)")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def report(report_data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(tmp_path_factory.mktemp("browser") / "report.html", report_data)
    return path.as_uri()


@pytest.fixture
def open_page(browser: Any, report: str) -> Iterator[OpenPage]:
    """Opens the report; faults in its console, and requests to elsewhere, fail the test."""
    contexts, faults = [], []

    def start(width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if r.url == report else faults.append(r.url))
        page.goto(report)
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


def fits(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(open_page: OpenPage, width: int) -> None:
    page = open_page(width)
    assert fits(page)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert fits(page)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 900})  # A4 between its margins
    assert fits(page)


def test_tables_sort_by_a_column(open_page: OpenPage) -> None:
    page = open_page()
    table = page.locator("#metrics table").first
    head = table.locator("thead th").nth(4)
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    column = table.locator("tbody tr td:nth-child(5)")
    values = [float(text) for text in column.all_inner_texts()]
    assert values == sorted(values, reverse=True)
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [float(text) for text in column.all_inner_texts()] == values[::-1]
    assert table.locator("[aria-sort]").count() == 1


def test_exact_values_on_hover_and_focus(open_page: OpenPage, report_data: ReportData) -> None:
    page = open_page()
    tip = page.get_by_role("tooltip")
    mark = page.locator("#verdict .mark").first
    mark.hover()
    expect(tip).to_contain_text("95 % interval")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    mark.focus()
    expect(tip).to_be_visible()
    page.locator("#map summary").click()
    page.locator("#map circle").nth(3).hover()
    assert report_data.mapped_items is not None
    expect(tip).to_contain_text(report_data.mapped_items.titles[3])


def test_choices_work_without_a_script(open_page: OpenPage) -> None:
    page = open_page(java_script_enabled=False)
    panels = page.locator("#verdict .panel")
    expect(panels.nth(0)).to_be_visible()
    expect(panels.nth(1)).to_be_hidden()
    page.get_by_role("radio", name="HR@10").check(force=True)
    expect(panels.nth(1)).to_be_visible()
    expect(panels.nth(0)).to_be_hidden()
    page.locator("#users").get_by_role("radio").nth(1).check(force=True)
    expect(page.locator("#users .panel").nth(1)).to_be_visible()
    expect(page.locator("#print")).to_be_hidden()


def test_the_reader_chooses_dark_or_light(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(15, 17, 19)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == "rgb(250, 250, 248)"


def test_print_shows_everything_on_white(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for panel in page.locator(".panel").all():
        expect(panel).to_be_visible()
    expect(page.get_by_role("navigation")).to_be_hidden()
    expect(page.locator("#significance details table")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
def test_axe_finds_no_violation(open_page: OpenPage, scheme: str, width: int) -> None:
    axe = pytest.importorskip("support.axe")
    try:
        source = axe.axe_source()
    except axe.MissingAxeError as missing:
        pytest.skip(str(missing))
    page = open_page(width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(source)
    found = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found] == []
