"""Soft tokens: the recommender reads hard IDs, the generator gets the gradient of the mixture."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch.nn.functional import cross_entropy

from seqloom.llm.generation.lexicon import Lexicon
from seqloom.llm.generation.networks import build_text_model
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.llm.generation.text_model import END, TextModel
from seqloom.systems.idgenrec.choices import IDChoices
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.item_texts import ItemPrompts
from seqloom.systems.idgenrec.phases import _frozen, soft_loss
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.soft_tokens import mixtures, soft_tokens
from seqloom.systems.idgenrec.templates import Templates
from support.language_models import build_tiny_network, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()
WORDS = ("red", "blue", "soap", "oil")
OUTPUTS = torch.tensor(TOKENIZER.convert_tokens_to_ids(["</s>", *WORDS]))
RED, BLUE, SOAP, OIL = range(1, 5)
TEXTS = ["red soap oil", "blue red a", "oil of red hand"]
# The last ID holds a word that is not in its text, as one of a later attempt does.
TABLE = torch.tensor([[PAD] * 3, [RED, SOAP, END], [BLUE, END, PAD], [OIL, BLUE, END]])
LEXICON = Lexicon(WORDS, ((RED,), (BLUE,), (SOAP,), (OIL,)), OUTPUTS)
CONFIG = TextualIDConfig(min_tokens=1, max_tokens=2, longest=4, growth=2)
PROMPTS = ItemPrompts(TEXTS, ("", " :"), TOKENIZER, 8)
CHOICES = IDChoices(TEXTS, LEXICON, CONFIG)
COMPETE = [
    # Item 1: its own words, then those that are left; an ID of two tokens has no room for a third.
    [{RED, SOAP, OIL}, {SOAP, OIL, END}, set()],
    [{RED, BLUE}, set(), set()],
    # Item 3 is of the second attempt: any words, and three tokens at least.
    [{RED, BLUE, SOAP, OIL}, {RED, BLUE, SOAP}, set()],
]
LATEST = torch.tensor([[0, 2, 3], [3, 1, 0]])


@pytest.fixture(params=["t5", "llama"])
def models(request: pytest.FixtureRequest) -> list[Any]:
    """Generator and recommender in float64."""
    pair = [build_tiny_network(request.param, seed=seed).double() for seed in (1, 2)]
    return [build_text_model(network, OUTPUTS).eval() for network in pair]


def builder() -> PromptBuilder:
    made = PromptBuilder(Templates((("user bought", "next"),), 1), TOKENIZER)
    made.set_output_tokens(OUTPUTS)
    return made


def prompts() -> Any:
    items = torch.tensor([[1, 2, 3], [3, 1, 0]])
    return builder()(TABLE, items, torch.tensor([0, 0]))


def loss_of(generator: TextModel, recommender: Any, latest: torch.Tensor) -> torch.Tensor:
    targets = torch.tensor([2, 2])
    return soft_loss(
        generator, recommender, prompts(), latest, TABLE, PROMPTS, CHOICES, targets
    ).value


def hard_loss(recommender: Any, embeddings: Any = None) -> torch.Tensor:
    """The loss of the prompts with IDs as words, by the recommender's own forward pass."""
    made = prompts()
    embeddings = recommender.embed(made.tokens) if embeddings is None else embeddings
    targets = TABLE[[2, 2]]
    logits = recommender(embeddings, made.mask, targets)
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


def test_the_tokens_that_compete_are_those_of_generation() -> None:
    actual = CHOICES(torch.tensor([1, 2, 3]), TABLE[1:])
    sets = [[set(torch.nonzero(place).flatten().tolist()) for place in row] for row in actual]
    assert sets[0] == COMPETE[0]
    # "blue red a" lets the ID go on with "red", or end: but it ended there, so nothing is mixed.
    assert sets[1] == COMPETE[1]
    assert sets[2] == COMPETE[2]


def test_an_id_from_a_file_competes_with_what_the_last_attempt_allows() -> None:
    config = CONFIG.model_copy(update={"longest": 2})
    ids = torch.tensor([[OIL, OIL, END]])  # a word twice is never generated
    actual = IDChoices(TEXTS, LEXICON, config)(torch.tensor([3]), ids)
    sets = [set(torch.nonzero(place).flatten().tolist()) for place in actual[0]]
    assert sets == [{OIL, RED}, {RED, END, OIL}, set()]


