"""Encodes texts with an OpenAI-compatible `/v1/embeddings` endpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import httpx
import torch
from torch import Tensor

from seqloom.core.errors import EmbeddingError
from seqloom.hub.endpoint import (
    RetryPolicy,
    Throttle,
    endpoint_url,
    environment,
    open_client,
    post_json,
    shown_url,
)

URL_VARIABLES = ("SEQLOOM_EMBEDDINGS_URL", "OPENAI_BASE_URL")
_INTERACTIVE = RetryPolicy(retries=1, first_wait_s=0.2, longest_wait_s=1.0, timeout_s=5.0)
_AGAIN = "run the same command again when it is available, finished texts are kept"
KEY_VARIABLES = ("SEQLOOM_EMBEDDINGS_KEY", "OPENAI_API_KEY")


class EndpointEncoder:
    """The model `model` of an OpenAI-compatible endpoint.

    The base URL and the optional key come from the environment (`SEQLOOM_EMBEDDINGS_URL`,
    `SEQLOOM_EMBEDDINGS_KEY`, else `OPENAI_BASE_URL`, `OPENAI_API_KEY`). The key is sent only in the
    request's header and stored nowhere. `concurrency` requests run at a time, and at most
    `requests_per_minute` start in a minute.

    Raises:
        ConfigError: no base URL is set, or it is not an http(s) URL.
    """

    def __init__(
        self,
        model: str,
        *,
        batch_size: int = 128,
        requests_per_minute: float | None = None,
        concurrency: int = 4,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.truncated = 0
        self.chunk = 2 * batch_size * concurrency
        self.url = embeddings_url(environment(URL_VARIABLES))
        self._retry = retry or RetryPolicy()
        self._throttle = Throttle(requests_per_minute)
        self._transport = transport

    def interactive(self) -> EndpointEncoder:
        """Returns an encoder of the same vectors for texts that somebody waits for: few, short retries."""
        encoder = copy.copy(self)
        encoder.__dict__.pop("_client", None)
        encoder._retry = _INTERACTIVE
        return encoder

    def provenance(self) -> dict[str, Any]:
        """See `TextEncoder`. The URL is recorded without user names, passwords or queries."""
        return {"kind": "openai", "model": self.model, "url": shown_url(self.url)}

    @cached_property
    def _client(self) -> tuple[httpx.Client, str]:
        return open_client(
            environment(KEY_VARIABLES),
            self.url,
            timeout=self._retry.timeout_s,
            transport=self._transport,
        )

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`.

        Raises:
            EmbeddingError: the endpoint refuses, is unreachable after all retries, requests a longer
                pause than allowed, or does not answer with embeddings.

        Shapes: B texts -> [B, E] float32.
        """
        batches = [
            list(texts[start : start + self.batch_size])
            for start in range(0, len(texts), self.batch_size)
        ]
        pool = ThreadPoolExecutor(max_workers=self.concurrency)
        try:
            parts = list(pool.map(self._request, batches))
        finally:
            # If a request fails or the user interrupts, pending requests are cancelled.
            pool.shutdown(wait=True, cancel_futures=True)
        widths = {part.shape[1] for part in parts}
        if len(widths) > 1:
            raise EmbeddingError(f"{self._where()} returned vectors of widths {sorted(widths)}")
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _request(self, texts: list[str]) -> Tensor:
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        secret = environment(KEY_VARIABLES)
        client, url = self._client
        answer = post_json(
            client,
            url,
            body,
            self._retry,
            self._throttle,
            self._where(),
            secret,
            failed=EmbeddingError,
            advice=_AGAIN,
        )
        return read_embeddings(answer, len(texts), self._where())

    def _where(self) -> str:
        return f"{self.provenance()['url']} (model {self.model})"


def embeddings_url(base: str | None) -> str:
    """Returns the URL of embeddings under a base URL. Raises what `endpoint_url` raises."""
    return endpoint_url(base, "/embeddings", URL_VARIABLES[0], KEY_VARIABLES[0])


def read_embeddings(answer: Any, count: int, where: str) -> Tensor:
    """Reads the vectors of an endpoint's answer, in the order of the request.

    Raises:
        EmbeddingError: the answer does not hold `count` vectors of one width, one per index.

    Shapes: -> [count, E] float32.
    """
    try:
        rows = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
        if sorted(rows) != list(range(count)):
            raise EmbeddingError(f"{where} returned {len(rows)} embeddings for {count} texts")
        return torch.tensor([rows[i] for i in range(count)], dtype=torch.float32).reshape(count, -1)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EmbeddingError(
            f"{where} did not answer with embeddings ({type(error).__name__}: {error}); check that it is "
            "an OpenAI-compatible endpoint"
        ) from None
