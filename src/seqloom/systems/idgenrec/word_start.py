"""First word vectors of a recommender from scratch: the token vectors of a pretrained model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder
from seqloom.hub.pretrained import load_pretrained, load_settings
from seqloom.text.pca import pca


@torch.no_grad()
def start_words(network: Any, tokenizer: Any, name: str, progress: Progress = SILENT) -> None:
    """Replaces a network's word vectors by principal components of token vectors of a pretrained model.

    A token starts as the mean of the vectors of its text's pieces in the model's tokenizer. The components
    are scaled to the mean square of the vectors that they replace. Tokens without a text, such as the end
    mark, keep theirs.

    Source: none in IDGenRec; it is what LLMInit (Harte et al., RecSys 2023, section 3.3) does for items.

    Raises:
        AssetError: the model cannot be found or read.
        ConfigError: the network is wider than the model's token vectors.
    """
    table: Tensor = network.get_input_embeddings().weight
    rows, vectors = _token_vectors(tokenizer, name, progress)
    width = table.shape[1]
    if width > min(vectors.shape):
        raise ConfigError(
            f"recommender.hidden_size is {width}, but the token vectors of {name} have "
            f"{min(vectors.shape)} components for the words here; choose a smaller hidden_size or leave "
            "recommender.words_from out"
        )
    components = pca(vectors, width).to(table)
    scale = table[rows].square().mean().sqrt() / components.square().mean().sqrt()
    table[rows] = components * scale


def _token_vectors(tokenizer: Any, name: str, progress: Progress) -> tuple[Tensor, Tensor]:
    """Returns the tokens that have a text, and a vector for each. Shapes: -> [M], [M, E]."""
    from transformers import AutoModel, AutoTokenizer

    folder = model_folder(name, progress)
    model = load_pretrained(AutoModel, folder, name, what="text encoder")
    table = model.get_input_embeddings().weight.float()
    pieces = load_settings(AutoTokenizer, folder, name)
    special = set(tokenizer.all_special_ids)
    texts = {t: tokenizer.decode([t]).strip() for t in range(len(tokenizer)) if t not in special}
    found = {t: pieces(text, add_special_tokens=False)["input_ids"] for t, text in texts.items()}
    found = {t: ids for t, ids in found.items() if ids}
    vectors = torch.stack([table[ids].mean(0) for ids in found.values()])
    return torch.tensor(list(found)), vectors
