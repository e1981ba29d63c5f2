"""Scores candidates by a local causal language model: how much a history makes a title likelier."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from seqloom.core.device import resolve_device
from seqloom.core.files import sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.llm.budget import Budget
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.reranking.judges import AnswerCache
from seqloom.llm.reranking.prompts import history_prompt
from seqloom.nn.linear import use_onednn

_MOST_TITLE_TOKENS = 48
_MOST_PROMPT_TOKENS = 1024
_AT_ONCE = 16


class LikelihoodJudge:
    """score(title) = log p(title | history) - log p(title | no history), a pointwise mutual information.

    The second part takes away what makes a title likely anywhere: short, common or repetitive words. Each
    title is scored by itself, so none can affect another's score. The model is loaded at the first call.
    """

    def __init__(
        self,
        name: str,
        cache: AnswerCache,
        *,
        device: str = "auto",
        progress: Progress = SILENT,
    ) -> None:
        self.name = name
        self._cache = cache
        self._device = resolve_device(device)
        self._progress = progress
        self._lock = threading.Lock()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        model, tokenizer = load_causal_lm(self.name, device=self._device, progress=self._progress)
        if self._device.type == "cpu":
            use_onednn(model)
        return model, tokenizer

    def scores(
        self, history: Sequence[str], candidates: Sequence[str], budget: Budget
    ) -> list[float]:
        """See `Judge`. One request at a time computes; the others wait within their budgets."""
        if not self._lock.acquire(timeout=max(budget.seconds_left, 0.0)):
            budget.check_time()
        try:
            after = self._log_likelihoods(history, candidates, budget)
            before = self._log_likelihoods((), candidates, budget)
        finally:
            self._lock.release()
        return [a - b for a, b in zip(after, before, strict=True)]

    def _log_likelihoods(
        self, history: Sequence[str], titles: Sequence[str], budget: Budget
    ) -> list[float]:
        """Log-likelihood of each title after a history, from the cache where it is there."""
        keys = [sha256_text(self.name, *history, "", title) for title in titles]
        known: dict[str, float] = {}
        for key in dict.fromkeys(keys):
            kept = self._cache.get(key, budget)
            if kept is not None:
                known[key] = kept
        distinct = dict(zip(keys, titles, strict=True))
        missing = [(key, title) for key, title in distinct.items() if key not in known]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            values = self._compute(history_prompt(history), [title for _, title in part], budget)
            for (key, _), value in zip(part, values, strict=True):
                known[key] = value
                self._cache.put(key, value)
        return [known[key] for key in keys]

    @torch.inference_mode()
    def _compute(self, prompt: str, titles: Sequence[str], budget: Budget) -> list[float]:
        model, tokenizer = self._loaded
        start = tokenizer(prompt)["input_ids"][-_MOST_PROMPT_TOKENS:]
        rows = [
            tokenizer(f" {title}", add_special_tokens=False)["input_ids"][:_MOST_TITLE_TOKENS]
            for title in titles
        ]
        used = (len(start) + sum(map(len, rows)), 0)
        budget.reserve(*used)
        try:
            return self._forward(model, start, rows)
        finally:
            budget.settle(used, used)

    def _forward(self, model: Any, start: list[int], rows: Sequence[list[int]]) -> list[float]:
        """Sums the log-probabilities of each row's tokens after `start`, which is computed once."""
        first = model(torch.tensor([start], device=self._device), use_cache=True)
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self._device)
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        real = torch.arange(width, device=self._device) < lengths[:, None]  # [B, T]
        past = copy.deepcopy(first.past_key_values)
        past.batch_repeat_interleave(len(rows))
        mask = torch.cat([real.new_ones(len(rows), len(start)), real], 1).long()
        rest = model(tokens, past_key_values=past, attention_mask=mask).logits  # [B, T, V]
        begin = first.logits[:, -1:].expand(len(rows), -1, -1)
        logits = torch.cat([begin, rest[:, :-1]], 1).float()
        logs = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        return _sums(logs, real)


def _sums(logs: Tensor, real: Tensor) -> list[float]:
    """Shapes: [B, T], [B, T] -> B numbers."""
    sums: list[float] = logs.masked_fill(~real, 0.0).sum(1).tolist()
    return sums
