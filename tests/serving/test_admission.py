"""Who gets a place, and who gives way."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

import pytest

from seqloom.core.errors import ConfigError, ServingError
from seqloom.serving.admission import Admission
from seqloom.serving.config import ConnectionsConfig, ServerConfig


class Caller:
    """A connection that only counts."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.spare: str | None = None
        self.aborted = False
        self.checks = 0

    def check_times(self, now: float, elapsed: float) -> None:
        self.checks += 1
        if self.address is None:
            raise RuntimeError("a fault of ours")

    def abort(self) -> None:
        self.aborted = True


def admission(**settings: Any) -> Admission:
    return Admission(ConnectionsConfig(max_connections=8, **settings))


def entered(place: Admission, *addresses: str | None, busy: bool = False) -> list[Caller]:
    async def enter() -> list[Caller]:
        callers = [Caller(address) for address in addresses]
        for each in callers:
            place.enter(each)
            if busy:
                place.works(each)
        return callers

    return asyncio.run(enter())


def test_the_longest_waiting_gives_way() -> None:
    place = admission(max_per_address=8)
    callers = entered(place, *[f"10.0.0.{n}" for n in range(8)])
    place.works(callers[0])
    place.works(callers[1])
    place.waits(callers[1])  # it waits anew, behind all others
    entered(place, *["10.0.1.1"] * 3)
    assert [each.aborted for each in callers] == [False, False, True, True, True] + [False] * 3


def test_of_the_spare_ones_the_oldest_gives_way() -> None:
    place = admission(max_per_address=8)
    busy = entered(place, *[f"10.0.0.{n}" for n in range(8)], busy=True)
    spare = entered(place, *["10.0.1.1"] * 6)
    assert place.spares == 4
    assert [each.aborted for each in spare] == [True, True] + [False] * 4
    for each in spare:
        place.works(each)
    late = entered(place, "10.0.1.1")  # all are at work: the oldest of them
    assert [each.aborted for each in spare] == [True] * 3 + [False] * 3
    assert not any(each.aborted for each in [*busy, *late])


@pytest.mark.parametrize(
    ("addresses", "spare"),
    [
        (["10.0.0.1"] * 3, True),
        (["10.0.0.1", "10.0.0.1", "10.0.0.2"], False),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"], True),
        (["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"], False),
        (["10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"], True),
        (["fe80::1%eth0", "fe80::2%eth0", "fe80::3"], True),
        ([None, None, None], False),
        (["192.0.2.1"] * 3, False),
    ],
)
def test_what_counts_as_one_address(addresses: list[None] | list[str], spare: bool) -> None:
    place = admission(max_per_address=2, trusted_proxies=("192.0.2.0/24",))
    callers = entered(place, *addresses, busy=True)
    assert [each.spare is not None for each in callers] == [False, False, spare]


def test_who_left_is_forgotten() -> None:
    place = admission(max_per_address=2)
    callers = entered(place, *["10.0.0.1"] * 5, "10.0.0.2", None, busy=True)
    assert [each.spare is not None for each in callers] == [False] * 2 + [True] * 3 + [False] * 2
    for each in [*callers[2:], *callers[2:]]:  # the spare ones leave no gap in the address's count
        place.leave(each)
    assert entered(place, "10.0.0.1", busy=True)[0].spare
    place.leave(callers[0])
    assert entered(place, "10.0.0.1", busy=True)[0].spare is None
    for held in list(place._held):
        place.leave(held)
    assert place._all.count == place._spare.count == len(place._addresses) == 0


def test_a_fault_in_one_check_does_not_end_the_watch() -> None:
    async def watched() -> tuple[Caller, Caller]:
        place = admission(idle_timeout_s=0.01)
        bad, good = Caller(None), Caller("10.0.0.1")
        place.enter(bad)
        place.enter(good)
        watch = asyncio.create_task(place.sweep())
        await asyncio.sleep(0.1)
        watch.cancel()
        return bad, good

    bad, good = asyncio.run(watched())
    assert (bad.checks, bad.aborted) == (1, True)
    assert good.checks > 1


def test_the_cap_follows_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def limited(files: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
        place = Admission(ConnectionsConfig(max_connections=1000))
        place.fit_open_files()
        return place.most

    monkeypatch.setattr("os.listdir", lambda _: ["0"] * 30)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with caplog.at_level(logging.WARNING, "seqloom.serving"):
        assert limited(100_000) == limited(resource.RLIM_INFINITY) == 1000
        assert caplog.records == []
        assert limited(100) == 16
        assert [record.args for record in caplog.records] == [(16, 1000, 100)]
    with pytest.raises(ServingError, match="limit of open files is 80"):
        limited(80)


def test_a_proxy_is_an_address_or_a_network() -> None:
    with pytest.raises(ConfigError, match=r"connections\.trusted_proxies.*nginx"):
        ServerConfig.build({"connections": {"trusted_proxies": ["nginx"]}})
