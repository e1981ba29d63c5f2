"""The explorer in a real browser: by mouse, by keyboard, on a phone, in the dark, when things fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

playwright = pytest.importorskip("playwright.sync_api")
SHOTS = Path(__file__).resolve().parents[3] / "build" / "explorer"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = {"width": 360, "height": 740}
expect = playwright.expect


@pytest.fixture(scope="module")
def browser() -> Any:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian package chromium)")
    expect.set_options(timeout=20_000)
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any, live: str) -> Iterator[Callable[..., Any]]:
    """Open a page; faults in its console, and requests to other hosts, fail the test."""
    contexts, faults = [], []

    def start(path: str = "/", quiet: bool = True, **options: Any) -> Any:
        context = browser.new_context(base_url=live, **options)
        contexts.append(context)
        page = context.new_page()
        if quiet:
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(live) else faults.append(r.url))
        page.goto(path)
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def titles(page: Any, side: str) -> list[str]:
    return page.locator(f"#{side} .entries .title").all_inner_texts()


def choose(page: Any, user: str) -> None:
    page.get_by_label("User id, or its beginning").fill(user)
    page.locator("#users").get_by_role("button", name=user, exact=True).click()
    expect(page.locator("#left .entries li")).to_have_count(10)


def fits(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_user_two_lists_an_explanation_and_an_event(
    open_page: Callable[..., Any], live: str
) -> None:
    page = open_page(viewport={"width": 1200, "height": 900})
    expect(page.locator("#left")).to_contain_text("Choose a user")
    shot(page, "empty")
    choose(page, "u7")
    expect(page.locator("#right .entries li")).to_have_count(10)
    expect(page.locator("#left select")).to_have_value("llmesr")
    expect(page.locator("#right select")).to_have_value("sasrec")
    kept = httpx.get(f"{live}/v1/users/u7").json()["history"]
    expect(page.locator("#history li")).to_have_count(len(kept))
    assert page.locator("#left .tail").count() > 0

    page.locator("#left").get_by_role("button", name=re.compile("^Why")).first.click()
    why = page.locator("#left .why")
    expect(why).to_contain_text("semantic view")
    expect(why.locator("meter").first).to_be_visible()
    shot(page, "explained")

    before = titles(page, "left")
    page.locator("#left").get_by_role("button", name=re.compile("^Add")).first.click()
    expect(page.locator("#history li")).to_have_count(len(kept) + 1)
    expect(page.locator("#status")).to_contain_text("Kept an event")
    expect(page.locator("#left .entries")).not_to_contain_text(before[0] + "\n")
    assert before[0] not in titles(page, "left")
    assert len(httpx.get(f"{live}/v1/users/u7").json()["history"]) == len(kept) + 1


def test_a_history_of_ones_own_by_keyboard_alone(open_page: Callable[..., Any]) -> None:
    page = open_page()
    expect(page.locator("#left option").first).to_be_attached()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # from "a user" to "a history of my own"
    page.keyboard.press("Tab")
    expect(page.get_by_label("Items by words of their titles")).to_be_focused()
    page.keyboard.type("red numb")
    expect(page.locator("#items li button").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#left .entries li")).to_have_count(10)
    page.locator("#history").get_by_role("button", name=re.compile("^Remove")).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history")).to_contain_text("Nothing yet")
    expect(page.locator("#left")).to_contain_text("Choose a user")


def test_on_a_phone_in_the_dark(open_page: Callable[..., Any]) -> None:
    page = open_page(viewport=PHONE, color_scheme="dark")
    choose(page, "u3")
    page.locator("#left").get_by_role("button", name=re.compile("^Why")).first.click()
    expect(page.locator("#left .why meter").first).to_be_visible()
    assert fits(page)
    shot(page, "phone-dark")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(n) for n in re.findall(r"\d+", back)) < 60
    page.goto("/docs")
    expect(page.locator("summary").first).to_be_visible()
    assert fits(page)


def test_metrics_and_the_interface(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_role("link", name="Metrics").click()
    expect(page.locator("#metrics h2")).to_have_count(4)
    expect(page.locator("#metrics table").first).to_contain_text("tail item")
    expect(page.locator("#metrics svg.chart").first).to_be_visible()
    shot(page, "metrics")
    page.get_by_role("link", name="Interface").click()
    page.locator("summary", has_text="/v1/recommend").first.click()
    expect(page.locator("details[open]")).to_contain_text("candidates")
    shot(page, "interface")


def test_faults_are_shown_and_can_be_retried(open_page: Callable[..., Any]) -> None:
    page = open_page(quiet=False)
    choose(page, "u9")
    page.route("**/v1/recommend", lambda route: route.abort())
    page.locator("#right select").select_option("itemknn")
    expect(page.locator("#right [role=alert]")).to_contain_text("cannot be reached")
    shot(page, "error")
    page.unroute("**/v1/recommend")
    page.locator("#right").get_by_role("button", name="Try again").click()
    expect(page.locator("#right .entries li")).to_have_count(10)


def test_a_user_without_history_and_a_search_without_hits(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_label("User id, or its beginning").fill("nobody")
    expect(page.locator("#users")).to_contain_text("Nothing found")
    page.get_by_label("Items by words").fill("zzz")
    expect(page.locator("#items")).to_contain_text("Nothing found")


def test_titles_are_text_and_never_markup(open_page: Callable[..., Any], live: str) -> None:
    text = "<img src=x onerror=document.title='broken'> violet"
    httpx.put(f"{live}/v1/items/odd", json={"attributes": {"title": text}})
    page = open_page()
    page.get_by_label("a history of my own").check()
    page.get_by_label("Items by words").fill("violet")
    expect(page.locator("#items li").first).to_contain_text("<img src=x")
    assert page.title() == "seqloom explorer"


def test_a_token_is_requested(open_page: Callable[..., Any]) -> None:
    page = open_page(quiet=False)
    body = '{"detail": "A valid token is needed"}'
    page.route("**/v1/models", lambda route: route.fulfill(status=401, body=body))
    page.reload()
    expect(page.get_by_label("This server asks for an access token")).to_be_focused()
    page.unroute("**/v1/models")
    sent = []
    page.on("request", lambda r: sent.append(r.headers.get("authorization")))
    page.keyboard.type("seqloom_abc_secret")
    page.keyboard.press("Enter")
    expect(page.locator("#token-form")).to_be_hidden()
    assert "Bearer seqloom_abc_secret" in sent
