"""IDs: unique, of real words, the same whatever the order of the file, for any text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import NamingStatistics
from seqloom.llm.generation.diverse import Lengths
from seqloom.llm.generation.lexicon import Lexicon, collect_words
from seqloom.llm.generation.networks import build_text_model
from seqloom.llm.generation.prefix_tree import PAD, PrefixTree
from seqloom.llm.generation.text_model import END, DecodingState, TextModel
from seqloom.llm.generation.tokenizers import train_tokenizer
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.ids import IDMaker, words_only
from seqloom.systems.idgenrec.item_texts import ItemPrompts, OwnWords, read_texts
from support.language_models import build_tiny_network

TEXTS = [
    "red hand cream", "blue hand cream", "red hand cream", "red hand cream", "nail file set",
    "", "... !!! ---", "z" * 100_000, "手クリーム", "كريم اليد", "крем для рук", "\x00\ud800 \ufffd",
    "12345", "hair brush and comb", "soft soap",
]  # fmt: skip
ITEM_IDS = [f"i{n}" for n in range(len(TEXTS))]
SMALL: dict[str, Any] = {
    "max_text_tokens": 12,
    "min_tokens": 1,
    "max_tokens": 4,
    "longest": 8,
    "growth": 2,
}


@pytest.fixture(scope="module", params=["t5", "llama"])
def generator(request: pytest.FixtureRequest) -> tuple[TextModel, Lexicon, Any]:
    clean = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    tokenizer = train_tokenizer(clean, 500)
    lexicon = Lexicon.build(collect_words(TEXTS), tokenizer)
    network = build_tiny_network(request.param, vocabulary=len(tokenizer))
    return build_text_model(network, lexicon.output_tokens), lexicon, tokenizer


def make(
    generator: tuple[TextModel, Lexicon, Any],
    texts: list[str] = TEXTS,
    item_ids: list[Any] = ITEM_IDS,
    taken: list[tuple[int, ...]] | tuple[Any, ...] = (),
    **config: Any,
) -> tuple[torch.Tensor, NamingStatistics]:
    model, lexicon, tokenizer = generator
    settings = TextualIDConfig(**{**SMALL, **config})
    prompts = ItemPrompts(texts, ("", " :"), tokenizer, settings.max_text_tokens)
    return IDMaker(model, lexicon, settings, taken=taken).make(texts, item_ids, prompts)


def test_every_item_has_an_id_of_its_own_made_of_words(
    generator: tuple[TextModel, Lexicon, Any],
) -> None:
    table, statistics = make(generator)
    lexicon = generator[1]
    names = [lexicon.text(row) for row in table.tolist()]
    assert all(names)
    assert len(set(names)) == len(TEXTS)
    assert {word for name in names for word in name.split()} <= set(lexicon.words)
    # Nothing is a beginning of anything else: the tree says so.
    assert PrefixTree.build(table).num_items == len(TEXTS)
    assert statistics.greedy + statistics.diverse + statistics.extended == len(TEXTS)
    assert statistics.diverse + statistics.extended >= 2  # three texts are equal
    for row in table.tolist():
        words = [n for n in row if n > END]
        assert row == words + [END] + [PAD] * (len(row) - len(words) - 1)


def test_the_order_of_the_file_does_not_matter(generator: tuple[TextModel, Lexicon, Any]) -> None:
    before, _ = make(generator)
    order = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(1)).tolist()
    after, _ = make(generator, [TEXTS[i] for i in order], [ITEM_IDS[i] for i in order])
    assert torch.equal(after, before[order])


def test_batches_change_nothing(generator: tuple[TextModel, Lexicon, Any]) -> None:
    one, _ = make(generator, tokens_at_once=1)
    many, _ = make(generator, tokens_at_once=4096)
    assert torch.equal(one, many)


def test_taken_ids_are_not_given_again(generator: tuple[TextModel, Lexicon, Any]) -> None:
    first, _ = make(generator)
    again, _ = make(generator, ["red hand cream"], ["new"], taken=words_only(first))
    assert words_only(again)[0] not in set(words_only(first))


def test_many_items_with_one_text_and_few_words_are_still_distinguished(
    generator: tuple[TextModel, Lexicon, Any],
) -> None:
    model, lexicon, tokenizer = generator
    few = Lexicon(lexicon.words[:3], lexicon.pieces[:3], lexicon.output_tokens)
    texts, ids = ["soap"] * 60, [f"{n}" for n in range(60)]
    table, statistics = make((model, few, tokenizer), texts, ids, max_penalty=2)
    assert len(set(words_only(table))) == 60
    assert statistics.extended > 0


def test_when_words_run_out_it_is_reported(generator: tuple[TextModel, Lexicon, Any]) -> None:
    model, lexicon, tokenizer = generator
    one = Lexicon(lexicon.words[:1], lexicon.pieces[:1], lexicon.output_tokens)
    with pytest.raises(ConfigError, match="too few to name"):
        make((model, one, tokenizer), ["soap"] * 40, [f"{n}" for n in range(40)], max_penalty=1)


def test_texts_are_values_without_the_names_of_columns() -> None:
    items = pa.table({"item_id": ["a", "b"], "title": ["red soap", ""], "brand": ["aldora", None]})
    assert read_texts(items, "values") == ["red soap. aldora", "an item without a description"]
    assert read_texts(items, "full")[0].startswith("title: red soap")
    with pytest.raises(ConfigError, match="have no text"):
        read_texts(items.select(["item_id"]), "values")


def test_own_words_are_preferred(generator: tuple[TextModel, Lexicon, Any]) -> None:
    texts, ids = ["red hand cream", "hair brush and comb"], ["a", "b"]
    table, _ = make(generator, texts, ids, own_words=True, min_tokens=2, max_tokens=6)
    for text, row in zip(texts, table.tolist(), strict=True):
        assert set(generator[1].text(row).split()) <= set(text.split())


def test_tags_are_the_commonest_words_that_tell_something(
    generator: tuple[TextModel, Lexicon, Any],
) -> None:
    lexicon = generator[1]
    texts = ["red soap", "red comb", "red soap file", "red file", "red", "red hair", "123"]
    texts += ["red set"] * 5
    targets = OwnWords.of(texts, lexicon).tags(2)
    names = [lexicon.text(row) for row in targets.tolist()[:7]]
    # "red" and "set" stand in more than a fifth of the items, so they come last.
    assert names == ["soap red", "comb red", "file soap", "file red", "red", "hair red", ""]


def test_one_long_text_among_many_without_text_takes_no_more_than_the_limit(
    generator: tuple[TextModel, Lexicon, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator's batches are sized by what they are padded to."""
    model, lexicon, tokenizer = generator
    texts = ["soft soap"] * 40 + ["hand cream " * 12]
    prompts = ItemPrompts(texts, ("", " :"), tokenizer, 24)
    cells, start = [], type(model).start

    def watched(self: Any, tokens: Any, mask: Any) -> DecodingState:
        cells.append(tokens.numel())
        return start(self, tokens, mask)

    monkeypatch.setattr(type(model), "start", watched)
    settings = TextualIDConfig(**{**SMALL, "tokens_at_once": 60, "longest": 12})
    maker = IDMaker(model, lexicon, settings)
    maker._generate(range(41), prompts, None, Lengths(1, 4), 1, 0.0, "IDs")
    longest = max(map(len, prompts.rows))
    assert longest > 5 * min(map(len, prompts.rows))
    assert longest <= max(cells) <= 60
    assert sum(cells) < 41 * longest
