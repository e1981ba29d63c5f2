"""Settings of a server."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from seqloom.core.config import Config
from seqloom.llm.request_options import RequestOptions
from seqloom.llm.reranking.options import RerankOptions
from seqloom.serving.engine.pictures import check_origin
from seqloom.serving.store import DEFAULT_URL


class EngineConfig(Config):
    """How requests are batched."""

    max_batch: int = Field(64, ge=1)
    """Most requests scored together."""
    max_queue: int = Field(1024, ge=1)
    """Most requests that wait for one model; further ones are rejected with 503."""
    max_wait_ms: float = Field(1.0, ge=0)
    """How long a request may wait for others to share its batch, milliseconds; only under concurrent load."""
    workers: int | None = Field(None, ge=1)
    """Threads that score; default: one less than the cores, at least one."""
    history_limit: int = Field(1000, ge=1)
    """Most recent events of a user that are read. Older ones are neither scored nor masked."""
    refresh_s: float = Field(0.3, gt=0)
    """Interval at which the store is polled for catalogue changes of other servers, seconds."""
    approximate: bool = False
    """Search an approximate index of each model's items in place of all items (needs `seqloom[ann]`). Only
    models that score by a dot product use it."""
    recall: float = Field(0.95, gt=0, le=1)
    """Share of the exact list that the approximate index is tuned to return."""
    accept_other_data: bool = False
    """Serve runs of a data set that cannot be verified to have the store's users and items. The store
    records it, so that a single start with this setting suffices."""
    budget_ms: float = Field(100.0, gt=0)
    """Latency budget of the cascade for requests without their own, milliseconds."""


class LimitsConfig(Config):
    """Limits of a request."""

    max_body_bytes: int = Field(2 << 20, ge=1024)
    """Largest request body."""
    max_k: int = Field(500, ge=1)
    """Longest list."""
    max_history: int = Field(1000, ge=1)
    """Longest history in a request."""
    max_batch: int = Field(256, ge=1)
    """Most requests in one batch request."""
    max_candidates: int = Field(10_000, ge=1)
    """Most candidates, and most excluded items."""
    max_events: int = Field(1000, ge=1)
    """Most events in one post."""
    max_text_length: int = Field(20_000, ge=1)
    """Longest text of an item's attribute, characters."""
    rate_per_s: float = Field(1000.0, gt=0)
    """Requests per second of a token without its own rate."""


class ConnectionsConfig(Config):
    """Limits of a connection, applied before its request is read."""

    max_connections: int = Field(2048, ge=8)
    """Most connections at once; fewer where the limit of open files (`ulimit -n`) is low, which is logged.
    At the limit, the connection that has been idle longest is closed for a new one."""
    max_per_address: int | None = Field(None, ge=1)
    """Most connections of one address (IPv6: of one /64 network); default: half of all. Does not
    apply to `trusted_proxies`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.0.7`, `10.0.0.0/8`) of proxies, which may open any number of
    connections."""
    max_url_bytes: int = Field(8192, ge=256)
    """Longest request target."""
    max_header_bytes: int = Field(32 << 10, ge=1024)
    """Largest head of a request: request target and headers."""
    max_headers: int = Field(100, ge=8)
    """Most headers of a request."""
    head_timeout_s: float = Field(10.0, gt=0)
    """Longest time from a connection's start, or a request's first byte, to the end of its head, seconds."""
    body_timeout_s: float = Field(10.0, gt=0)
    """Time for a request's body, seconds; each `min_bytes_per_s` bytes of it give one second more."""
    idle_timeout_s: float = Field(5.0, gt=0)
    """How long a connection is kept open after an answer for a next request, seconds."""
    send_timeout_s: float = Field(30.0, gt=0)
    """Longest time in which a client reads less than `min_bytes_per_s` of an answer, seconds."""
    min_bytes_per_s: int = Field(1024, ge=1)
    """Slowest body that is read, and slowest reader that is written to."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            ipaddress.ip_network(each, strict=False)  # the ValueError names the invalid value
        return proxies


class ServerConfig(Config):
    """All settings of a server."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 chooses a free port."""
    store: str = Field(DEFAULT_URL, repr=False)
    """URL of the store (`sqlite:///FILE`, `postgresql://...` or `redis://...`)."""
    check_store: bool = False
    """Verify the whole store before serving; do not start if it is damaged."""
    cascade: tuple[str, ...] = ()
    """Models to try in this order under the latency budget, for requests that name no model; the last
    one always answers."""
    rerank: RerankOptions = Field(default_factory=RerankOptions)
    """Reranks lists by a language model (`rerank.model`): those of the cascade, and where a request asks."""
    explain: RequestOptions = Field(default_factory=RequestOptions)
    """Words of explanations by a language model (`explain.model`) where the evidence supports them; without
    one, by templates."""
    pictures: tuple[str, ...] = ()
    """Origins (`https://images.example.com`) from which the explorer shows the pictures of items whose
    catalogue has their addresses. Browsers then contact these hosts; by default there are none."""
    import_histories: bool = True
    """Import the events of the runs' data sets into the store, each event once."""
    auth: bool | None = None
    """Require access tokens; default: yes, except on loopback."""
    drain_s: float = Field(30.0, gt=0)
    """How long a shutdown waits for accepted requests, seconds."""
    log_user_data: bool = False
    """Log paths and queries, which may contain user ids."""
    engine: EngineConfig = Field(default_factory=EngineConfig)
    """How requests are batched."""
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """Limits of a request."""
    connections: ConnectionsConfig = Field(default_factory=ConnectionsConfig)
    """Limits of a connection."""

    @field_validator("pictures")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_origin(each) for each in origins)
