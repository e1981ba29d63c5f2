"""E4SRec: a frozen language model that reads item-ID embeddings (arXiv 2312.02443)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.core.phase import Phase
from seqloom.core.progress import Progress
from seqloom.core.protocols import KnownItems, RowsOf, VectorScorer
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.systems.base import Member, Sizes, TrainingData
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.model import E4SRecModel
from seqloom.systems.e4srec.new_items import HEAD, IDS, InferredRows, RowsByWords
from seqloom.systems.e4srec.phases import CausalPhase, PromptPhase
from seqloom.systems.e4srec.scorer import E4SRecScorer
from seqloom.systems.e4srec.text_side import TextSide
from seqloom.systems.score_sum import MemberScorer, VectorEnsembleScorer
from seqloom.systems.sequence import DotProductScorer, RankingPhase, SequenceSystem
from seqloom.systems.stored_member import StoredMember, build_member, store_member
from seqloom.systems.tail_blend import SCORE_BLENDS, RememberingBlendPhase
from seqloom.systems.texttower import VECTORS
from seqloom.systems.view_phase import TEXT_ALONE, ViewPhase, score_weights

_WHOLE = "reader.projection."
_GIVER = "giver"
BLENDS = (*SCORE_BLENDS, 5.0, 10.0)
"""Candidates for the weight beside the giver's score."""


