"""The generator's gradient through soft tokens, against finite differences."""

import pytest
import torch

from seqloom.llm.networks import text_model
from seqloom.llm.prefix_tree import PAD
from seqloom.llm.text_model import END
from seqloom.systems.idgenrec.item_texts import ItemPrompts
from seqloom.systems.idgenrec.phases import _frozen, soft_loss
from seqloom.systems.idgenrec.prompts import PromptBuilder
from seqloom.systems.idgenrec.soft_tokens import soft_tokens
from seqloom.systems.idgenrec.templates import Templates
from tiny_lm import tiny_network, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
OUTPUTS = torch.tensor(TOKENIZER.convert_tokens_to_ids(["</s>", "red", "blue", "soap", "oil"]))
TABLE = torch.tensor([[PAD] * 3, [1, 3, END], [2, END, PAD], [4, 1, END]])
PROMPTS = ItemPrompts(["red soap", "blue a", "oil of hand"], ("", " :"), TOKENIZER, 8)


@pytest.fixture(params=["t5", "llama"])
def models(request):
    """Generator and recommender in float64."""
    pair = [tiny_network(request.param, seed=seed).double() for seed in (1, 2)]
    return [text_model(network, OUTPUTS).eval() for network in pair]


def builder():
    made = PromptBuilder(Templates((("user bought", "next"),), 1), TOKENIZER)
    made.speak(OUTPUTS)
    return made


def loss_of(generator, recommender, latest):
    items = torch.tensor([[1, 2, 3], [3, 1, 0]])
    prompts = builder()(TABLE, items, torch.tensor([0, 0]))
    return soft_loss(generator, recommender, prompts, latest, TABLE, PROMPTS, torch.tensor([2, 2]))


LATEST = torch.tensor([[0, 2, 3], [3, 1, 0]])


def test_the_gradient_is_that_of_finite_differences(models):
    generator, recommender = models
    with _frozen(recommender):
        loss_of(generator, recommender, LATEST).backward()
    assert all(p.grad is None for p in recommender.parameters())
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
                values.append(float(loss_of(generator, recommender, LATEST)))
            parameter += step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(expected, rel=0.02, abs=1e-3)
        checked += abs(expected) > 0.02
    assert checked > 3, "the gradients are too small to prove anything"


def test_soft_tokens_are_mixtures_weighted_by_true_probabilities(models):
    generator, recommender = models
    tokens, mask = PROMPTS.batch([0, 1], torch.device("cpu"))
    with torch.inference_mode():
        soft = soft_tokens(generator, recommender, tokens, mask, TABLE[[1, 2]])
        rows = recommender.network.get_input_embeddings().weight
        for item in range(2):
            prompt = tokens[item][mask[item]][None]
            ids = TABLE[item + 1]
            for place in range(3):
                if ids[place] <= END:  # after the last word nothing is laid into a prompt
                    assert (soft[item, place] == 0).all()
                    continue
                fed = OUTPUTS[ids[:place]][None]
                network = generator.network
                if network.config.is_encoder_decoder:
                    start = torch.zeros(1, 1, dtype=torch.int64)
                    logits = network(input_ids=prompt, decoder_input_ids=torch.cat([start, fed], 1))
                else:
                    logits = network(input_ids=torch.cat([prompt, fed], 1))
                probabilities = logits.logits[0, -1, OUTPUTS].softmax(-1)
                expected = sum(p * rows[t] for p, t in zip(probabilities, OUTPUTS, strict=True))
                torch.testing.assert_close(soft[item, place], expected)


def test_items_that_are_not_the_latest_stay_as_they_are(models):
    generator, recommender = models
    none = torch.zeros_like(LATEST)
    none[0, 0] = 1
    with torch.inference_mode():
        one, other = (loss_of(generator, recommender, x) for x in (none, LATEST))
    assert not torch.allclose(one, other)
