"""The language of a run: tokenizer, words of IDs, prompts, and the recommender's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder
from seqloom.llm.config import NetworkConfig
from seqloom.llm.generation.lexicon import Lexicon, collect_words
from seqloom.llm.generation.tokenizers import load_tokenizer, train_tokenizer
from seqloom.systems.idgenrec.config import IDGenRecConfig, TextualIDConfig
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.templates import Templates, read_prompt, read_templates

_WORDS = "words.json"


@dataclass(frozen=True)
class Language:
    """The untrained parts that generator and recommender share."""

    tokenizer: Any
    lexicon: Lexicon
    """The words that IDs are made of."""
    templates: Templates
    """The recommender's prompts."""
    prompt: tuple[str, str]
    """The generator's prompt: the words before and after an item's text."""
    kept: Tensor | None
    """[K] tokens of the tokenizer that a pruned recommender keeps, output tokens first; None if it keeps
    all."""

    def with_words(self, texts: Sequence[str], config: TextualIDConfig) -> Self:
        """Adds the words of other texts, as far as the output tokens can write them."""
        words = {*collect_words(texts, min_count=config.min_word_count), *self.lexicon.words}
        lexicon = Lexicon.build(
            sorted(words),
            self.tokenizer,
            most_pieces=config.most_pieces,
            output_tokens=self.lexicon.output_tokens,
        )
        return replace(self, lexicon=lexicon)

    def save(self, folder: Path) -> None:
        """Writes tokenizer, words and prompts."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        pieces = zip(self.lexicon.words, self.lexicon.pieces, strict=True)
        written = {
            "words": dict(pieces),
            "output_tokens": self.lexicon.output_tokens.tolist(),
            "kept": None if self.kept is None else self.kept.tolist(),
            "templates": self.templates.parts,
            "seen_templates": self.templates.seen,
            "prompt": self.prompt,
        }
        write_json(folder / _WORDS, written)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads the files of `save`.

        Raises:
            ArtefactError: a file is missing or damaged.
        """
        tokenizer = load_tokenizer(folder)
        raw = read_json(folder / _WORDS, "words of an IDGenRec run")
        try:
            words = raw["words"]
            pieces = tuple(tuple(row) for row in words.values())
            before, after = raw["prompt"]
            parts = tuple((left, right) for left, right in raw["templates"])
            return cls(
                tokenizer,
                Lexicon(tuple(words), pieces, torch.tensor(raw["output_tokens"])),
                Templates(parts, raw["seen_templates"]),
                (before, after),
                None if raw["kept"] is None else torch.tensor(raw["kept"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(f"{folder / _WORDS} is damaged ({error!r}); train again") from None


def build_language(
    config: IDGenRecConfig, texts: Sequence[str], progress: Progress = SILENT
) -> Language:
    """Builds the language of a catalogue with these item texts, with the whole vocabulary.

    Raises:
        ConfigError: the two pretrained models have different tokenizers, or no word can be written.
        AssetError: a model cannot be found.
    """
    templates, prompt = read_templates(config.templates), read_prompt(config.ids.prompt)
    tokenizer = _choose_tokenizer(config, texts, templates, prompt, progress)
    words = collect_words(texts, min_count=config.ids.min_word_count)
    lexicon = Lexicon.build(words, tokenizer, most_pieces=config.ids.most_pieces)
    return Language(tokenizer, lexicon, templates, prompt, None)


def tokens_to_keep(language: Language, builder: PromptBuilder, start: int | None) -> Tensor:
    """Returns the tokens that a recommender needs: those of IDs, then of prompts, and its start token."""
    first = language.lexicon.output_tokens.tolist()
    more = {*builder.used_tokens, *([] if start is None else [start])} - set(first)
    return torch.tensor(first + sorted(more))


def _choose_tokenizer(
    config: IDGenRecConfig,
    texts: Sequence[str],
    templates: Templates,
    prompt: tuple[str, str],
    progress: Progress,
) -> Any:
    networks: list[NetworkConfig] = [config.recommender]
    if config.ids.make == "generator":
        networks.append(config.generator)
    pretrained = [network.name for network in networks if network.source == "pretrained"]
    name = config.tokenizer
    if name == "auto":
        name = pretrained[0] if pretrained else "catalogue"
    if name == "catalogue":
        written = [*(" ".join(parts) for parts in templates.parts), " ".join(prompt)]
        tokenizer = train_tokenizer([*texts, *written], config.vocab_size)
    else:
        tokenizer = load_tokenizer(model_folder(name, progress))
    for other in pretrained:
        same = other == name or _vocabulary(other, progress) == tokenizer.get_vocab()
        if not same:
            raise ConfigError(
                f"{other} does not read with the tokenizer {name!r}; generator and recommender share "
                "one tokenizer, so take two models of one family, or make one of them from scratch"
            )
    return tokenizer


def _vocabulary(name: str, progress: Progress) -> dict[str, int]:
    vocabulary: dict[str, int] = load_tokenizer(model_folder(name, progress)).get_vocab()
    return vocabulary
