"""The yardstick of decoding: transformers' `generate` with `prefix_allowed_tokens_fn`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.plain import as_library
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END


class LibraryBeam:
    """The library's beam search over a dictionary of prefixes, with the model's own tokens."""

    def __init__(self, system: Any, top: int) -> None:
        """`system` is an IDGenRec; lists have `top` items."""
        self.system, self.model, self.top = system, system.recommender, top
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
    def best(self, items: Tensor, beams: int, batch_size: int) -> list[list[int]]:
        """The best items of each history. Shapes: items [B, L]."""
        with as_library(self.model):
            return [row for part in items.split(batch_size) for row in self._batch(part, beams)]

    def _batch(self, items: Tensor, beams: int) -> list[list[int]]:
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

        generated = network.generate(
            input_ids=tokens,
            attention_mask=mask.long(),
            num_beams=beams,
            num_return_sequences=self.top,
            do_sample=False,
            length_penalty=0.0,
            max_new_tokens=max(map(len, self.items)),
            prefix_allowed_tokens_fn=allowed,
            renormalize_logits=self.system.config.likelihood == "catalogue",
            eos_token_id=self.end,
            pad_token_id=self.end,
            bos_token_id=None,
            # A pruned network renumbers its tokens; its stored generation flags may name the old number.
            decoder_start_token_id=getattr(network.config, "decoder_start_token_id", None),
        )
        lists: list[list[int]] = [[] for _ in range(len(items))]
        for number, sequence in enumerate(generated[:, start:].tolist()):
            cut = tuple(sequence[: sequence.index(self.end) + 1]) if self.end in sequence else ()
            lists[number // self.top].append(self.items.get(cut, 0))
        return lists
