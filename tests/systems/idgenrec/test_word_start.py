"""Word vectors of a recommender from scratch that start as those of a pretrained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT
from seqloom.data.store import Dataset
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.system import IDGenRec
from seqloom.systems.idgenrec.word_start import _token_vectors
from support.datasets import SMALL_IDGENREC, walkers
from support.language_models import shared_tiny_llama


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return walkers(tmp_path_factory.mktemp("data") / "d")


def config(**changes: Any) -> dict[str, Any]:
    shape = {**SMALL_IDGENREC["recommender"], "words_from": str(shared_tiny_llama()), **changes}
    return {**SMALL_IDGENREC, "rounds": 1, "prune_vocabulary": False, "recommender": shape}


def build(data: Dataset, **changes: Any) -> Any:
    settings = IDGenRecConfig.build(config(**changes))
    torch.manual_seed(0)
    system = IDGenRec(settings, Sizes(num_items=25))
    system.initialise(TrainingData(data))
    return system


@pytest.mark.parametrize("source", ["llama", "t5"])
def test_words_start_as_components_of_the_models_token_vectors(data: Dataset, source: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    random = build(data, source=source, words_from=None)
    system = build(data, source=source)
    tokenizer = system.language.tokenizer
    table = system.recommender.network.get_input_embeddings().weight
    plain = random.recommender.network.get_input_embeddings().weight
    pieces = AutoTokenizer.from_pretrained(shared_tiny_llama())
    vectors = AutoModel.from_pretrained(shared_tiny_llama()).get_input_embeddings().weight
    rows, given = [], []
    for token in range(len(tokenizer)):
        ids = pieces(tokenizer.decode([token]).strip(), add_special_tokens=False)["input_ids"]
        if token not in tokenizer.all_special_ids and ids:
            rows.append(token)
            given.append(vectors[ids].mean(0))
    found, means = _token_vectors(tokenizer, str(shared_tiny_llama()), SILENT)
    assert found.tolist() == rows
    torch.testing.assert_close(means, torch.stack(given).detach())
    new, size = table[rows].detach().double(), plain[rows].square().mean()
    torch.testing.assert_close(new.square().mean(), size.detach().double(), rtol=1e-4, atol=0)
    # Components: uncorrelated, of falling variance, a linear map of the centred vectors.
    covariance = new.T @ new
    spread = covariance.diagonal()
    assert bool((spread[:-1] >= spread[1:] - 1e-9 * spread[0]).all())
    assert float((covariance - spread.diag()).abs().max()) < 1e-4 * float(spread[0])
    centred = (means - means.mean(0)).detach().double()
    residual = new - centred @ torch.linalg.lstsq(centred, new, driver="gelsd").solution
    assert float(residual.abs().max()) < 1e-3 * float(new.abs().max())
    others = [token for token in range(len(tokenizer)) if token not in rows]
    assert torch.equal(table[others], plain[others])
    for name, value in random.generator.state_dict().items():
        assert torch.equal(value, system.generator.state_dict()[name])


def test_the_model_before_training_is_made_again(data: Dataset, tmp_path: Path) -> None:
    train(data, "idgenrec", out=tmp_path / "run", config=config(), device="cpu")
    system: Any = load_run(tmp_path / "run").system
    made = system.starting_recommender().state_dict()
    own = {**config(), "seed": 42}
    fresh: Any = start_system(
        "idgenrec", IDGenRecConfig.build(own), Sizes(num_items=25), TrainingData(data)
    )
    expected = fresh.recommender.state_dict()
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in made)


def test_what_cannot_be_is_refused(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="words_from"):
        IDGenRecConfig.build({"recommender": {"source": "pretrained", "words_from": "x"}})
    with pytest.raises(ConfigError, match=r"recommender\.hidden_size is 512"):
        build(data, hidden_size=512)
