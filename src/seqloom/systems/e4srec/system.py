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
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.systems.base import TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.model import E4SRecModel
from seqloom.systems.e4srec.new_items import InferredRows
from seqloom.systems.e4srec.phases import CausalPhase, PromptPhase
from seqloom.systems.e4srec.scorer import E4SRecScorer

_WHOLE = "reader.projection."


class E4SRec(E4SRecModel):
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

    @classmethod
    def load_shared(cls, config: E4SRecConfig, progress: Progress) -> SharedBase:
        """Loads the language model.

        Raises:
            AssetError: it cannot be found or read.
            ConfigError: it lacks layers or modules that `llm` or `lora` name.
        """
        base = load_shared_base(config.llm, progress)
        if config.train_adapter:
            base.targets(config.lora)
        return base

    @property
    def fixed_entries(self) -> frozenset[str]:
        """The frozen ID embeddings."""
        return frozenset({"ids"})

    @property
    def uses_language_model(self) -> bool:
        """Always true."""
        return True

    def base_reference(self) -> dict[str, Any]:
        """Returns the identity of the language model."""
        return self.base.reference.model_dump(mode="json")

    def saved_state(self) -> dict[str, Tensor]:
        """Returns the plug-in in half precision, but the projection, which is small, in full."""
        return {
            name: value if name.startswith(_WHOLE) else value.half()
            for name, value in self.state_dict().items()
        }

    @torch.no_grad()
    def initialise(self, data: TrainingData) -> None:
        """Copies the ID embeddings, scaled if configured, and initialises projection and head."""
        if data.ids is None:
            raise ConfigError("e4srec needs ID embeddings; train it with `seqloom train`")
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
        # A projected ID then has the norm of a word embedding.
        projection.weight.copy_(rotation.t() * token_size * (width / self.sizes.id_size) ** 0.5)
        if not self.config.scale_ids:
            projection.weight.div_(size)
        states = self._instruction_states()
        # Scores then have a standard deviation of about 1.
        spread = states.square().mean().sqrt() * self.sizes.id_size**0.5
        self.head.copy_(unit @ rotation / spread)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns one phase: next items at every position, or a prompt for each target."""
        causal = self.config.mode == "causal"
        return [CausalPhase(self, data) if causal else PromptPhase(self, data)]

    def scorer(self) -> E4SRecScorer:
        """Returns a scorer with the present weights."""
        return E4SRecScorer(self, self.ids, self.head.detach())

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the ID embeddings and the head; see `ExtendsCatalogue`."""
        return {"ids": self.ids, "head": self.head.detach()}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns a function that infers rows; see `ExtendsCatalogue`."""
        return InferredRows(self.item_tables(), known)

    def scorer_over(self, tables: Mapping[str, Tensor]) -> E4SRecScorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        return E4SRecScorer(self, tables["ids"], tables["head"])

    def shard(self, device: torch.device) -> None:
        """Shards the frozen weights; trained weights and the state stay whole."""
        self.base.shard(device)

    def _instruction_states(self) -> Tensor:
        """Returns the states of the instruction, as typical ones. Shapes: -> [T, D]."""
        tokens = self.base.embed(self.base.tokenizer(self.config.prompt.instruction)["input_ids"])
        states: Tensor = self.reader.adapter.eval().run(tokens[None]).last_hidden_state[0].float()
        return states


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Returns a random matrix that is orthonormal along its shorter side. Shapes: -> [rows, columns]."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
