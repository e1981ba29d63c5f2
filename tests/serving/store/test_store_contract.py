"""What holds for every store: SQLite, PostgreSQL, Redis."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from seqloom.serving.store.base import UNKNOWN_TIME, Event, LiveItem, Receipt, TokenRecord

ANNA = [Event("anna", "a", 10), Event("anna", "b", 30), Event("anna", "c", 20)]


def test_events_come_back_by_time_then_by_arrival(store) -> None:
    store.append(ANNA)
    store.append([Event("anna", "late", 20), Event("ben", "x", 5)])
    assert store.histories(["anna", "ben", "nobody"], 100) == {
        "anna": ["a", "c", "late", "b"],
        "ben": ["x"],
    }
    assert [e.item_id for e in store.export("anna")] == ["a", "c", "late", "b"]
    assert store.export("anna")[0] == Event("anna", "a", 10)


def test_the_limit_keeps_the_most_recent(store) -> None:
    store.append(ANNA)
    assert store.histories(["anna"], 2) == {"anna": ["c", "b"]}


def test_an_unknown_time_is_before_all_known_ones(store) -> None:
    store.append([Event("u", "new", 0), Event("u", "old"), Event("u", "older", -5)])
    assert store.histories(["u"], 10)["u"] == ["old", "older", "new"]
    assert store.export("u")[0].timestamp == UNKNOWN_TIME


def test_ids_are_kept_as_they_are(store) -> None:
    odd = ["ü:1", "a b", "x%y_", "';--", "ключ", "🙂", "a:b:c", "\\", '"']
    store.append([Event(name, name, 1) for name in odd])
    assert store.histories(odd, 5) == {name: [name] for name in odd}
    assert store.find_users("", 100) == sorted(odd, key=str.encode)


def test_the_same_item_twice_is_two_events(store) -> None:
    store.append([Event("u", "a", 1), Event("u", "a", 1)])
    assert store.histories(["u"], 10)["u"] == ["a", "a"]


def test_erase_forgets_one_user(store) -> None:
    store.append([*ANNA, Event("ben", "x", 1)])
    assert store.erase("anna") == 3
    assert store.erase("anna") == 0
    assert store.export("anna") == []
    assert store.find_users("", 10) == ["ben"]


def test_users_are_found_by_prefix_in_order(store) -> None:
    store.append([Event(u, "i", 1) for u in ("b1", "a2", "a1", "a10", "A1", "c")])
    assert store.find_users("a", 2) == ["a1", "a10"]
    assert store.find_users("zz", 2) == []


def test_a_receipt_is_given_again_and_nothing_is_appended(store) -> None:
    receipt = Receipt("key", "print", "answer")
    assert store.append(ANNA, receipt) is None
    assert store.append(ANNA, Receipt("key", "other", "else")) == receipt
    assert len(store.export("anna")) == 3
    assert store.append(ANNA, Receipt("key2", "print", "answer")) is None
    assert len(store.export("anna")) == 6


def test_one_key_from_many_threads_appends_once(store) -> None:
    def post(_):
        return store.append([Event("u", "i", 1)], Receipt("k", "p", "r"))

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(post, range(24)))
    assert replies.count(None) == 1
    assert len(store.export("u")) == 1


def test_writes_from_many_threads_are_all_kept(store) -> None:
    def post(n):
        store.append([Event(f"u{n % 5}", f"i{n}", n)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(post, range(200)))
    kept = store.histories([f"u{n}" for n in range(5)], 1000)
    assert sorted(i for items in kept.values() for i in items) == sorted(
        f"i{n}" for n in range(200)
    )


def test_what_is_kept_survives_reopening(opened) -> None:
    first = opened()
    first.append(ANNA)
    first.put_item(LiveItem("new", {"title": "New"}))
    first.close()
    again = opened()
    assert again.histories(["anna"], 10) == {"anna": ["a", "c", "b"]}
    assert [item.item_id for item in again.items_since(0)] == ["new"]


def test_a_second_server_sees_what_the_first_keeps(opened) -> None:
    one, other = opened(), opened()
    one.append(ANNA)
    assert len(other.export("anna")) == 3
    version = one.put_item(LiveItem("new"))
    assert [item.version for item in other.items_since(0)] == [version]


def test_an_import_is_done_once(opened) -> None:
    store = opened()
    chunks = [[Event(f"u{n}", f"i{m}", m) for m in range(100)] for n in range(3)]
    assert not store.imported("set")
    assert store.import_events("set", iter(chunks)) == 300
    assert store.imported("set")
    assert store.import_events("set", iter(chunks)) == 0
    assert opened().histories(["u1"], 3) == {"u1": ["i97", "i98", "i99"]}


def test_a_broken_import_leaves_no_event_twice(store) -> None:
    def broken():
        yield [Event("u", "a", 1), Event("u", "b", 1)]
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="power"):
        store.import_events("set", broken())
    assert not store.imported("set")
    store.import_events("set", [[Event("u", "a", 1), Event("u", "b", 1), Event("u", "c", 1)]])
    assert store.histories(["u"], 10) == {"u": ["a", "b", "c"]}


def test_servers_that_import_at_once_take_turns(opened) -> None:
    one, other = opened(), opened()
    begun, may_end = threading.Event(), threading.Event()

    def slow():
        yield [Event("anna", "a", 1)]
        begun.set()
        assert may_end.wait(20)
        yield [Event("ben", "b", 1)]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.import_events, "set", slow())
        assert begun.wait(20)
        second = pool.submit(other.import_events, "set", [[Event("anna", "a", 1)]])
        time.sleep(0.1)
        assert not second.done()
        may_end.set()
        assert (first.result(), second.result()) == (2, 0)
    assert other.histories(["anna", "ben"], 9) == {"anna": ["a"], "ben": ["b"]}


def test_announced_reloads_are_counted(opened) -> None:
    one, other = opened(), opened()
    assert one.reloads() == 0
    assert one.announce_reload() == 1
    assert other.announce_reload() == 2
    assert one.reloads() == other.reloads() == 2
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(lambda _: one.announce_reload(), range(20)))
    assert sorted(numbers) == list(range(3, 23))


def test_catalogue_changes_in_their_order(store) -> None:
    store.put_item(LiveItem("a", {"title": "A"}, vectors={"e1": b"\0\1", "e2": b"\2"}))
    middle = store.put_item(LiveItem("b", {"title": "B"}))
    last = store.put_item(LiveItem("a", {"title": "A2"}, removed=True, vectors={"e1": b"\3"}))
    assert last > middle
    b, a = store.items_since(0)
    assert (b.item_id, b.attributes, b.removed, b.version) == ("b", {"title": "B"}, False, middle)
    assert (a.attributes, a.removed, a.vectors) == ({"title": "A2"}, True, {"e1": b"\3"})
    assert [item.item_id for item in store.items_since(middle)] == ["a"]
    assert store.items_since(last) == []


def test_versions_rise_under_concurrent_changes(store) -> None:
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda n: store.put_item(LiveItem(f"i{n}")), range(30)))
    assert len(set(versions)) == 30
    assert len(store.items_since(0)) == 30


def test_tokens(store) -> None:
    one = TokenRecord("id1", "app", "0" * 64, ("read", "write"), 1, None, 2.5)
    two = TokenRecord("id2", "ops", "1" * 64, ("admin",), 2, 99, None)
    store.put_token(two)
    store.put_token(one)
    assert store.tokens() == [one, two]
    assert store.revoke_token("id1")
    assert not store.revoke_token("id1")
    assert store.tokens() == [two]


def test_old_receipts_are_purged(store) -> None:
    if store.name == "redis":
        pytest.skip("Redis lets receipts expire by itself")
    store.append(ANNA, Receipt("k", "p", "r"))
    assert store.purge(int(time.time()) - 60) == 0
    assert store.purge(int(time.time()) + 60) == 1
    assert store.append(ANNA, Receipt("k", "p", "r")) is None


def test_close_finishes_what_was_begun(opened) -> None:
    store = opened()
    started = threading.Barrier(9)

    def post(n):
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