class E4SRec(E4SRecModel):
    """score(u, i) = g(u, i) + b h_u . w_i: the giver's score, and that of the language model.

    The giver g is the recommender that the IDs come from. It is trained, and part of the run; b is chosen
    on validation, 0 included, so the language model has to add to what its giver knows.

    h_u and w_i are, with candidates=ids, the last state of the language model and a row of a score head;
    with candidates=words, a direction made of the history's text and that state, and the text vector of
    the item (`TextSide`). The text then learns first, in a phase of its own, and b is chosen after both, so
    that a language model that adds nothing to the text is left out.

    Trained: the projection of what the language model reads, LoRA adapters, the head or the words. The ID
    embeddings and the language model are frozen; the latter is shared by all systems of the process and
    not part of the state, so a run is a small plug-in.

    Source: E4SRec (arXiv 2312.02443), section 3.3.
    Differs: the authors add neither the giver's score (`add_giver`) nor text (`candidates`); by default
    every position of a history is a target of one causal pass, in place of a prompt for each target
    (`mode`), so the response mark of the prompt's template does not stand between the history and the
    prediction; projection and head start from the ID embeddings in place of at random (`start`); the ID
    embeddings are scaled to mean square 1 (`scale_ids`); dropout on projected IDs and states (`dropout`),
    weight decay (`weight_decay`), and early stopping (`patience`), which the paper does not have; the
    weights are those of the best validation. The paper's form is configs/e4srec/paper.yaml.
    """

    name: ClassVar[str] = "e4srec"
    config_class: ClassVar[type[E4SRecConfig]] = E4SRecConfig
    uses_ids: ClassVar[bool] = True
    shards: ClassVar = "frozen"
    new_items_by: Literal["embedding", "words"] | None = "embedding"
    location_keys: ClassVar = frozenset({"llm.name"})

    def __init__(self, config: E4SRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.new_items_by = "embedding" if self.text is None else "words"

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
        """The frozen ID embeddings, the giver, and the words of the items."""
        fixed = {"ids"}
        if self.config.add_giver:
            fixed.add("id_scale")
        if self.giver is not None:
            fixed |= {f"giver.{name}" for name in self.giver.state_dict()}
        if self.text is not None:
            fixed |= {f"text.tower.{name}" for name in self.text.tower.fixed_entries}
        return frozenset(fixed)

    @property
    def uses_language_model(self) -> bool:
        """Whether one takes part in the score: not where it is left out, or has the weight or the gate 0.

        The words of the text score and the recommender that gave the IDs may have one too.
        """
        own = self.config.use_llm and (self.text is None or self.text.reads_states)
        words = self.text is not None and self.text.tower.uses_language_model
        giver = self.giver is not None and self.giver.uses_language_model
        given, added = self._weights.tolist()
        return (bool(added) and (own or words)) or (bool(given) and giver)

    @property
    def reads_text(self) -> bool:
        """See `System`: as candidates' words, or through the recommender that gave the IDs."""
        giver = self.giver is not None and self.giver.reads_text
        given, added = self._weights.tolist()
        return (bool(added) and self.text is not None) or (bool(given) and giver)

    @property
    def _weights(self) -> Tensor:
        """The weights of the giver's score and of the other. Shapes: [2]."""
        return torch.tensor([0.0, 1.0]) if self.giver is None else score_weights(self.blend)

    def base_reference(self) -> dict[str, Any]:
        """Returns the identity of the language model."""
        return self.base.reference.model_dump(mode="json")

    def saved_state(self) -> dict[str, Tensor]:
        """Returns the matrices of the plug-in in half precision, but for the projection of inputs, and the
        giver as it stores itself."""
        state = {
            name: value if name.startswith(_WHOLE) or value.ndim < 2 else value.half()
            for name, value in self.state_dict().items()
            if not name.startswith("giver.")
        }
        if self.giver is not None:
            state |= {f"giver.{name}": value for name, value in self.giver.saved_state().items()}
        return state

    def write_files(self, folder: Path) -> None:
        """Writes the words, a description of the giver, and its files."""
        if self.text is not None:
            self.text.tower.write_files(folder)
        if self.giver is not None:
            stored = store_member(Member(self.giver_name, self.giver), folder / _GIVER)
            write_json(folder / f"{_GIVER}.json", stored.model_dump(mode="json"))

    def read_files(self, folder: Path) -> None:
        """Reads the words and builds the giver; weights are loaded afterwards."""
        if self.text is not None:
            self.text.tower.read_files(folder)
        if self.config.add_giver:
            stored = StoredMember.build(read_json(folder / f"{_GIVER}.json", "giver of the IDs"))
            self._take(build_member(stored, folder / _GIVER))

    @torch.no_grad()
    def initialise(self, data: TrainingData) -> None:
        """Copies the ID embeddings, scaled if configured, and initialises projections, head and words.

        Raises:
            ConfigError: the items have no text, which candidates=words needs.
        """
        if data.ids is None:
            raise ConfigError("e4srec needs ID embeddings; train it with `seqloom train`")
        size = data.ids.square().mean().sqrt()
        unit = (data.ids / size).to(self.ids)
        self.ids.copy_(unit if self.config.scale_ids else data.ids)
        if self.config.add_giver and data.giver is not None:
            self._take(data.giver)
            self.id_scale.copy_(size if self.config.scale_ids else torch.ones(()))
        if self.text is not None:
            self._initialise_words(self.text, data)
        projection = self.reader.projection
        nn.init.zeros_(projection.bias)
        if self.config.start == "random":
            nn.init.xavier_uniform_(projection.weight)
            if self.head is not None:
                nn.init.normal_(self.head, std=0.02)
            return
        own, rows, width = self.sizes.id_size, projection.in_features, self.base.width
        rotation = _orthonormal(rows, width)  # [d', D]
        tokens = self.base.backbone.get_input_embeddings().weight
        token_size = tokens.float().square().mean().sqrt()
        # A projected item then has the norm of a word embedding.
        projection.weight.copy_(rotation.t() * token_size * (width / rows) ** 0.5)
        if not self.config.scale_ids:
            projection.weight[:, :own].div_(size)
        spread = self._instruction_states().square().mean().sqrt()
        if self.text is not None:
            self.text.initialise(rotation[own:], spread)
        if self.head is not None:
            # Scores then have a standard deviation of about 1.
            self.head.copy_(unit @ rotation / (spread * own**0.5))

    def _initialise_words(self, text: TextSide, data: TrainingData) -> None:
        try:
            text.tower.initialise(data)
        except ConfigError as error:
            raise ConfigError(f"{error}; or set candidates=ids, which reads no text") from None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the phases of the text and of the language model, each with the choice of the weight
        beside the giver's score after it."""
        phases: list[Phase] = []
        if self.text is not None and self.config.tower.epochs:
            phases += [self._text_phase(self.text, data), *self._blend("text-blend")]
        if self.config.use_llm:
            causal = self.config.mode == "causal"
            phases.append(CausalPhase(self, data) if causal else PromptPhase(self, data))
            phases += self._blend("blend")
        return phases

    def _text_phase(self, text: TextSide, data: TrainingData) -> Phase:
        if self.giver is None:
            return RankingPhase(text.tower, data, "text")
        return ViewPhase(text.tower, data, "text", self, TEXT_ALONE)

    def _blend(self, name: str) -> list[Phase]:
        """Returns the choice of the weight, if there is a giver."""
        return [] if self.giver is None else [RememberingBlendPhase(name, self, "blend", BLENDS)]

    def finish(self) -> None:
        """Drops the states that the choice of the weight kept."""
        self.remembered = None

    def scorer(self) -> VectorScorer:
        """Returns a scorer with the present weights."""
        return self.scorer_over(self.item_tables())

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the ID embeddings, and the head or the text vectors; see `ExtendsCatalogue`."""
        if self.head is not None:
            return {IDS: self.ids, HEAD: self.head.detach()}
        with torch.inference_mode():
            return {IDS: self.ids, VECTORS: self.candidates()}

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
        if self.text is not None:
            return RowsByWords(self.text.tower, self.ids)
        return InferredRows(self.item_tables(), known)

    def scorer_over(self, tables: Mapping[str, Tensor]) -> VectorScorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        read = E4SRecScorer(self, tables[IDS], tables[HEAD if self.text is None else VECTORS])
        if self.giver is None:
            return read
        given: VectorScorer
        if isinstance(self.giver, SequenceSystem):
            given = DotProductScorer(self.giver, tables[IDS] * self.id_scale)
        else:
            given = cast(VectorScorer, self.giver.scorer())
        return VectorEnsembleScorer(
            [MemberScorer(given, self.giver.max_len), MemberScorer(read, self.max_len)],
            self._weights,
        )

    def view_columns(self) -> dict[str, slice]:
        """Returns the columns of the giver, and of language model or text, in the vectors."""
        if self.giver is None:
            return {}
        own, name, width = self.sizes.id_size, "language model", self.base.width
        if self.text is not None:
            name, width = "text", self.text.size
        return {"giver": slice(0, own), name: slice(own, own + width)}

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
