"""Tokenizers: a model's own, or one trained on the items' texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seqloom.core.errors import ArtefactError, AssetError
from seqloom.hub.model_files import check_model_files
from seqloom.hub.pretrained import load_settings

PADDING, CLOSING = "<pad>", "</s>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Trains a lower-casing byte-level BPE of at most `vocab_size` tokens, which can encode any text.

    The result does not depend on the order of the texts.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PADDING, CLOSING],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CLOSING, pad_token=PADDING)


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer of a model's or a run's folder and makes sure that it has a padding token.

    Raises:
        ArtefactError: the folder holds no readable tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        check_model_files(folder)
        tokenizer = load_settings(AutoTokenizer, folder, folder)
    except AssetError as error:
        raise ArtefactError(f"{folder} holds no tokenizer that can be read: {error}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
