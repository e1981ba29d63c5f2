"""E4SRec: a frozen language model that reads item-ID embeddings (arXiv 2312.02443)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.core.progress import Progress
from seqloom.core.protocols import KnownItems, RowsOf
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.nn.attention import last_position
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.new_items import InferredRows
from seqloom.systems.e4srec.phases import CausalPhase, PromptPhase
from seqloom.systems.e4srec.reader import HistoryReader, embed
from seqloom.systems.e4srec.scorer import E4SRecScorer

_WHOLE = "reader.projection."


class E4SRec(System[E4SRecConfig]):
    """score(u, i) = h_u . w_i: the language model's last state and a row of the score head.

    Trained: the projection of the ID embeddings, LoRA adapters, the head. The ID embeddings and the
    language model are frozen; the latter is shared by all systems of the process and not part of the
    state, so a run is a small plug-in.

    Source: E4SRec (arXiv 2312.02443), section 3.3.
    Differs: by default every position of a history is a target of one causal pass, in place of a prompt
    for each target (`mode`), so the response mark of the prompt's template does not stand between the
    history and the prediction; projection and head start from the ID embeddings in place of at random
    (`start`); the ID embeddings are scaled to mean square 1 (`scale_ids`); dropout on projected IDs and
    states (`dropout`), weight decay (`weight_decay`), and early stopping (`patience`), which the paper
    does not have; the weights are those of the best validation. The paper's form is
    configs/e4srec/paper.yaml.
    """

    name: ClassVar[str] = "e4srec"
    config_class: ClassVar[type[E4SRecConfig]] = E4SRecConfig
    uses_ids: ClassVar[bool] = True
    shards: ClassVar = "frozen"
    new_items_by: ClassVar = "embedding"
    location_keys: ClassVar = frozenset({"llm.name"})
    ids: Tensor

    def __init__(self, config: E4SRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if not sizes.id_size:
            raise ConfigError("e4srec needs ID embeddings; it is trained by `seqloom train`")
        self.base = load_shared_base(config.llm)
        self.register_buffer("ids", torch.zeros(sizes.num_items, sizes.id_size))
        self.reader = HistoryReader(
            Adapter(self.base, config.lora if config.train_adapter else None),
            sizes.id_size,
            config.prompt.instruction,
            respond=config.mode == "prompt",
            dropout=config.dropout,
        )
        self.head = nn.Parameter(torch.zeros(sizes.num_items, self.base.width))

    @classmethod
    def load_shared(cls, config: E4SRecConfig, progress: Progress) -> SharedBase:
        """The language model.

        Raises:
            AssetError: it cannot be found or read.
            ConfigError: `llm` or `lora` asks for what it has not.
        """
        base = load_shared_base(config.llm, progress)
        if config.train_adapter:
            base.targets(config.lora)
        return base

    @property
    def max_len(self) -> int:
        """The longest history that is read."""
        return self.config.max_len

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The frozen ID embeddings."""
        return frozenset({"ids"})

    @property
    def uses_language_model(self) -> bool:
        """It is one."""
        return True

    def base_reference(self) -> dict[str, Any]:
        """The language model that the plug-in fits."""
        return self.base.reference.model_dump(mode="json")

    def saved_state(self) -> dict[str, Tensor]:
        """The plug-in in half precision; the projection, which is small and comes first, in full."""
        return {
            name: value if name.startswith(_WHOLE) else value.half()
            for name, value in self.state_dict().items()
        }

    @torch.no_grad()
    def initialise(self, data: TrainingData) -> None:
        """Take the ID embeddings, scaled to mean square 1 if wanted, and start projection and head."""
        if data.ids is None:
            raise ConfigError("e4srec needs ID embeddings; it is trained by `seqloom train`")
        size = data.ids.square().mean().sqrt()
        unit = (data.ids / size).to(self.ids)
        self.ids.copy_(unit if self.config.scale_ids else data.ids)
        projection, width = self.reader.projection, self.base.width
        nn.init.zeros_(projection.bias)
        if self.config.start == "random":
            nn.init.xavier_uniform_(projection.weight)
            nn.init.normal_(self.head, std=0.02)
            return
        rotation = _orthonormal(self.sizes.id_size, width)  # [d, D]
        tokens = self.base.backbone.get_input_embeddings().weight
        token_size = tokens.float().square().mean().sqrt()
        # An ID then looks to the language model as large as one of its words.
        projection.weight.copy_(rotation.t() * token_size * (width / self.sizes.id_size) ** 0.5)
        if not self.config.scale_ids:
            projection.weight.div_(size)
        states = self._instruction_states()
        spread = states.square().mean().sqrt() * self.sizes.id_size**0.5
        self.head.copy_(unit @ rotation / spread)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """One phase: next items at every position, or a prompt for each."""
        causal = self.config.mode == "causal"
        return [CausalPhase(self, data) if causal else PromptPhase(self, data)]

    def scorer(self) -> E4SRecScorer:
        """The head's rows, and the instruction read once."""
        return E4SRecScorer(self, self.ids, self.head.detach())

    def item_tables(self) -> dict[str, Tensor]:
        """See `ExtendsCatalogue`: the rows that are read and those that score."""
        return {"ids": self.ids, "head": self.head.detach()}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """See `ExtendsCatalogue` and `e4srec.new_items`."""
        return InferredRows(self.item_tables(), known)

    def scorer_over(self, tables: Mapping[str, Tensor]) -> E4SRecScorer:
        """See `ExtendsCatalogue`."""
        return E4SRecScorer(self, tables["ids"], tables["head"])

    def shard(self, device: torch.device) -> None:
        """Spread the frozen weights; what is trained stays whole, and so does the state."""
        self.base.shard(device)

    def states(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The state at every item; for mode causal alone. Shapes: [B, L], [B] -> [B, L, D]."""
        states: Tensor = self.reader(embed(items, self.ids), lengths)
        return states

    def last_states(
        self, items: Tensor, lengths: Tensor, prefix: Any = None, ids: Tensor | None = None
    ) -> Tensor:
        """The state after each history; `ids` are the ID embeddings of a longer catalogue.

        Shapes: items [B, L], lengths [B], ids [N + M, d] -> [B, D].
        """
        embedded = embed(items, self.ids if ids is None else ids)
        states = self.reader(embedded, lengths, prefix)
        return states if self.reader.respond else last_position(states, lengths)

    def _instruction_states(self) -> Tensor:
        """Typical states of the language model. Shapes: -> [T, D]."""
        tokens = self.base.embed(self.base.tokenizer(self.config.prompt.instruction)["input_ids"])
        states: Tensor = self.reader.adapter.eval().run(tokens[None]).last_hidden_state[0].float()
        return states

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> E4SRec:
        """Take the language model along to another device."""
        self.base.move_to(fn(torch.empty(0, device=self.head.device)).device)
        super()._apply(fn, recurse)
        return self


def _orthonormal(rows: int, columns: int) -> Tensor:
    """[rows, columns], a random rotation: orthonormal along the shorter side."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
