"""First values of word vectors: random, or the token vectors of a language model."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.hub.model_folders import model_folder
from seqloom.hub.pretrained import load_pretrained
from seqloom.text.pca import pca
from seqloom.text.words.vocabulary import CATALOGUE, Vocabulary


def random_vectors(size: int, width: int) -> Tensor:
    """Draws word vectors of expected length 1 from the global random state. Shapes: -> [V, D]."""
    return torch.randn(size, width) / width**0.5


def pretrained_vectors(
    vocabulary: Vocabulary, name: str, width: int, progress: Progress = SILENT
) -> Tensor:
    """Returns the token vectors of a model, as their first `width` principal components of mean length 1.

    Row 0, the word without a vector of its own, is their mean; pairs of words start at 0.

    Raises:
        ConfigError: the vocabulary is not that of a model, or `width` is above the model's.
        AssetError: the model does not exist or cannot be read.

    Shapes: -> [V, D].
    """
    if name == CATALOGUE:
        raise ConfigError(
            "start=pretrained takes the token vectors of a model, but the tokenizer is made from the "
            "catalogue; name a model as the tokenizer, such as all-minilm-l6-v2, or use start=random"
        )
    from transformers import AutoModel

    folder = model_folder(name, progress)
    model = load_pretrained(AutoModel, folder, name, what="text encoder")
    table = model.get_input_embeddings().weight.detach().float()
    if width > table.shape[1]:
        raise ConfigError(
            f"the word vectors are {width} wide, but the token vectors of {name} only {table.shape[1]}; "
            "choose a smaller width or start=random"
        )
    own = torch.nonzero(vocabulary.rows).flatten()  # rows ascend with the tokens
    if width > len(own):
        raise ConfigError(
            f"the catalogue has {len(own)} words with a vector of their own, too few for a width of {width}; "
            "choose a smaller width, a smaller words.min_count or start=random"
        )
    components = pca(table[own], width).float()
    scaled = components / components.norm(dim=1).mean()
    pairs = scaled.new_zeros(len(vocabulary.pairs), width)
    return torch.cat([scaled.mean(0, keepdim=True), scaled, pairs])


def start_vectors(
    vocabulary: Vocabulary, start: str, name: str, width: int, progress: Progress = SILENT
) -> Tensor:
    """Returns first word vectors: `random` or `pretrained`. Raises and shapes as `pretrained_vectors`."""
    if start == "random":
        vectors = random_vectors(vocabulary.size, width)
        vectors[vocabulary.num_words :] = 0  # a pair starts as its words
        return vectors
    return pretrained_vectors(vocabulary, name, width, progress)
