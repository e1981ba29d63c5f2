"""What holds for every store: SQLite, PostgreSQL, Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from seqloom.serving.store.base import (
    UNKNOWN_TIME,
    Appended,
    Event,
    LiveItem,
    Receipt,
    TokenRecord,
)

ANNA = [Event("anna", "a", 10), Event("anna", "b", 30), Event("anna", "c", 20)]


def test_events_come_back_by_time_then_by_arrival(store: Any) -> None:
    store.append(ANNA)
    store.append([Event("anna", "late", 20), Event("ben", "x", 5)])
    assert store.histories(["anna", "ben", "nobody"], 100) == {
        "anna": ["a", "c", "late", "b"],
        "ben": ["x"],
    }
    assert [e.item_id for e in store.export("anna")] == ["a", "c", "late", "b"]
    assert store.export("anna")[0] == Event("anna", "a", 10)


def test_the_limit_keeps_the_most_recent(store: Any) -> None:
    store.append(ANNA)
    assert store.histories(["anna"], 2) == {"anna": ["c", "b"]}


def test_an_unknown_time_is_before_all_known_ones(store: Any) -> None:
    store.append([Event("u", "new", 0), Event("u", "old"), Event("u", "older", -5)])
    assert store.histories(["u"], 10)["u"] == ["old", "older", "new"]
    assert store.export("u")[0].timestamp == UNKNOWN_TIME


def test_ids_are_kept_as_they_are(store: Any) -> None:
    odd = ["ü:1", "a b", "x%y_", "';--", "ключ", "🙂", "a:b:c", "\\", '"']
    store.append([Event(name, name, 1) for name in odd])
    assert store.histories(odd, 5) == {name: [name] for name in odd}
    assert store.find_users("", 100) == sorted(odd, key=str.encode)


def test_an_event_counts_once(store: Any) -> None:
    twice = [Event("u", "a", 1), Event("u", "b", 1), Event("u", "a", 1)]
    assert store.append(twice) == Appended(2)
    assert store.append([Event("u", "a", 1), Event("u", "a", 2), Event("v", "a", 1)]) == Appended(2)
    assert store.histories(["u", "v"], 10) == {"u": ["a", "b", "a"], "v": ["a"]}
    assert store.import_events("set", [[Event("u", "a", 2), Event("u", "c", 3)]]) == 1
    assert store.append([Event("u", "c", 3)]) == Appended(0)
    assert store.histories(["u"], 10) == {"u": ["a", "b", "a", "c"]}


def test_an_event_from_many_threads_and_servers_counts_once(opened: Callable[..., Any]) -> None:
    servers = [opened(), opened()]
    events = [Event(f"u{n % 3}", f"i{n % 7}", n % 21) for n in range(42)]

    def post(number: Any) -> Any:
        some = events[number:] + events[:number]
        if number % 4 == 0:
            ordered = sorted(some, key=lambda event: event.user_id)
            return servers[number % 2].import_events(f"set {number}", [ordered])
        return servers[number % 2].append(some[:: (-1) ** number]).new

    with ThreadPoolExecutor(8) as pool:
        new = sum(pool.map(post, range(24)))
    kept = [event for n in range(3) for event in servers[0].export(f"u{n}")]
    assert new == len(kept) == len(set(events)) == 21
    assert set(kept) == set(events)


def test_two_data_sets_of_one_log_are_one_history(store: Any) -> None:
    log = [Event("anna", item, n) for n, item in enumerate("abcda")]
    assert store.import_events("one", [log]) == 5
    assert store.append([Event("anna", "e", 9)]) == Appended(1)
    next_day = [*log[1:], Event("anna", "e", 9), Event("anna", "f", 10)]
    assert store.import_events("next", [next_day]) == 1
    assert store.histories(["anna"], 99) == {"anna": list("abcdaef")}


def _untimed(user: str, items: str) -> list[Event]:
    return [Event(user, item, UNKNOWN_TIME, items[:n].count(item)) for n, item in enumerate(items)]


def test_events_without_times_are_known_by_their_occurrence(store: Any) -> None:
    assert store.import_events("one", [_untimed("u", "aba")]) == 3
    assert store.import_events("other split", [_untimed("u", "ba")]) == 0
    store.append([Event("u", "c", 50)])
    assert store.import_events("next", [_untimed("u", "abaca")]) == 1  # c was posted, a is new
    assert store.import_events("again", [_untimed("u", "abaca")]) == 0
    assert store.histories(["u"], 99) == {"u": list("abaac")}


def test_events_with_times_take_the_place_of_those_without(store: Any) -> None:
    store.import_events("order alone", [_untimed("u", "abad") + _untimed("v", "a")])
    store.append([Event("u", "b", 90)])  # a repeat, not the b of the import
    assert store.histories(["u"], 99) == {"u": list("abadb")}
    timed = [Event("u", item, n) for n, item in enumerate("aba", start=10)]
    assert store.import_events("with times", [timed]) == 3
    assert store.histories(["u", "v"], 99) == {"u": list("dabab"), "v": ["a"]}
    assert store.import_events("order again", [_untimed("u", "abad")]) == 0
    assert store.histories(["u"], 99) == {"u": list("dabab")}


@pytest.mark.parametrize("import_before", [True, False])
def test_an_erasure_lasts(opened: Callable[..., Any], import_before: bool) -> None:
    store, now = opened(), int(time.time())
    log = [Event("anna", "a", 5), Event("anna", "b", 6), Event("ben", "c", 7)]
    if import_before:
        store.import_events("one", [log])
    assert store.erase("anna") == 2 * import_before
    found_new = store.import_events("two", [[*log, *_untimed("anna", "xy")]])
    assert found_new == (0 if import_before else 1)
    assert store.histories(["anna", "ben"], 9) == {"ben": ["c"]}
    # What comes after the erasure counts, by time in a data set and by arrival in a request.
    store.append([Event("anna", "new", 8)])
    again = opened()
    assert again.import_events("next", [[*log, Event("anna", "later", now + 60)]]) == 1
    assert again.histories(["anna"], 9) == {"anna": ["new", "later"]}


def test_an_erasure_reaches_events_ahead_of_the_clock(store: Any) -> None:
    ahead = [Event("u", "a", int(time.time()) + 9999)]
    store.import_events("one", [ahead])
    assert store.erase("u") == 1
    assert store.import_events("two", [ahead]) == 0
    assert store.export("u") == []


def test_an_erasure_during_an_import_lasts(opened: Callable[..., Any]) -> None:
    one, other = opened(), opened()
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> Iterator[list[Any]]:
        yield [Event("anna", "a", 1), Event("ben", "b", 1)]
        begun.set()
        assert may_end.wait(20)
        yield [Event("ben", "c", 2), Event("cleo", "c", 2)]
        yield [Event("anna", "z", 3)]

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(one.import_events, "set", slow())
        assert begun.wait(20)
        assert other.erase("anna") == 1
        assert other.erase("cleo") == 0
        may_end.set()
        assert running.result() == 3
    assert other.histories(["anna", "ben", "cleo"], 9) == {"ben": ["b", "c"]}


def test_the_lineage_is_exchanged_where_it_is_as_expected(opened: Callable[..., Any]) -> None:
    one, other = opened(), opened()
    assert one.lineage() is None
    assert one.set_lineage("a", None)
    assert not other.set_lineage("b", None)
    assert not other.set_lineage("b", "c")
    assert other.set_lineage("b", "a")
    assert one.lineage() == "b"


def test_a_whole_store_passes_its_check(store: Any) -> None:
    store.append(ANNA, Receipt("k", "p", "r"))
    store.import_events("set", [_untimed("ben", "aba")])
    store.put_item(LiveItem("new", {"title": "New"}))
    store.check()
    store.probe()
    store.ping()


def test_erase_forgets_one_user(store: Any) -> None:
    store.append([*ANNA, Event("ben", "x", 1)])
    assert store.erase("anna") == 3
    assert store.erase("anna") == 0
    assert store.export("anna") == []
    assert store.find_users("", 10) == ["ben"]


def test_users_are_found_by_prefix_in_order(store: Any) -> None:
    store.append([Event(u, "i", 1) for u in ("b1", "a2", "a1", "a10", "A1", "c")])
    assert store.find_users("a", 2) == ["a1", "a10"]
    assert store.find_users("zz", 2) == []


def test_a_receipt_is_given_again_and_nothing_is_appended(store: Any) -> None:
    receipt = Receipt("key", "print", "answer")
    assert store.append(ANNA, receipt) == Appended(3)
    assert store.append(ANNA, Receipt("key", "other", "else")) == Appended(3, receipt)
    more = [*ANNA, Event("anna", "d", 40)]
    assert store.append(more, Receipt("key2", "print", "answer")) == Appended(1)
    assert store.append(more, Receipt("key2", "print", "answer")).new == 1
    assert len(store.export("anna")) == 4


def test_one_key_from_many_threads_appends_once(store: Any) -> None:
    def post(_: Any) -> Any:
        return store.append([Event("u", "i", 1)], Receipt("k", "p", "r"))

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(post, range(24)))
    assert replies.count(Appended(1)) == 1
    assert len(store.export("u")) == 1


def test_writes_from_many_threads_are_all_kept(store: Any) -> None:
    def post(n: Any) -> None:
        store.append([Event(f"u{n % 5}", f"i{n}", n)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(post, range(200)))
    kept = store.histories([f"u{n}" for n in range(5)], 1000)
    assert sorted(i for items in kept.values() for i in items) == sorted(
        f"i{n}" for n in range(200)
    )


def test_what_is_kept_survives_reopening(opened: Callable[..., Any]) -> None:
    first = opened()
    first.append(ANNA)
    first.put_item(LiveItem("new", {"title": "New"}))
    first.close()
    again = opened()
    assert again.histories(["anna"], 10) == {"anna": ["a", "c", "b"]}
    assert [item.item_id for item in again.items_since(0)] == ["new"]


def test_a_second_server_sees_what_the_first_keeps(opened: Callable[..., Any]) -> None:
    one, other = opened(), opened()
    one.append(ANNA)
    assert len(other.export("anna")) == 3
    version = one.put_item(LiveItem("new"))
    assert [item.version for item in other.items_since(0)] == [version]


def test_an_import_is_done_once(opened: Callable[..., Any]) -> None:
    store = opened()
    chunks = [[Event(f"u{n}", f"i{m}", m) for m in range(100)] for n in range(3)]
    assert not store.imported("set")
    assert store.import_events("set", iter(chunks)) == 300
    assert store.imported("set")
    assert store.import_events("set", iter(chunks)) == 0
    assert opened().histories(["u1"], 3) == {"u1": ["i97", "i98", "i99"]}


def test_a_broken_import_leaves_no_event_twice(store: Any) -> None:
    def broken() -> Iterator[list[Any]]:
        yield [Event("u", "a", 1), Event("u", "b", 1)]
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="power"):
        store.import_events("set", broken())
    assert not store.imported("set")
    store.import_events("set", [[Event("u", "a", 1), Event("u", "b", 1), Event("u", "c", 1)]])
    assert store.histories(["u"], 10) == {"u": ["a", "b", "c"]}


def test_servers_that_import_at_the_same_time_keep_each_event_once(
    opened: Callable[..., Any],
) -> None:
    one, other = opened(), opened()
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> Iterator[list[Any]]:
        yield [Event("anna", "a", 1), *_untimed("cleo", "xyx")]
        begun.set()
        assert may_end.wait(20)
        yield [Event("ben", "b", 1)]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.import_events, "set", slow())
        assert begun.wait(20)
        chunk = [Event("anna", "a", 1), *_untimed("cleo", "xyx"), Event("ben", "b", 1)]
        assert other.import_events("set", [chunk]) == 1
        may_end.set()
        assert first.result() == 4
    assert other.histories(["anna", "ben", "cleo"], 9) == {
        "anna": ["a"],
        "ben": ["b"],
        "cleo": ["x", "y", "x"],
    }
    assert one.import_events("set", [[Event("ben", "b", 2)]]) == 0


def test_announced_reloads_are_counted(opened: Callable[..., Any]) -> None:
    one, other = opened(), opened()
    assert one.reloads() == 0
    assert one.announce_reload() == 1
    assert other.announce_reload() == 2
    assert one.reloads() == other.reloads() == 2
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(lambda _: one.announce_reload(), range(20)))
    assert sorted(numbers) == list(range(3, 23))


def test_catalogue_changes_in_their_order(store: Any) -> None:
    store.put_item(LiveItem("a", {"title": "A"}, vectors={"e1": b"\0\1", "e2": b"\2"}))
    middle = store.put_item(LiveItem("b", {"title": "B"}))
    last = store.put_item(LiveItem("a", {"title": "A2"}, removed=True, vectors={"e1": b"\3"}))
    assert last > middle
    b, a = store.items_since(0)
    assert (b.item_id, b.attributes, b.removed, b.version) == ("b", {"title": "B"}, False, middle)
    assert (a.attributes, a.removed, a.vectors) == ({"title": "A2"}, True, {"e1": b"\3"})
    assert [item.item_id for item in store.items_since(middle)] == ["a"]
    assert store.items_since(last) == []


def test_versions_rise_under_concurrent_changes(store: Any) -> None:
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda n: store.put_item(LiveItem(f"i{n}")), range(30)))
    assert len(set(versions)) == 30
    assert len(store.items_since(0)) == 30


def test_tokens(store: Any) -> None:
    one = TokenRecord("id1", "app", "0" * 64, ("read", "write"), 1, None, 2.5)
    two = TokenRecord("id2", "ops", "1" * 64, ("admin",), 2, 99, None)
    store.put_token(two)
    store.put_token(one)
    assert store.tokens() == [one, two]
    assert store.revoke_token("id1")
    assert not store.revoke_token("id1")
    assert store.tokens() == [two]


def test_old_receipts_are_purged(store: Any) -> None:
    if store.name == "redis":
        pytest.skip("Redis lets receipts expire by itself")
    store.append(ANNA, Receipt("k", "p", "r"))
    assert store.purge(int(time.time()) - 60) == 0
    assert store.purge(int(time.time()) + 60) == 1
    assert store.append(ANNA, Receipt("k", "p", "r")) == Appended(0)


def test_close_finishes_what_was_started(opened: Callable[..., Any]) -> None:
    store = opened()
    started = threading.Barrier(9)

    def post(n: Any) -> int:
        started.wait()
        try:
            store.append([Event("u", f"i{n}", n)])
        except Exception:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(post, n) for n in range(8)]
        started.wait()
        store.close()
        kept = sum(each.result() for each in posts)
    assert len(opened().export("u")) == kept
