"""Prompts laid out on tensors against strings put together by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.templates import Templates, read_prompt, read_templates
from support.language_models import build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()
OUTPUTS = ["</s>", "red", "blue", "soap", "oil", "comb"]
IDS = torch.tensor(
    [[PAD] * 4, [1, 3, END, PAD], [2, END, PAD, PAD], [1, 4, 5, END]]
)  # red soap | blue | red oil comb
TEMPLATES = Templates((("user bought :", ""), ("the", "next item"), ("", "")), 2)


@pytest.fixture
def builder() -> PromptBuilder:
    made = PromptBuilder(TEMPLATES, TOKENIZER)
    made.set_output_tokens(torch.tensor(TOKENIZER.convert_tokens_to_ids(OUTPUTS)))
    return made


def written(prompts: Any) -> list[Any]:
    return [
        " ".join(TOKENIZER.convert_ids_to_tokens(tokens[mask].tolist()))
        for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True)
    ]


def test_each_row_has_its_template_and_its_ids(builder: PromptBuilder) -> None:
    items = torch.tensor([[1, 3], [2, 0], [0, 0]])
    prompts = builder(IDS, items, torch.tensor([0, 1, 0]))
    assert written(prompts) == [
        "user bought : red soap ; red oil comb ;",
        "the blue ; next item",
        "user bought :",
    ]
    # Real places come first: nothing that pads stands between them.
    assert (prompts.mask.long().diff(dim=1) <= 0).all()


def test_places_point_at_the_tokens_of_ids(builder: PromptBuilder) -> None:
    items = torch.tensor([[2, 1]])
    prompts = builder(IDS, items, torch.tensor([0]))
    for place, token in zip(prompts.places[0].tolist(), prompts.tokens[0].tolist(), strict=True):
        if place >= 0:
            number = int(IDS[items[0, place // 4], place % 4])
            assert TOKENIZER.convert_ids_to_tokens(token) == OUTPUTS[number]
    assert (prompts.places >= 0).sum() == 3


def test_what_follows_is_the_next_token_of_an_id(builder: PromptBuilder) -> None:
    prompts = builder(IDS, torch.tensor([[2, 3, 1]]), torch.tensor([0]))
    pairs = [
        (TOKENIZER.convert_ids_to_tokens(token), OUTPUTS[number])
        for token, number in zip(
            prompts.tokens[0].tolist(), prompts.following[0].tolist(), strict=True
        )
        if number != PAD
    ]
    # The first item is given. A separator is followed by the next ID, an ID's last token by its end.
    assert pairs == [
        (";", "red"), ("red", "oil"), ("oil", "comb"), ("comb", "</s>"),
        (";", "red"), ("red", "soap"), ("soap", "</s>"),
    ]  # fmt: skip


def test_a_pruned_model_reads_its_own_token_numbers(builder: PromptBuilder) -> None:
    kept = torch.tensor([*builder.output_tokens.tolist(), *builder.used_tokens])
    before = builder(IDS, torch.tensor([[1, 2]]), torch.tensor([1]))
    small = PromptBuilder(TEMPLATES, TOKENIZER)
    small.translate(kept)
    small.set_output_tokens(torch.arange(len(OUTPUTS)))
    after = small(IDS, torch.tensor([[1, 2]]), torch.tensor([1]))
    assert torch.equal(kept[after.tokens], before.tokens)


def test_own_templates_are_ten_seen_and_one_unseen_and_end_with_the_history() -> None:
    templates = read_templates("recommend")
    assert (templates.seen, len(templates.parts)) == (10, 11)
    assert templates.open_ended


def test_templates_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\nunseen: after {history} then\nbefore {history}\n")
    templates = read_templates(str(file))
    assert templates == Templates((("before", ""), ("after", "then")), 1)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("no placeholder", "must hold {history} once"),
        ("{history} of {user}", "IDs of users are not offered"),
        ("unseen: {history}", "no prompt to train on"),
    ],
)
def test_bad_templates_are_explained(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_templates(str(file))


def test_the_generators_prompt() -> None:
    before, after = read_prompt("generate")
    assert (before, after.strip()) == ("", "Keywords:")
    assert read_prompt("Name {text} now") == ("Name ", " now")
    with pytest.raises(ConfigError, match="no prompt file"):
        read_prompt("nowhere")