@pytest.mark.parametrize("source", ["t5", "llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_recommender_reads_the_very_ids(
    source: Literal["t5", "llama"], dtype: torch.dtype
) -> None:
    pair = [build_tiny_network(source, seed=seed).to(dtype) for seed in (1, 2)]
    generator, recommender = (build_text_model(network, OUTPUTS).eval() for network in pair)
    with torch.no_grad():
        assert torch.equal(loss_of(generator, recommender, LATEST), hard_loss(recommender))


def test_the_gradient_is_that_of_the_relaxation_at_the_hard_ids(models: list[Any]) -> None:
    """By finite differences of the loss at (hard IDs + what the mixtures move away from where they are)."""
    generator, recommender = models
    with _frozen(recommender):
        loss_of(generator, recommender, LATEST).backward()
    assert all(p.grad is None for p in recommender.parameters())
    made = prompts()
    hard = recommender.embed(made.tokens).detach()

    def mixed() -> torch.Tensor:
        """Slow mixtures laid into the prompt, at the places of the latest items."""
        actual = torch.zeros_like(hard)
        for row, items in enumerate([[1, 2, 3], [3, 1]]):
            soft = [slow_mixtures(generator, recommender, item) for item in items]
            for column, place in enumerate(made.places[row].tolist()):
                if place >= 0 and int(LATEST[row, place // 3]):
                    actual[row, column] = soft[place // 3][place % 3]
        return actual

    with torch.no_grad():
        start = mixed()
    draw = torch.Generator().manual_seed(0)
    checked = 0
    for parameter in generator.parameters():
        noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        # Half along the gradient, so that there is something to see, half anywhere.
        direction = parameter.grad / parameter.grad.norm().clamp(min=1e-9) + noise / noise.norm()
        # The libraries' norms round to single precision, so a smaller step would show rounding.
        step, expected = 1e-3, float((parameter.grad * direction).sum())
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                parameter += sign * step * direction
                values.append(float(hard_loss(recommender, hard + mixed() - start)))
            parameter += step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(expected, rel=0.02, abs=1e-3)
        checked += abs(expected) > 0.02
    assert checked > 3, "the gradients are too small to prove anything"


def slow_mixtures(generator: Any, recommender: Any, item: int) -> torch.Tensor:
    """The mixture at each place of an item's ID, place by place. Shapes: -> [T, D]."""
    (prompt,), _ = PROMPTS.batch([item - 1], torch.device("cpu"))
    rows = recommender.network.get_input_embeddings().weight[OUTPUTS]
    network = generator.network
    actual = []
    for place, compete in enumerate(COMPETE[item - 1]):
        fed = OUTPUTS[TABLE[item, :place].clamp(min=0)]
        if network.config.is_encoder_decoder:
            start = torch.tensor([network.config.decoder_start_token_id])
            logits = network(prompt[None], decoder_input_ids=torch.cat([start, fed])[None])
        else:
            logits = network(torch.cat([prompt, fed])[None])
        chosen = sorted(compete)
        shares = logits.logits[0, -1, OUTPUTS[chosen]].softmax(-1)
        actual.append(shares @ rows[chosen])
    return torch.stack(actual)


def test_mixtures_are_weighted_by_the_probabilities_of_the_tokens_that_compete(
    models: list[Any],
) -> None:
    generator, recommender = models
    items = torch.tensor([1, 2, 3])
    tokens, mask = PROMPTS.batch([0, 1, 2], torch.device("cpu"))
    choices = CHOICES(items, TABLE[1:])
    with torch.inference_mode():
        soft = mixtures(generator, recommender, tokens, mask, TABLE[1:], choices)
        for item in (1, 2, 3):
            torch.testing.assert_close(soft[item - 1], slow_mixtures(generator, recommender, item))
        laid = soft_tokens(generator, recommender, tokens, mask, TABLE[1:], choices)
    assert torch.equal(laid[0, 1], recommender.embed_outputs(torch.tensor(SOAP)))
    assert (laid[:, 2] == 0).all()


def test_items_that_are_not_the_latest_give_no_gradient(models: list[Any]) -> None:
    generator, recommender = models
    some = torch.zeros_like(LATEST)
    some[0, 0] = 1
    norms = []
    for latest in (some, LATEST):
        generator.zero_grad()
        loss_of(generator, recommender, latest).backward()
        norms.append(sum(float(p.grad.square().sum()) for p in generator.parameters()))
    assert norms[0] != pytest.approx(norms[1])
