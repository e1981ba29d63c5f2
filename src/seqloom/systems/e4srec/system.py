"""E4SRec: a frozen language model that reads item-ID embeddings (arXiv 2312.02443)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.core.phase import Phase
from seqloom.core.progress import Progress
from seqloom.core.protocols import KnownItems, RowsOf, VectorScorer
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.systems.base import Member, TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.model import E4SRecModel
from seqloom.systems.e4srec.new_items import InferredRows
from seqloom.systems.e4srec.phases import CausalPhase, PromptPhase
from seqloom.systems.e4srec.scorer import E4SRecScorer
from seqloom.systems.score_sum import MemberScorer, VectorEnsembleScorer
from seqloom.systems.sequence import DotProductScorer, SequenceSystem
from seqloom.systems.stored_member import StoredMember, build_member, store_member
from seqloom.systems.tail_blend import SCORE_BLENDS, BlendPhase

_WHOLE = "reader.projection."
_GIVER = "giver"


class E4SRec(E4SRecModel):
    """score(u, i) = g(u, i) + b h_u . w_i: the giver's score, and the language model's last state times a
    row of the score head.

    The giver g is the recommender that the IDs come from. It is trained, and part of the run; b is chosen
    on validation, 0 included, so the language model has to add to what its giver knows.

    Trained: the projection of the ID embeddings, LoRA adapters, the head. The ID embeddings and the
    language model are frozen; the latter is shared by all systems of the process and not part of the
    state, so a run is a small plug-in.

    Source: E4SRec (arXiv 2312.02443), section 3.3.
    Differs: the authors do not add the giver's score (`add_giver`); by default every position of a history
    is a target of one causal pass, in place of a prompt for each target (`mode`), so the response mark of
    the prompt's template does not stand between the history and the prediction; projection and head start
    from the ID embeddings in place of at random (`start`); the ID embeddings are scaled to mean square 1
    (`scale_ids`); dropout on projected IDs and states (`dropout`), weight decay (`weight_decay`), and early
    stopping (`patience`), which the paper does not have; the weights are those of the best validation. The
    paper's form is configs/e4srec/paper.yaml.
    """

    name: ClassVar[str] = "e4srec"
    config_class: ClassVar[type[E4SRecConfig]] = E4SRecConfig
    uses_ids: ClassVar[bool] = True
    shards: ClassVar = "frozen"
    new_items_by = "embedding"
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
        """The frozen ID embeddings, and the giver."""
        giver = () if self.giver is None else self.giver.state_dict()
        scale = {"id_scale"} if self.config.add_giver else set()
        return frozenset({"ids", *scale, *(f"giver.{name}" for name in giver)})

    @property
    def uses_language_model(self) -> bool:
        """Always true."""
        return True

    def base_reference(self) -> dict[str, Any]:
        """Returns the identity of the language model."""
        return self.base.reference.model_dump(mode="json")

    def saved_state(self) -> dict[str, Tensor]:
        """Returns the plug-in in half precision; the projection and scalars in full, the giver as it stores
        itself."""
        state = {
            name: value if name.startswith(_WHOLE) or not value.ndim else value.half()
            for name, value in self.state_dict().items()
            if not name.startswith("giver.")
        }
        if self.giver is not None:
            state |= {f"giver.{name}": value for name, value in self.giver.saved_state().items()}
        return state

    def write_files(self, folder: Path) -> None:
        """Writes a description of the giver, and its files."""
        if self.giver is not None:
            stored = store_member(Member(self.giver_name, self.giver), folder / _GIVER)
            write_json(folder / f"{_GIVER}.json", stored.model_dump(mode="json"))

    def read_files(self, folder: Path) -> None:
        """Builds the giver; its weights are loaded afterwards."""
        if self.config.add_giver:
            stored = StoredMember.build(read_json(folder / f"{_GIVER}.json", "giver of the IDs"))
            self._take(build_member(stored, folder / _GIVER))

    @torch.no_grad()
    def initialise(self, data: TrainingData) -> None:
        """Copies the ID embeddings, scaled if configured, and initialises projection and head."""
        if data.ids is None:
            raise ConfigError("e4srec needs ID embeddings; train it with `seqloom train`")
        size = data.ids.square().mean().sqrt()
        unit = (data.ids / size).to(self.ids)
        self.ids.copy_(unit if self.config.scale_ids else data.ids)
        if self.config.add_giver and data.giver is not None:
            self._take(data.giver)
            self.id_scale.copy_(size if self.config.scale_ids else torch.ones(()))
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
        """Returns one phase, next items at every position or a prompt for each target, and the choice of
        the language model's weight."""
        causal = self.config.mode == "causal"
        phase = CausalPhase(self, data) if causal else PromptPhase(self, data)
        if self.giver is None:
            return [phase]
        return [phase, BlendPhase("blend", self, "blend", SCORE_BLENDS)]

    def scorer(self) -> VectorScorer:
        """Returns a scorer with the present weights."""
        return self.scorer_over(self.item_tables())

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the ID embeddings and the head; see `ExtendsCatalogue`."""
        return {"ids": self.ids, "head": self.head.detach()}

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns a function that infers rows; see `ExtendsCatalogue`.

        Raises:
            ConfigError: the giver does not encode histories of new items.
        """
        if self.giver is not None and not isinstance(self.giver, SequenceSystem):
            raise ConfigError(
                f"the giver of the IDs is a run of {self.giver.name}, which takes no new items here; train "
                "with add_giver=false"
            )
        return InferredRows(self.item_tables(), known)

    def scorer_over(self, tables: Mapping[str, Tensor]) -> VectorScorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        read = E4SRecScorer(self, tables["ids"], tables["head"])
        if self.giver is None:
            return read
        given: VectorScorer
        if isinstance(self.giver, SequenceSystem):
            given = DotProductScorer(self.giver, tables["ids"] * self.id_scale)
        else:
            given = cast(VectorScorer, self.giver.scorer())
        return VectorEnsembleScorer(
            [MemberScorer(given, self.giver.max_len), MemberScorer(read, self.max_len)],
            torch.stack([torch.ones_like(self.blend), self.blend]),
        )

    def view_columns(self) -> dict[str, slice]:
        """Returns the columns of giver and language model in the vectors."""
        if self.giver is None:
            return {}
        width = self.sizes.id_size
        return {
            "giver": slice(0, width),
            "language model": slice(width, width + self.base.width),
        }

    def _take(self, giver: Member) -> None:
        self.giver_name, self.giver = giver.name, giver.system.eval().requires_grad_(False)

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
