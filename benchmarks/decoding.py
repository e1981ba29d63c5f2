"""Constrained beam search beside `generate` with `prefix_allowed_tokens_fn`.

`python -m benchmarks decoding --idgenrec RUN`: both sides see the same model, prompts and prefix tree, mask
nothing, and list ten items. The library's probabilities are over the model's whole vocabulary, ours over the
tokens of IDs, so its lists may differ a little; the agreement with exact scores is what
`seqloom evaluate RUN --exact` reports.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory
from seqloom.llm.prefix_tree import PAD
from seqloom.llm.text_model import END
from seqloom.runs.folder import load_run

TOP, BEAMS, USERS, QUICK_USERS = 10, 20, 64, 16


def run(folder: Path, idgenrec: Path, quick: bool = False) -> list[Result]:
    """Time both on the run `idgenrec`."""
    keep_freed_memory()
    users = QUICK_USERS if quick else USERS
    run = load_run(idgenrec)
    system = run.system
    held_out = run.dataset().held_out("test")
    rows = torch.linspace(0, len(held_out.users) - 1, users).long()
    batch = held_out.histories.select(rows).pad(system.max_len).to(run.device)
    scorer = system.over(system.ids[1:])
    scorer._num_beams = BEAMS
    ours, seconds, cpu = timed(lambda: scorer.best(batch.items, batch.lengths, TOP)[0], run.device)
    library = Library(system)
    theirs, library_seconds, library_cpu = timed(
        lambda: library.best(batch.items, BEAMS), run.device
    )
    same = [len(set(a) & set(b)) / TOP for a, b in zip(ours.tolist(), theirs, strict=True)]
    notes = {
        "run": f"{idgenrec.name}, {scorer.num_items:,} items, {users} users, {BEAMS} beams",
        "device": str(run.device),
        "items in common": f"{sum(same) / len(same):.3f}",
        "processor time": f"{cpu:.2f} s and {library_cpu:.2f} s",
    }
    return [
        Result(
            "Constrained beam search",
            Measurement("seqloom", "ms a user", [1000 * seconds / users]),
            Measurement("transformers' generate", "ms a user", [1000 * library_seconds / users]),
            notes=notes,
        )
    ]


def timed(work: Any, device: torch.device) -> tuple[Any, float, float]:
    """The result, seconds of a second call, and seconds of processor time of it."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    started, cpu = time.perf_counter(), time.process_time()
    found = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return found, time.perf_counter() - started, time.process_time() - cpu


class Library:
    """The library's beam search over a dictionary of prefixes, with the model's own tokens."""

    def __init__(self, system: Any) -> None:
        self.system, self.model = system, system.recommender
        self.outputs = self.model.output_tokens.tolist()
        self.end = self.outputs[END]
        self.items: dict[tuple[int, ...], int] = {}
        self.children: dict[tuple[int, ...], list[int]] = {}
        for item, row in enumerate(system.ids[1:].tolist(), start=1):
            tokens = tuple(self.outputs[number] for number in row if number != PAD)
            self.items[tokens] = item
            for place in range(len(tokens)):
                after = self.children.setdefault(tokens[:place], [])
                if tokens[place] not in after:
                    after.append(tokens[place])

    @torch.inference_mode()
    def best(self, items: Tensor, beams: int) -> list[list[int]]:
        """The ten best items of each history."""
        which = torch.full((len(items),), self.system.config.template, device=items.device)
        prompts = self.system.builder(self.system.table, items, which)
        tokens, mask = prompts.tokens, prompts.mask
        network = self.model.network
        start = 1
        if not network.config.is_encoder_decoder:  # the library wants padding on the left
            order = mask.long().argsort(dim=1, stable=True)
            tokens, mask = tokens.gather(1, order), mask.gather(1, order)
            start = tokens.shape[1]

        def allowed(_row: int, sequence: Tensor) -> list[int]:
            return self.children.get(tuple(sequence[start:].tolist()), [self.end])

        found = network.generate(
            input_ids=tokens,
            attention_mask=mask.long(),
            num_beams=beams,
            num_return_sequences=TOP,
            do_sample=False,
            length_penalty=0.0,
            max_new_tokens=max(map(len, self.items)),
            prefix_allowed_tokens_fn=allowed,
            eos_token_id=self.end,
            pad_token_id=self.end,
            bos_token_id=None,
        )
        lists: list[list[int]] = [[] for _ in range(len(items))]
        for number, sequence in enumerate(found[:, start:].tolist()):
            cut = tuple(sequence[: sequence.index(self.end) + 1]) if self.end in sequence else ()
            lists[number // TOP].append(self.items.get(cut, 0))
        return lists
