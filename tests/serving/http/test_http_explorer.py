"""The explorer in a real browser: by mouse, by keyboard, at three widths, in the dark, when things fail."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.browser import WIDTHS, Pages, chromium, fits, shot, violations

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture
def pages(browser: Any, shop_address: str) -> Iterator[Pages]:
    """Opens pages; faults in their consoles, and requests to other hosts, fail the test."""
    opened = Pages(browser, shop_address)
    yield opened
    opened.close()
    assert opened.faults == []


def shown(page: Any) -> Any:
    """Waits until lists and reasons stand."""
    expect(page.locator("#left .item")).to_have_count(10)
    expect(page.locator("#why .two-ways").nth(1)).to_be_visible()
    expect(page.locator("#lanes .tick i.raises, #lanes .tick i.lowers").first).to_be_attached()
    return page


def titles(page: Any, side: str) -> list[str]:
    return page.locator(f"#{side} .item .title").all_inner_texts()


def history(address: str, user: str) -> list[dict[str, Any]]:
    return httpx.get(f"{address}/v1/users/{user}").json()["history"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_on_a_living_example(pages: Pages, width: int, scheme: str) -> None:
    page = shown(pages.open(width=width, color_scheme=scheme))
    expect(page.locator("h1")).to_have_text(re.compile("^What comes next for user .+\\?$"))
    expect(page.locator("#facts")).to_contain_text("The models agree on")
    assert "user=" in page.url
    assert fits(page)
    shot(page, f"explorer-{width}-{scheme}")
    assert violations(page) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_trial_changes_the_lists_and_nothing_else(
    pages: Pages, shop_address: str, width: int
) -> None:
    page = shown(pages.open("/#user=c5", width=width, color_scheme="dark"))
    before = titles(page, "left")
    kept = history(shop_address, "c5")
    page.locator("#left .add").nth(2).click()
    expect(page.locator("#trial")).to_contain_text("Nothing is saved")
    expect(page.locator("#live")).to_contain_text("new in")
    expect(page.locator("#left .move").first).to_be_visible()
    assert before[2] not in titles(page, "left")
    shown(page)
    assert fits(page)
    shot(page, f"tried-{width}")
    assert violations(page) == []
    assert history(shop_address, "c5") == kept
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#trial")).to_be_hidden()
    assert titles(page, "left") == before


def test_saving_is_a_second_step_that_asks(pages: Pages, shop_address: str) -> None:
    page = shown(pages.open("/#user=c6"))
    kept = history(shop_address, "c6")
    page.locator("#right .add").first.click()
    page.get_by_role("button", name="Save to history").click()
    expect(page.locator("#save")).to_contain_text("Save to the history of user c6?")
    assert violations(page) == []
    page.locator("#save").get_by_role("button", name="Cancel").click()
    assert history(shop_address, "c6") == kept
    page.get_by_role("button", name="Save to history").click()
    page.locator("#save").get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#trial")).to_be_hidden()
    expect(page.locator("#facts")).to_contain_text(f"{len(kept) + 1} events")
    assert len(history(shop_address, "c6")) == len(kept) + 1


def test_the_address_holds_what_is_on_screen(pages: Pages) -> None:
    page = shown(pages.open("/#user=c8"))
    page.locator("#right .title").nth(4).click()
    expect(page.locator("#right .item").nth(4)).to_have_class(re.compile("selected"))
    chosen = titles(page, "right")[4]
    page.locator("#left .add").nth(1).click()
    expect(page.locator("#trial")).to_be_visible()
    shown(page)
    again = shown(pages.open(f"/{page.url[page.url.index('#') :]}"))
    expect(again.locator("#trial p")).to_have_text(page.locator("#trial p").inner_text())
    assert titles(again, "left") == titles(page, "left")
    expect(again.locator("#why h2")).to_have_text(chosen)
    expect(again.locator("#left .move").first).to_be_visible()


def test_stepping_back_says_where_the_truth_would_have_been(pages: Pages) -> None:
    page = shown(pages.open("/#user=c9"))
    page.get_by_role("button", name="Step back").click()
    expect(page.locator("#history-says")).to_contain_text("held out for the test")
    expect(page.locator("#history-says")).to_contain_text("came next")
    page.keyboard.press("[")
    expect(page.locator("#history-says")).to_contain_text("2 events ago")
    page.keyboard.press("[")
    expect(page.locator("#history-says")).to_contain_text("both were trained on it")
    expect(page.locator("#lanes .tick.next")).to_have_count(2)
    shot(page, "stepped-back")
    page.keyboard.press("]")
    page.keyboard.press("z")
    expect(page.locator("#history-says")).to_contain_text("3 events ago")


def test_a_sentence_steers_and_a_bad_one_is_answered_in_its_place(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5"))
    page.get_by_label("Steer with a sentence").fill("brand Castellane, not a whisk")
    page.keyboard.press("Enter")
    expect(page.locator("#steer-says")).to_contain_text("only brand is castellane")
    expect(page.locator("#left .item").first).to_contain_text("Castellane")
    shot(page, "steered")
    assert violations(page) == []
    with page.expect_request("**/v1/compare") as asked:
        page.get_by_label("How strongly").select_option("strongly")
    shown(page)
    assert asked.value.post_data_json["about_weight"] == 2
    assert "weight=2" in page.url
    page.get_by_label("Steer with a sentence").fill("price under 1")
    page.keyboard.press("Enter")
    expect(page.locator("#steer-says [role=alert]")).to_contain_text("no item")
    assert len(titles(page, "left")) == 10
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#steer-says")).to_be_empty()


def test_lists_and_events_can_be_saved_for_a_spreadsheet(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5"))
    with page.expect_download() as saved:
        page.get_by_role("button", name="Lists as CSV").click()
    rows = list(csv.DictReader(saved.value.path().open(encoding="utf-8-sig")))
    models = [page.locator(f"#{side} select").input_value() for side in ("left", "right")]
    assert [(row["model"], row["rank"]) for row in rows] == [
        (model, str(rank)) for model in models for rank in range(1, 11)
    ]
    assert [row["title"] for row in rows[:10]] == titles(page, "left")
    page.get_by_text("As a table").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Events as CSV").click()
    events = list(csv.DictReader(saved.value.path().open(encoding="utf-8-sig")))
    shown_rows = page.locator("#history-table tbody th").all_inner_texts()
    assert [row["title"] for row in events] == shown_rows[::-1]
    assert events[-1]["part"] == "test"


def test_the_keyboard_alone_does_everything(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5"))
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert "user=c5" in page.url
    page.keyboard.press("ArrowDown")
    expect(page.locator("#left .title").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#why h2")).to_have_text(titles(page, "left")[1])
    expect(page.locator("#left .title").nth(1)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#right .title").nth(1)).to_be_focused()
    page.keyboard.press("m")
    expect(page.locator("#why .segments [aria-pressed=true]")).to_contain_text("sasrec")
    page.keyboard.press("w")
    expect(page.locator("#trial")).to_be_visible()
    expect(page.locator("#right .title:focus")).to_have_count(1)
    page.keyboard.press("z")
    expect(page.locator("#trial")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#who")).not_to_have_text("user c5")


def test_the_finder_forgives_and_its_first_result_is_a_key_away(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5"))
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    expect(page.locator("#found [role=option]").first).to_be_visible()
    page.keyboard.type("press castelane cafe")
    expect(page.locator("#found [role=option]").first).to_contain_text("Castellane Café press")
    shot(page, "found")
    assert violations(page) == []
    page.keyboard.press("Enter")
    expect(page.locator("#trial")).to_contain_text("Castellane Café press")
    page.keyboard.press("/")
    page.keyboard.type("user C12")
    expect(page.locator("#found [aria-selected=true]")).to_contain_text("user c12")
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_have_text("user c12")
    page.keyboard.press("/")
    page.keyboard.type("qqqqqq")
    expect(page.locator("#found-says")).to_contain_text("Nothing matches")
    page.keyboard.press("Escape")
    expect(page.locator("#find")).to_be_hidden()


def test_an_item_that_does_not_exist_is_placed(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5"))
    page.get_by_role("button", name="Place it").click()
    expect(page.locator("#ghost-result")).to_contain_text("at least one text")
    page.locator("#ghost-fields").get_by_label("title").fill("Brightwater rake, long")
    page.keyboard.press("Enter")
    expect(page.locator("#ghost-result")).to_contain_text("for user c5")
    expect(page.locator("#ghost-result")).to_contain_text("Nearest known items")
    expect(page.locator("#ghost-result")).to_contain_text("Cannot place it: sasrec")
    shot(page, "placed")
    assert violations(page) == []


def test_a_user_without_events_and_an_empty_history(pages: Pages) -> None:
    page = pages.open("/#user=nobody", quiet=False)
    expect(page.locator("#facts")).to_contain_text("no events of this user")
    expect(page.locator("#left .note")).to_contain_text("Popular items")
    expect(page.locator("#why")).to_contain_text("no history yet")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    shot(page, "nobody")
    own = pages.open("/#own=1")
    expect(own.locator("#facts")).to_contain_text("An empty history")
    own.get_by_role("button", name="Try an item").click()
    expect(own.locator("#query")).to_be_focused()
    own.keyboard.press("Escape")
    expect(own.locator("#legend")).to_contain_text("events in training")
    own.locator("#left .add").first.click()
    expect(own.locator("#why .two-ways").nth(1)).to_be_visible()
    expect(own.get_by_role("button", name="Save to history")).to_have_count(0)
    assert violations(own) == []


def test_faults_are_shown_in_their_place_and_can_be_retried(pages: Pages) -> None:
    page = shown(pages.open("/#user=c5", quiet=False))
    page.route("**/v1/compare", lambda route: route.abort())
    page.locator("#right select").select_option("popularity")
    expect(page.locator("#right [role=alert]")).to_contain_text("cannot be reached")
    assert len(titles(page, "right")) == 10
    shot(page, "error")
    page.unroute("**/v1/compare")
    page.locator("#right").get_by_role("button", name="Try again").click()
    expect(page.locator("#right .problem")).to_have_count(0)
    expect(page.locator("#right select")).to_have_value("popularity")
    page.route("**/v1/explain", lambda route: route.fulfill(
        status=503, body='{"detail": "Too many requests are waiting", "request_id": "abc"}'))  # fmt: skip
    page.locator("#left .title").nth(7).click()
    expect(page.locator("#why [role=alert]")).to_contain_text("Request abc")


def test_titles_are_text_and_never_markup(pages: Pages, shop_address: str) -> None:
    text = "<img src=x onerror=document.title='broken'> violet"
    attributes = {"title": text, "brand": "<b>bold</b>"}
    httpx.put(f"{shop_address}/v1/items/odd", json={"attributes": attributes})
    page = shown(pages.open("/#user=c5&try=odd"))
    expect(page.locator("#trial")).to_contain_text("<img src=x")
    page.keyboard.press("/")
    page.keyboard.type("violet")
    expect(page.locator("#found [role=option]").first).to_contain_text("<b>bold</b>")
    assert page.title() == "seqloom explorer: user c5"
    httpx.delete(f"{shop_address}/v1/items/odd")


def test_a_token_is_requested(pages: Pages) -> None:
    page = pages.open(quiet=False)
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


def test_small_screens_large_letters_and_forced_colours(pages: Pages) -> None:
    narrow = shown(pages.open("/#user=c5", width=320))
    assert fits(narrow)
    shot(narrow, "narrow")
    zoomed = shown(pages.open("/#user=c5", width=640))
    assert fits(zoomed)
    forced = shown(pages.open("/#user=c5", forced_colors="active"))
    shot(forced, "forced-colours")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (768, "dark"), (1280, "light")])
def test_the_models_side_by_side(pages: Pages, width: int, scheme: str) -> None:
    page = pages.open("/models", width=width, color_scheme=scheme)
    expect(page.locator("h1")).to_contain_text("highest NDCG@10 of 3 models")
    expect(page.locator("#panels table").first.locator("tbody tr")).to_have_count(3)
    expect(page.locator("svg.curves polyline")).to_have_count(2)
    page.get_by_role("button", name="Parameters").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Parameters")
    assert fits(page)
    shot(page, f"models-{width}-{scheme}")
    assert violations(page) == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (1280, "dark")])
def test_the_interface_can_be_tried(pages: Pages, width: int, scheme: str) -> None:
    page = pages.open("/docs", width=width, color_scheme=scheme)
    page.locator("#operations-models-list_models_v1_models_get button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text("llmesr")
    assert fits(page)
    shot(page, f"docs-{width}-{scheme}")
    assert violations(page) == []
