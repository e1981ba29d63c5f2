"""The generator and the recommender of IDGenRec, their language, and the IDs that they share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import NamingStatistics
from seqloom.core.random import derive_seed
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.networks import (
    build_network,
    build_text_model,
    checkpoint_layers,
    load_shape,
    prune_vocabulary,
    save_shape,
)
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import TextModel
from seqloom.systems.base import MODEL_FOLDER, Sizes, System
from seqloom.systems.idgenrec.branches import Branches
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.id_file import read_ids
from seqloom.systems.idgenrec.ids import IDMaker
from seqloom.systems.idgenrec.item_texts import ItemPrompts, read_texts
from seqloom.systems.idgenrec.language import Language, tokens_to_keep
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.tree.name_tree import NameTree
from seqloom.systems.idgenrec.tree.namer import TreeNamer
from seqloom.systems.idgenrec.word_start import start_words
from seqloom.systems.texttower import TextTower

_TREE = "tree.json"
"""File with the sizes of the tree in the run's model folder."""
_DENSE = "dense"
"""Folder of the tower's words within the run's model folder."""


class IDGenRecModels(System[IDGenRecConfig]):
    """The models and IDs of IDGenRec: what its phases train and its scorer ranks with."""

    ids: Tensor
    made: Tensor
    blend: Tensor
    """Weight of the dense score; from `TEXT_ALONE` on it is the only one."""
    generator: TextModel
    """Not with ids.make=tree."""
    recommender: TextModel
    builder: PromptBuilder
    language: Language
    item_prompts: ItemPrompts
    """Prompts of the training catalogue; only while training."""

    def __init__(self, config: IDGenRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.ids.longest + 1
        empty = torch.full((sizes.num_items + 1, width), PAD)
        self.register_buffer("ids", empty)  # row 0 belongs to no item
        self.register_buffer("made", torch.tensor(-1))  # the round that the IDs belong to
        self.tower: TextTower | None = None
        """The dense text score, if configured."""
        if config.dense.enabled:
            self.tower = _build_tower(config, sizes)
            self.register_buffer("blend", torch.tensor(0.0))
        self.tree: NameTree | None = None
        """What names the items, with ids.make=tree."""
        self.statistics: NamingStatistics | None = None
        """How the present IDs came about; None if they were loaded."""
        self._texts: list[str] = []
        self._item_ids: list[str] = []
        self._progress: Progress = SILENT
        self._table: Tensor | None = None

    @property
    def max_len(self) -> int:
        """The longest history that a prompt holds."""
        return self.config.max_len

    @property
    def windows(self) -> bool:
        """Whether the recommender learns from all items of a history in one pass."""
        able = isinstance(self.recommender, DecoderOnly) and self.language.templates.open_ended
        if self.config.samples == "windows" and not able:
            raise ConfigError(
                "samples=windows needs a decoder-only recommender and prompts that end with {history}; "
                "use samples=prefixes"
            )
        return able and self.config.samples != "prefixes"

    @property
    def table(self) -> Tensor:
        """The IDs without columns of padding alone. Shapes: [N + 1, T] output numbers, row 0 PAD."""
        if self._table is None or self._table.device != self.ids.device:
            width = int((self.ids != PAD).sum(1).max())
            self._table = self.ids[:, : max(1, width)].contiguous()
        return self._table

    def branches(self) -> Branches | None:
        """Returns the branches of the present IDs, if the recommender learns to choose among them."""
        return Branches.of(self.table) if self.config.objective == "catalogue" else None

    def make_ids(self, number: int) -> None:
        """Makes the IDs of a round, unless the state holds them already (a resumed run)."""
        if int(self.made) >= number:
            return
        if int(self.made) < 0 or self.config.generation.epochs:  # else the generator is unchanged
            self.ids[1:] = self._name_items(number).to(self.ids.device)
        self.made.fill_(number)
        self._table = None

    def name_texts(
        self,
        texts: Sequence[str],
        item_ids: Sequence[str],
        *,
        language: Language | None = None,
        taken: Sequence[tuple[int, ...]] = (),
        progress: Progress = SILENT,
    ) -> tuple[Tensor, NamingStatistics]:
        """Names items with the tree or the present generator; `taken` IDs are not given again.

        Args:
            language: the run's language, with the words of the texts added if they are of another catalogue.

        Shapes: -> [M, longest + 1] output numbers.
        """
        language = language or self.language
        if self.tree is not None:
            namer = TreeNamer(self.tree, self.language.lexicon, language.lexicon, self.config.ids)
            return namer.make(texts, item_ids, taken)
        maker = self.maker(language, progress, taken=taken)
        return maker.make(texts, item_ids, self.prompts_of(texts))

    def maker(
        self,
        language: Language,
        progress: Progress = SILENT,
        *,
        taken: Sequence[tuple[int, ...]] = (),
    ) -> IDMaker:
        """Returns a maker of IDs with the present generator; `taken` IDs are not given again."""
        return IDMaker(
            self.generator.whole(),
            language.lexicon,
            self.config.ids,
            taken=taken,
            progress=progress,
        )

    def texts_of(self, items: pa.Table) -> list[str]:
        """Returns the text of each item that the generator reads, by the template `ids.text`."""
        return read_texts(items, self.config.ids.text)

    def prompts_of(self, texts: Sequence[str]) -> ItemPrompts:
        """Returns the generator's prompts for item texts."""
        return ItemPrompts(
            texts, self.language.prompt, self.language.tokenizer, self.config.ids.max_text_tokens
        )

    def write_files(self, folder: Path) -> None:
        """Writes tokenizer, words, prompts, the shapes of models and tree, and the words of the tower."""
        self.language.save(folder)
        if self.tree is not None:
            write_json(folder / _TREE, self.tree.sizes)
        else:
            save_shape(self.generator.network, folder / "generator")
        save_shape(self.recommender.network, folder / "recommender")
        if self.tower is not None:
            (folder / _DENSE).mkdir()
            self.tower.write_files(folder / _DENSE)

    def read_files(self, folder: Path) -> None:
        """Builds what `write_files` described; the weights are loaded afterwards."""
        language = Language.load(folder)
        generator = None
        if (folder / _TREE).exists():
            self.tree = _read_tree(folder / _TREE)
        else:
            generator = load_shape(folder / "generator")
        recommender = load_shape(folder / "recommender")
        self._assemble(language, generator, recommender)
        if self.tower is not None and (folder / _DENSE).exists():
            self.tower.read_files(folder / _DENSE)

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Loads the state as any module does; the IDs may have changed."""
        self._table = None
        return super().load_state_dict(*arguments, **options)

    def starting_recommender(self) -> TextModel:
        """Makes the recommender that training started with again: draws or loads it, as then.

        Raises:
            ArtefactError: the run `start_from` can no longer be read.
        """
        if self.config.start_from is not None:
            model = copy.deepcopy(self.recommender)
            state = _part(_read_weights(Path(self.config.start_from)), "recommender")
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                raise ArtefactError(
                    f"{self.config.start_from} is no longer the run that this one continued: {error}"
                ) from None
            return model.eval()
        gpus = [self.ids.device] if self.ids.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(derive_seed(self.config.seed, "initialise"))
            _, network = self._networks(self.language.tokenizer)
        outputs = self.language.lexicon.output_tokens
        if self.language.kept is not None:
            prune_vocabulary(network, self.language.kept)
            outputs = torch.arange(len(outputs))
        return build_text_model(network, outputs).to(self.ids.device).eval()

    def _read_items(self, items: pa.Table, item_ids: Sequence[str], progress: Progress) -> None:
        self._progress = progress
        self._texts = self.texts_of(items)
        self._item_ids = list(item_ids)

    def _name_items(self, number: int) -> Tensor:
        """Returns the IDs of the training items: in the first round those of `ids.file`, if given.

        Shapes: -> [N, longest + 1] output numbers.
        """
        if number == 0 and self.config.ids.file is not None:
            file = Path(self.config.ids.file)
            return read_ids(file, self._item_ids, self.language.lexicon, self.config.ids.longest)
        ids, self.statistics = self.name_texts(self._texts, self._item_ids, progress=self._progress)
        return ids

    def _build(self, language: Language) -> None:
        """Loads or draws both models for a language with a whole vocabulary."""
        tokenizer = language.tokenizer
        generator, recommender = self._networks(tokenizer)
        if self.config.prune_vocabulary:
            start = getattr(recommender.config, "decoder_start_token_id", None)
            builder = PromptBuilder(language.templates, tokenizer)
            kept = tokens_to_keep(language, builder, start)
            language = Language(
                tokenizer, language.lexicon, language.templates, language.prompt, kept
            )
            prune_vocabulary(recommender, kept)
        self._assemble(language, generator, recommender)

    def _networks(self, tokenizer: Any) -> tuple[Any, Any]:
        """Loads or draws the generator, if any, then the recommender; the order decides the draws."""
        settings, generator = self.config.recommender, None
        if self.config.ids.make == "generator":
            generator = build_network(self.config.generator, tokenizer, self._progress)
        recommender = build_network(settings, tokenizer, self._progress)
        if settings.words_from is not None:
            start_words(recommender, tokenizer, settings.words_from, self._progress)
        return generator, recommender

    def _assemble(self, language: Language, generator: Any, recommender: Any) -> None:
        self.language = language
        for network, settings in (
            (generator, self.config.generator),
            (recommender, self.config.recommender),
        ):
            if network is not None and settings.gradient_checkpointing:
                checkpoint_layers(network)
        if generator is not None:
            self.generator = build_text_model(generator, language.lexicon.output_tokens)
        outputs = language.lexicon.output_tokens
        builder = PromptBuilder(language.templates, language.tokenizer)
        if language.kept is not None:
            # A pruned recommender renumbers its tokens, output tokens first.
            builder.translate(language.kept)
            outputs = torch.arange(len(outputs))
        builder.set_output_tokens(outputs)
        self.builder = builder
        self.recommender = build_text_model(recommender, outputs)

    def _take_over(self, run: Path) -> None:
        """Loads models, tokenizer and prompts of another run, and adds the words of these items.

        Raises:
            ConfigError: a generator is to name the items, and that run has none.
        """
        self.read_files(run / MODEL_FOLDER)
        self.language = self.language.with_words(self._texts, self.config.ids)
        parts = ["recommender"]
        if self.config.ids.make == "generator":
            if not hasattr(self, "generator"):
                raise ConfigError(
                    f"{run} named its items by a tree and has no generator to continue; set ids.make=tree"
                )
            parts.append("generator")
        elif hasattr(self, "generator"):
            del self.generator
        state = _read_weights(run)
        for part in parts:
            getattr(self, part).load_state_dict(_part(state, part))


def _build_tower(config: IDGenRecConfig, sizes: Sizes) -> TextTower:
    """Builds the tower of the dense score, for the histories of the run.

    Its draws are apart, so that both models start as without it.
    """
    settings = config.dense.tower
    encoder = settings.encoder.model_copy(update={"max_len": config.max_len})
    update = {"seed": config.seed, "encoder": encoder}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "dense"))
        return TextTower(settings.model_copy(update=update), Sizes(num_items=sizes.num_items))


def _read_tree(file: Path) -> NameTree:
    """Makes a tree of the sizes that a run wrote; the weights of the run hold the rest."""
    sizes = read_json(file, "sizes of the tree of an IDGenRec run")
    try:
        return NameTree(**sizes)
    except (TypeError, RuntimeError) as error:
        raise ArtefactError(f"{file} is damaged ({error}); train again") from None


def _read_weights(run: Path) -> dict[str, Tensor]:
    try:
        return load_file(run / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{run} holds no weights to start from: {error}") from None


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Returns the entries of one of the two models."""
    prefix = f"{part}."
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
