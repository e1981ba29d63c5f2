"""Decoding against slow loops over the library's own forward pass."""

import pytest
import torch

from seqloom.llm.beam import beam_search, exact_scores
from seqloom.llm.prefix_tree import PAD, PrefixTree

IDS = [
    (1, 2, 0), (1, 0), (1, 3, 4, 0), (2, 2, 2, 0), (2, 1, 0), (3, 0), (4, 5, 0), (4, 5, 6, 0),
    (4, 6, 0), (5, 1, 1, 1, 0), (6, 2, 0), (6, 2, 3, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def tree():
    width = max(map(len, IDS))
    return PrefixTree.build(torch.tensor([[*row, *[PAD] * (width - len(row))] for row in IDS]))


def likelihood(model, prompt, row):
    """log p(row | prompt) by one forward pass of the library's model over all tokens."""
    tokens = model.output_tokens[list(row)]
    network = model.network
    if network.config.is_encoder_decoder:
        start = torch.tensor([network.config.decoder_start_token_id])
        fed = torch.cat([start, tokens[:-1]])[None]
        logits = network(input_ids=prompt[None], decoder_input_ids=fed).logits[0]
    else:
        whole = torch.cat([prompt, tokens[:-1]])[None]
        logits = network(input_ids=whole).logits[0, len(prompt) - 1 :]
    log_probs = logits[:, model.output_tokens].double().log_softmax(-1)
    return float(log_probs[range(len(row)), list(row)].sum())


@pytest.fixture(scope="module")
def truth(model, prompts):
    """[3, N] by the slow loop."""
    with torch.inference_mode():
        rows = [[likelihood(model, t[m], row) for row in IDS] for t, m in zip(*prompts)]  # noqa: B905
    return torch.tensor(rows)


def test_exact_scores_are_the_likelihoods(model, prompts, tree, truth):
    state = model.start(*prompts)
    torch.testing.assert_close(exact_scores(state, tree), truth, rtol=1e-4, atol=1e-4)
    # In pieces, and again with the same state.
    pieces = exact_scores(state, tree, leaves_at_once=5)
    torch.testing.assert_close(pieces, truth, rtol=1e-4, atol=1e-4)


def test_teacher_forcing_gives_the_same_likelihoods(model, prompts, truth):
    tokens, mask = prompts
    for column, row in enumerate(IDS):
        targets = torch.tensor([[*row, PAD, PAD]]).expand(3, -1)
        with torch.inference_mode():
            log_probs = model.logits(model.embed(tokens), mask, targets).log_softmax(-1)
        got = log_probs[:, : len(row)].gather(2, targets[:, : len(row), None]).sum((1, 2))
        torch.testing.assert_close(got, truth[:, column], rtol=1e-4, atol=1e-4)


def test_as_many_beams_as_items_find_the_exact_order(model, prompts, tree, truth):
    found = beam_search(model.start(*prompts), tree, num_beams=len(IDS))
    best = truth.sort(dim=1, descending=True)
    assert torch.equal(found.items, best.indices + 1)
    torch.testing.assert_close(found.scores, best.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_beams", [1, 2, 3])
def test_few_beams_find_what_a_slow_search_finds(model, prompts, tree, num_beams):
    found = beam_search(model.start(*prompts), tree, num_beams=num_beams)
    for row, (tokens, mask) in enumerate(zip(*prompts)):  # noqa: B905
        expected = slow_beam_search(model, tokens[mask], num_beams, set())
        assert found.items[row].tolist() == [item for item, _ in expected]
        scores = torch.tensor([score for _, score in expected])
        torch.testing.assert_close(found.scores[row], scores, rtol=1e-4, atol=1e-4)


def test_seen_items_never_come_out_and_take_no_place(model, prompts, tree):
    seen = torch.tensor([[1, 2, 3, 0, 1], [7, 8, 9, 6, 0], [12, 11, 10, 5, 4]])
    found = beam_search(model.start(*prompts), tree, num_beams=3, seen=seen)
    for row, (tokens, mask) in enumerate(zip(*prompts)):  # noqa: B905
        expected = slow_beam_search(model, tokens[mask], 3, set(seen[row].tolist()))
        assert found.items[row].tolist() == [item for item, _ in expected]
        assert len(set(found.items[row].tolist())) == 3
        assert not set(found.items[row].tolist()) & set(seen[row].tolist())


def test_when_fewer_items_are_left_than_beams_all_of_them_come_out(model, prompts, tree):
    seen = torch.arange(1, 11).expand(3, -1)  # 11 and 12 are left
    found = beam_search(model.start(*prompts), tree, num_beams=5, seen=seen)
    assert all(sorted(row) == [0, 0, 0, 11, 12] for row in found.items.tolist())
    assert torch.isinf(found.scores[:, 2:]).all()


def test_a_batch_finds_what_its_rows_find(model, prompts, tree):
    together = beam_search(model.start(*prompts), tree, num_beams=4)
    for row, (tokens, mask) in enumerate(zip(*prompts)):  # noqa: B905
        alone = beam_search(model.start(tokens[mask][None], mask[mask][None]), tree, num_beams=4)
        assert torch.equal(alone.items[0], together.items[row])


def test_the_folders_generation_settings_change_nothing(model, prompts, tree):
    before = beam_search(model.start(*prompts), tree, num_beams=4)
    settings = model.network.generation_config
    old = (settings.do_sample, settings.repetition_penalty, settings.length_penalty)
    settings.do_sample, settings.repetition_penalty, settings.length_penalty = True, 9.0, -5.0
    try:
        after = beam_search(model.start(*prompts), tree, num_beams=4)
    finally:
        settings.do_sample, settings.repetition_penalty, settings.length_penalty = old
    assert torch.equal(before.items, after.items)


def slow_beam_search(model, prompt, num_beams, seen):
    """Open sequences compete with open ones for num_beams places; closed ones are kept apart."""
    open_rows, closed = [()], []
    for _ in range(max(map(len, IDS))):
        allowed = {row for n, row in enumerate(IDS, start=1) if n not in seen}
        children = {row[: len(p) + 1] for p in open_rows for row in allowed if row[: len(p)] == p}
        with torch.inference_mode():
            scored = [(likelihood(model, prompt, row), row) for row in children]
        closed += [(score, row) for score, row in scored if row in IDS]
        rest = sorted(((s, r) for s, r in scored if r not in IDS), reverse=True)
        closed = sorted(closed, reverse=True)[:num_beams]
        open_rows = [row for _, row in rest[:num_beams]]
        if not open_rows:
            break
    return [(IDS.index(row) + 1, score) for score, row in closed]
