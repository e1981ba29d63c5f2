"""A chat model behind an OpenAI-compatible endpoint that answers with JSON of a given schema."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import httpx

from seqloom.core.errors import LanguageModelError
from seqloom.hub.endpoint import (
    AnswerLimits,
    RetryPolicy,
    Throttle,
    endpoint_url,
    environment,
    open_client,
    post_json,
    shown_url,
)
from seqloom.llm.budget import Budget

URL_VARIABLES = ("SEQLOOM_CHAT_URL", "OPENAI_BASE_URL")
KEY_VARIABLES = ("SEQLOOM_CHAT_KEY", "OPENAI_API_KEY")
_OVERHEAD = 64
"""Tokens that a chat template adds, at most."""


class ChatModel:
    """The model `model` of an OpenAI-compatible `/v1/chat/completions`.

    Base URL and key come from the environment (`SEQLOOM_CHAT_URL`, `SEQLOOM_CHAT_KEY`, else
    `OPENAI_BASE_URL`, `OPENAI_API_KEY`). No other address is called: redirects are errors.

    Raises:
        ConfigError: no base URL is set, or it is not an http(s) URL.
    """

    def __init__(self, model: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.model = model
        self._url = endpoint_url(
            environment(URL_VARIABLES), "/chat/completions", URL_VARIABLES[0], KEY_VARIABLES[0]
        )
        self._transport = transport
        self._throttle = Throttle(None)

    @property
    def name(self) -> str:
        """The model as it is named in options."""
        return f"openai:{self.model}"

    @cached_property
    def _client(self) -> tuple[httpx.Client, str]:
        return open_client(environment(KEY_VARIABLES), self._url, transport=self._transport)

    def answer(
        self, system: str, user: str, schema: dict[str, Any], most_tokens: int, budget: Budget
    ) -> dict[str, Any]:
        """Asks for a JSON object of a schema, within a budget.

        A text has no more tokens than UTF-8 bytes, so a call that is reserved cannot exceed the budget of an
        endpoint that keeps to `max_tokens`.

        Raises:
            LanguageModelError: the budget does not allow it, the endpoint fails, or its answer is no JSON
                object.
        """
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user},
            ],
            "max_tokens": most_tokens,
            "temperature": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
        }
        texts = (system, user, json.dumps(schema))
        reserved = (sum(len(text.encode()) for text in texts) + _OVERHEAD, most_tokens)
        budget.reserve(*reserved)
        used = reserved  # a call that breaks may have been paid for
        try:
            reply = self._post(body, budget)
            used = _usage(reply, reserved)
        finally:
            budget.settle(reserved, used)
        return _content(reply, self.name)

    def _post(self, body: dict[str, Any], budget: Budget) -> Any:
        client, url = self._client
        return post_json(
            client,
            url,
            body,
            RetryPolicy(retries=0, longest_wait_s=0),
            self._throttle,
            f"{shown_url(self._url)} (model {self.model})",
            environment(KEY_VARIABLES),
            failed=LanguageModelError,
            advice="the list stays as it was",
            limits=AnswerLimits(max(budget.seconds_left, 0.001)),
        )


def _usage(reply: Any, bound: tuple[int, int]) -> tuple[int, int]:
    """Tokens that the endpoint counted; the bound where it does not say."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = [
        usage.get(n) if isinstance(usage, dict) else None
        for n in ("prompt_tokens", "completion_tokens")
    ]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return bound
    return counts[0], counts[1]  # type: ignore[return-value]


def _content(reply: Any, where: str) -> dict[str, Any]:
    try:
        answer = json.loads(reply["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        raise LanguageModelError(f"{where} did not answer with JSON of the schema") from None
    if not isinstance(answer, dict):
        raise LanguageModelError(f"{where} did not answer with a JSON object")
    return answer
