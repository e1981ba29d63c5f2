"""LLMInit: an item table that starts from the text."""

from __future__ import annotations

import torch

from seqloom.data.store import Dataset
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings
from support.untrained_systems import untrained_system


def test_starts_from_the_text_and_has_the_weights_of_an_id_system(dataset: Dataset) -> None:
    system = untrained_system(dataset, "llminit")
    text = load_embeddings(dataset).items
    expected = scaled_pca(text, 16, system.config.initial_std, system.config.whitening)
    torch.testing.assert_close(system.items.data, expected)
    assert system.items.requires_grad
    assert {name for name, _ in system.named_parameters()} == {
        name for name, _ in untrained_system(dataset, "sasrec").named_parameters()
    }
