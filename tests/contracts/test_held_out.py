"""What is held out changes nothing that training uses, for every system: canaries and exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from seqloom.core.tensors import tensor_fingerprints
from seqloom.data.store import Dataset
from seqloom.evaluation.groups import default_thresholds
from seqloom.pipelines.audit.batches import first_epochs
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.registry import names, system_class
from seqloom.text.prompts import user_prompts
from seqloom.text.store import load_embeddings
from support.datasets import small_config, tiny_dataset

ITEMS = 30
IN_TEST, IN_VALID = ITEMS + 1, ITEMS + 2
"""Two canaries: nobody met them but one user in the test part and one in the validation part."""
TRAINED = [name for name in names() if not system_class(name).combines_runs]
COMBINED = [name for name in names() if system_class(name).combines_runs]
"""Made of trained runs and fitted on the validation part, as they say. So no system escapes these tests: one
that is added later is in one of the two lists, and fails here until it can be trained for a moment."""
COUNTING = ("popularity", "itemknn", "textknn", "graphknn")
ITEM_FIELDS = ("items", "targets", "contexts")
OTHER_FIELDS = ("lengths", "rows", "owner", "places", "users", "negatives")
"""Fields of batches that hold other integers, or items that need no event (negatives)."""
WORDS = ["soap", "cream", "oil", "comb", "brush", "lamp", "mug", "pot"]


def histories(held_out: Any = None) -> list[list[Any] | Any]:
    """24 users; `held_out` exchanges a user's last two items."""
    draw = torch.Generator().manual_seed(3)
    weight = 1.0 / torch.arange(1, ITEMS + 1)
    rows = []
    for user in range(24):
        length = int(torch.randint(4, 12, (), generator=draw))
        row = torch.multinomial(weight, length, generator=draw).add(1).tolist()
        rows.append(row if held_out is None else held_out(user, row))
    return rows


def canary(user: Any, row: Any) -> Any:
    """A canary as user 5's test item and another as user 7's validation item."""
    if user == 5:
        return [*row[:-1], IN_TEST]
    return [*row[:-2], IN_VALID, row[-1]] if user == 7 else row


def canary_in_test(user: Any, row: Any) -> Any:
    return [*row[:-1], IN_TEST] if user == 5 else row


def exchanged(user: Any, row: Any) -> list[Any]:
    """Every held-out item is another one."""
    return [*row[:-2], *((item + 11) % ITEMS + 1 for item in row[-2:])]


def build(path: Path, held_out: Callable[..., Any] | None = None) -> Dataset:
    titles = [f"{WORDS[n % 8]} {WORDS[n // 8]} number{n}" for n in range(ITEMS)]
    made = tiny_dataset(path, histories(held_out), [*titles, "kanarienvogel", "canarino"])
    embed(made, EmbedOptions(encoder="hash:64", name="prompt", default=True))
    embed(made, EmbedOptions(encoder="hash:64", name="mean", users="mean"))
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("plain") / "data")


@pytest.fixture(scope="module", params=[canary, exchanged], ids=lambda f: f.__name__)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("other") / "data", request.param)


def start(dataset: Dataset, name: str) -> tuple[System[Any], TrainingData]:
    """A system before its first step, and the data that it is given."""
    cls = system_class(name)
    config = cls.config_class.build(small_config(name))
    ids = None
    sizes = {"num_items": dataset.num_items}
    if config.embeddings:
        sizes["text_size"] = load_embeddings(dataset).width
    if cls.uses_ids:
        ids = torch.randn(dataset.num_items, 8, generator=torch.Generator().manual_seed(0))
        sizes["id_size"] = 8
    data = TrainingData(dataset, ids=ids)
    return start_system(name, config, Sizes(**sizes), data), data


@pytest.mark.parametrize("name", TRAINED)
def test_held_out_items_change_no_start_and_no_batch(
    plain: Dataset, other: Dataset, name: str
) -> None:
    (first, data), (second, other_data) = start(plain, name), start(other, name)
    assert tensor_fingerprints(first.state_dict()) == tensor_fingerprints(second.state_dict())
    one, two = first_epochs(first, data), first_epochs(second, other_data)
    assert one.keys() == two.keys()
    assert bool(one) == (name not in COUNTING)
    for phase in one:
        assert one[phase].batches == two[phase].batches
        if phase.endswith("blend"):  # validates candidates and has no steps
            assert one[phase].loss == {}
        else:
            assert one[phase].loss["loss"] > 0
        assert one[phase].same_loss(two[phase])


def test_held_out_items_change_no_derived_artefact(plain: Dataset, other: Dataset) -> None:
    assert torch.equal(plain.popularity, other.popularity)
    assert plain.training_hash == other.training_hash
    assert default_thresholds(plain) == default_thresholds(other)
    assert user_prompts(plain) == user_prompts(other)
    for name in ("prompt", "mean"):
        one, two = load_embeddings(plain, name), load_embeddings(other, name)
        assert torch.equal(one.items, two.items)
        assert torch.equal(one.users, two.users)
        assert torch.equal(one.similar_users(3), two.similar_users(3))


def items_of(value: Any, name: str = "") -> Iterator[Tensor]:
    """Every tensor of item numbers in a batch; a field that nobody has sorted yet is an error."""
    if (
        isinstance(value, Tensor)
        and not value.dtype.is_floating_point
        and value.dtype != torch.bool
    ):
        assert name in (*ITEM_FIELDS, *OTHER_FIELDS), (
            f"does {name!r} hold item numbers? say so above"
        )
        if name in ITEM_FIELDS:
            yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from items_of(getattr(value, field.name), field.name)


@pytest.mark.parametrize("name", TRAINED)
def test_a_canary_is_in_no_batch(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    dataset = build(tmp_path_factory.mktemp("canary") / "data", canary)
    system, data = start(dataset, name)
    seen = set()
    for phase in system.phases(data):
        if phase.name == "tagging":  # reads the texts of the catalogue, which is known; no event
            continue
        steps = phase.steps(0)
        for step in range(len(steps)):
            for items in items_of(steps[step]):
                seen |= set(items.unique().tolist())
    assert not seen & {IN_TEST, IN_VALID}
    assert seen or name in COUNTING
    assert int(dataset.popularity[[IN_TEST, IN_VALID]].sum()) == 0
    assert not any(
        "kanarienvogel" in text or "canarino" in text for text in user_prompts(dataset).texts
    )


@pytest.mark.parametrize("name", COMBINED)
def test_a_canary_in_the_test_part_changes_no_combination(
    plain: Dataset, tmp_path: Path, name: str
) -> None:
    planted = build(tmp_path / "data", canary_in_test)
    states = []
    for data, out in ((plain, tmp_path / "plain"), (planted, tmp_path / "planted")):
        for member in COUNTING:
            train(data, member, out=out / member, device="cpu")
        config = {"runs": [str(out / member) for member in COUNTING]}
        train(data, name, out=out / "both", config=config, device="cpu")
        states.append(load_run(out / "both").system.state_dict())
    one, two = states
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_canary_in_the_test_part_leaves_the_weights_as_they_are(
    plain: Dataset, tmp_path: Path, name: str
) -> None:
    planted = build(tmp_path / "data", canary_in_test)
    for data, out in ((plain, "plain"), (planted, "planted")):
        train(data, name, out=tmp_path / out, config=small_config(name), device="cpu")
    first, second = (load_run(tmp_path / out) for out in ("plain", "planted"))
    one, two = first.system.state_dict(), second.system.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(first.popularity, second.popularity)
    assert first.manifest.valid == second.manifest.valid
    assert isinstance(first.items, pa.Table)
