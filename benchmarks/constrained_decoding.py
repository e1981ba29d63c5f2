"""Constrained beam search against `generate` with `prefix_allowed_tokens_fn`: users per second.

    python benchmarks/constrained_decoding.py RUN [--users 64] [--beams 20] [--device auto]

RUN is a run of idgenrec. Both sides see the same model, prompts and prefix tree, mask nothing, and list ten
items. The library's probabilities are over the model's whole vocabulary, ours over the tokens of IDs, so its
lists may differ a little; the agreement with exact scores is what `seqloom evaluate RUN --exact` reports.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from torch import Tensor

from seqloom.core.device import keep_freed_memory
from seqloom.llm.prefix_tree import PAD
from seqloom.llm.text_model import END
from seqloom.runs.folder import load_run

TOP = 10


def main() -> None:
    """Time both and print one JSON document."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run")
    options.add_argument("--users", type=int, default=64)
    options.add_argument("--beams", type=int, default=20)
    options.add_argument("--dataset")
    options.add_argument("--device", default="auto")
    given = options.parse_args()
    keep_freed_memory()
    run = load_run(given.run, device=given.device)
    system = run.system
    held_out = run.dataset(given.dataset).held_out("test")
    rows = torch.linspace(0, len(held_out.users) - 1, given.users).long()
    batch = held_out.histories.select(rows).pad(system.max_len).to(run.device)
    scorer = system.over(system.ids[1:])
    scorer._num_beams = given.beams
    ours, seconds, cpu = timed(lambda: scorer.best(batch.items, batch.lengths, TOP)[0], run.device)
    library = Library(system)
    theirs, library_seconds, library_cpu = timed(
        lambda: library.best(batch.items, given.beams), run.device
    )
    same = [len(set(a) & set(b)) / TOP for a, b in zip(ours.tolist(), theirs, strict=True)]
    print(
        json.dumps(
            {
                "run": given.run,
                "device": str(run.device),
                "items": scorer.num_items,
                "users": given.users,
                "beams": given.beams,
                "users_per_s": given.users / seconds,
                "library_users_per_s": given.users / library_seconds,
                "times_faster": library_seconds / seconds,
                "cpu_s": cpu,
                "library_cpu_s": library_cpu,
                "items_in_common": sum(same) / len(same),
            },
            indent=2,
        )
    )


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


if __name__ == "__main__":
    main()
