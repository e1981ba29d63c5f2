"""Metrics of the server for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms, fed by the middleware, the endpoints and the engine (as its observer)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "seqloom_http_requests", "Requests", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "seqloom_http_request_seconds", "Time to answer", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.in_flight = Gauge(
            "seqloom_http_requests_in_flight", "Requests being answered", registry=registry
        )
        self._connections = Gauge("seqloom_http_connections", "Connections", registry=registry)
        self._ended = Counter(
            "seqloom_http_connections_ended", "Connections that the server ended", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._sizes = Histogram(
            "seqloom_batch_size", "Queries scored together", ["model"],
            buckets=_SIZES, registry=registry,
        )  # fmt: skip
        self._waits = Histogram(
            "seqloom_queue_wait_seconds", "Wait of a batch's oldest query", ["model"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._took = Histogram(
            "seqloom_batch_seconds", "Time to score a batch", ["model"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._reloads = Counter(
            "seqloom_reloads", "Model reloads", ["model", "result"], registry=registry
        )
        self._store_errors = Counter(
            "seqloom_store_errors", "Failures of the store", ["operation"], registry=registry
        )
        self._events = Counter("seqloom_events", "Events kept", registry=registry)
        self._fallbacks = Counter(
            "seqloom_fallbacks", "Lists of popular items in place of a model's", ["model"],
            registry=registry,
        )  # fmt: skip
        self._steps = Counter(
            "seqloom_cascade_steps",
            "Models of the cascade",
            ["model", "outcome"],
            registry=registry,
        )

    def watch(
        self,
        waiting: Callable[[], Mapping[str, int]],
        versions: Callable[[], Mapping[str, tuple[str, str]]],
        recalls: Callable[[], Mapping[str, float]],
    ) -> None:
        """Registers live values: queue lengths, (version, system) of each model, recall of
        approximate searches."""
        self.registry.register(_Live(waiting, versions, recalls))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Records an answered request."""
        key = (route, method, status)
        series = self._series.get(key)
        if series is None:
            count = self._requests.labels(route, method, str(status))
            series = self._series[key] = (count, self._seconds.labels(route))
        series[0].inc()
        series[1].observe(seconds)

    def connections(self, count: int) -> None:
        """See `seqloom.serving.admission.ConnectionObserver`."""
        self._connections.set(count)

    def connection_ended(self, reason: str) -> None:
        """See `seqloom.serving.admission.ConnectionObserver`."""
        self._ended.labels(reason).inc()

    def batch(self, model: str, size: int, waited_s: float, took_s: float) -> None:
        """See `Observer`."""
        self._sizes.labels(model).observe(size)
        self._waits.labels(model).observe(waited_s)
        self._took.labels(model).observe(took_s)

    def reload(self, model: str, ok: bool) -> None:
        """See `Observer`."""
        self._reloads.labels(model, "ok" if ok else "failed").inc()

    def store_error(self, what: str) -> None:
        """See `Observer`."""
        self._store_errors.labels(what).inc()

    def events(self, count: int) -> None:
        """Records stored events."""
        self._events.inc(count)

    def fallback(self, model: str) -> None:
        """Records a list of popular items in place of a model's."""
        self._fallbacks.labels(model).inc()

    def step(self, model: str, outcome: str) -> None:
        """Records the outcome of a model of the cascade."""
        self._steps.labels(model, outcome).inc()

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Live(Collector):
    """Values that are read at each scrape."""

    def __init__(
        self,
        waiting: Callable[[], Mapping[str, int]],
        versions: Callable[[], Mapping[str, tuple[str, str]]],
        recalls: Callable[[], Mapping[str, float]],
    ) -> None:
        self._waiting = waiting
        self._versions = versions
        self._recalls = recalls

    def collect(self) -> list[Metric]:
        queue = GaugeMetricFamily("seqloom_queue_length", "Queries that wait", labels=["model"])
        for model, length in self._waiting().items():
            queue.add_metric([model], length)
        info = GaugeMetricFamily(
            "seqloom_model_info", "Served models", labels=["model", "version", "system"]
        )
        for model, (version, system) in self._versions().items():
            info.add_metric([model, version, system], 1)
        recall = GaugeMetricFamily(
            "seqloom_search_recall",
            "Recall of an approximate search, as measured",
            labels=["model"],
        )
        for model, share in self._recalls().items():
            recall.add_metric([model], share)
        return [queue, info, recall]
