"""Every system on data sets that are barely any: it trains, or says in a sentence what to change."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.registry import names
from support.datasets import small_config, tiny_dataset

ITEMS = 30
COUNTING = {"popularity", "itemknn", "textknn", "graphknn"}
DATA = {
    "one training event each": [[u % 8 + 1, u % 8 + 2, u % 8 + 3] for u in range(10)],
    "one event each": [[u % 8 + 1] for u in range(10)],
    "nothing held out": [[1, 2], [2, 3], [3, 4, 5][:2], [4, 5]],
    "one item": [[1] * 4] * 10,
    "all users alike": [[1, 2, 3, 4, 5, 6]] * 10,
    "one user": [list(range(1, 9))],
    "fewer users than similar ones": [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]],
    "one user with two training events": [[1, 2, 3, 4], *([u + 1, u + 2, u + 3] for u in range(9))],
    "each user one item over and over": [[u % 8 + 1] * 5 for u in range(10)],
    "one text for all items": [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5], [1, 5, 3], [4, 3, 2, 1]],
}
REFUSED = {
    # Without a target, or without an event to choose the weights on.
    "one training event each": {"sasrec", "gru4rec", "bert4rec", "bsarec", "llminit"}
    | {"melt", "cities", "llmesr", "e4srec", "idgenrec", "texttower"},
    "one event each": set(names()) - COUNTING,
    "nothing held out": set(names()) - COUNTING,
    # Without a text, a tail or a similar user.
    "one item": {"bpr", "llminit", "llmesr", "melt", "cities", "ensemble"},
    "all users alike": {"llmesr", "melt", "cities"},
    "one user": {"llmesr", "melt", "cities"},
    "fewer users than similar ones": {"llmesr", "cities"},
    "one user with two training events": {"llmesr", "melt", "cities"},
    "each user one item over and over": {"llmesr", "melt", "cities", "ensemble"},
    "one text for all items": {"llminit", "llmesr", "idgenrec", "cities", "melt"},
}
"""What may be refused; everything else trains."""
ADVICE = re.compile(r"--[a-z][a-z-]+|\b(encoder|distillation|ids|inference|joint)\.[a-z_]+")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The data sets by name, with text embeddings."""
    base = tmp_path_factory.mktemp("degenerate")
    made = {}
    for number, (name, histories) in enumerate(DATA.items()):
        titles = ["thing"] * ITEMS if name == "one text for all items" else None
        count = 1 if name == "one item" else ITEMS
        titles = titles or [f"{'red' if n % 2 else 'blue'} thing {'x' * n}" for n in range(count)]
        made[name] = tiny_dataset(base / str(number), histories, titles)
        embed(made[name], EmbedOptions(encoder="hash", users="mean"))
    return made


def configured(system: Any, dataset: Any, folder: Any) -> dict[Any, Any]:
    if system != "ensemble":
        return small_config(system)
    members = [folder / name for name in ("itemknn", "popularity")]
    for member in members:
        train(dataset, member.name, out=member, config=small_config(member.name), device="cpu")
    return {"runs": list(map(str, members))}


def refusal(dataset: Dataset, system: str, out: Path, config: dict[Any, Any]) -> str | None:
    """What training says instead of training."""
    try:
        train(dataset, system, out=out, config=config, device="cpu")
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("system", names())
@pytest.mark.parametrize("name", DATA)
def test_a_system_trains_or_names_what_to_change(
    datasets: dict[str, Dataset], tmp_path: Path, name: str, system: str
) -> None:
    dataset, out = datasets[name], tmp_path / "run"
    message = refusal(dataset, system, out, configured(system, dataset, tmp_path))
    if message is not None:
        assert system in REFUSED[name], message
        assert ADVICE.search(message), message
        assert "\n" not in message
        return
    run = load_run(out)
    some, nobody = recommend(run, histories=[dataset.item_ids[:1], []], k=3)
    assert all(math.isfinite(item.score) for item in [*some.items, *nobody.items])
    if len(dataset.held_out("test").users):
        metrics = evaluate(out).metrics
        assert 0 <= metrics["hr@10"] <= 1
        assert all(map(math.isfinite, metrics.values())), metrics


def test_the_advice_on_similar_users_helps(datasets: dict[str, Dataset], tmp_path: Path) -> None:
    dataset = datasets["fewer users than similar ones"]
    for number, settings in enumerate(({"num_similar": 1}, {"alpha": 0.0})):
        config = small_config("llmesr") | {"distillation": settings}
        assert refusal(dataset, "llmesr", tmp_path / str(number), config) is None
