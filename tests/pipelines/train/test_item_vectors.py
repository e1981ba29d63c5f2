"""Runs that are plug-ins of one language model: what they hold, whom they fit, that they do not mix."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from seqloom.core.errors import ArtefactError, AssetError, ConfigError, SeqloomError
from seqloom.data.store import Dataset
from seqloom.llm.reference import weights_sha256
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.system import E4SRec
from support.datasets import SMALL, tiny_dataset
from support.language_models import save_tiny_llama, shared_tiny_llama

FIRST: dict[str, Any] = {"seed": 1}
SECOND: dict[str, Any] = {"seed": 2, "mode": "prompt"}


def loops(path: Path, items: int, users: int) -> Dataset:
    draw = torch.Generator().manual_seed(items)
    starts = torch.randint(items, (users,), generator=draw).tolist()
    histories = [[(start + i) % items + 1 for i in range(4 + start % 5)] for start in starts]
    return tiny_dataset(path, histories, [f"thing {n}" for n in range(1, items + 1)])


def config(**changes: Any) -> dict[Any, Any]:
    model = {"name": str(shared_tiny_llama()), "num_layers": 1}
    own = {"epochs": 1, "batch_size": 16, "max_len": 8, "llm": model, "candidates": "ids"}
    return {**own, "ids": {"config": SMALL}, **changes}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two catalogues of different size."""
    folder = tmp_path_factory.mktemp("data")
    return [loops(folder / "first", 30, 40), loops(folder / "second", 21, 30)]


@pytest.fixture(scope="module")
def plugins(datasets: list[Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A run on each."""
    folder = tmp_path_factory.mktemp("plugins")
    for number, changes in enumerate((FIRST, SECOND)):
        train(datasets[number], "e4srec", out=folder / str(number), config=config(**changes))
    return [folder / "0", folder / "1"]


def test_a_run_holds_the_plug_in_and_the_giver_of_its_ids(
    plugins: list[Any], datasets: list[Any]
) -> None:
    state = load_file(plugins[0] / "weights.safetensors")
    given = load_file(plugins[0] / "ids" / "weights.safetensors")
    stored = {name: state.pop(name) for name in list(state) if name.startswith("giver.")}
    assert {f"giver.{name}" for name in given} == set(stored)
    assert all(torch.equal(given[name], stored[f"giver.{name}"]) for name in given)
    assert (float(state.pop("blend")), float(state.pop("id_scale"))) >= (0.0, 0.0)
    assert set(state) >= {"ids", "head", "reader.projection.weight", "reader.projection.bias"}
    assert all(name.startswith(("ids", "head", "reader.")) for name in state)
    assert sum("lora_" in name for name in state) == 2 * 3  # one layer
    halves = {name for name in state if state[name].dtype == torch.float16}
    assert set(state) - halves == {"reader.projection.weight", "reader.projection.bias"}
    assert state["head"].shape == (30, 32)
    assert state["ids"].shape == (30, 16)
    manifest = json.loads((plugins[0] / "manifest.json").read_text())
    assert manifest["base"] == {
        "name": str(shared_tiny_llama()),
        "sha256": manifest["base"]["sha256"],
        "num_layers": 1,
    }
    assert manifest["ids"]["system"] == "sasrec"
    assert not (plugins[0] / "checkpoints").exists()


def test_plug_ins_share_the_base_and_do_not_mix(plugins: list[Any], datasets: list[Any]) -> None:
    histories = [[["i1", "i2", "i3"], ["i9"]], [["i1", "i2", "i3"], ["i20", "i21"]]]
    alone = [load_run(path).recommend(h, k=8) for path, h in zip(plugins, histories, strict=True)]
    runs: list[Any] = [load_run(path) for path in plugins]
    assert runs[0].system.base is runs[1].system.base
    names = [run.system.reader.adapter.name for run in runs]
    assert names[0] != names[1]
    turns = [number % 2 for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda n: runs[n].recommend(histories[n], k=8), turns))
    for number, answer in zip(turns, actual, strict=True):
        assert answer == alone[number]
    # A third one that comes and goes does not disturb them.
    third = load_run(plugins[0])
    third.recommend([["i5"]])
    del third
    assert runs[1].recommend(histories[1], k=8) == alone[1]


def test_a_plug_in_refuses_another_base(plugins: list[Any], tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(plugins[0], other)
    values = yaml.safe_load((other / "config.yaml").read_text())
    values["llm"]["name"] = str(save_tiny_llama(tmp_path / "other", seed=9))
    (other / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ArtefactError, match=r"plug-in of .* with 1 layers .* name the right one"):
        load_run(other)
    values["llm"] = {**values["llm"], "name": str(shared_tiny_llama()), "num_layers": 2}
    (other / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ArtefactError, match=r"was changed since training \(only llm.name may\)"):
        load_run(other)


def test_a_plug_in_for_beauty_is_small() -> None:
    """12,101 items over the whole SmolLM2-135M: at most 40 MB with items and ID run beside it."""
    try:
        weights_sha256("smollm2-135m-instruct")
    except AssetError as error:
        pytest.skip(f"the real SmolLM2 cannot be had here: {error}")
    system = E4SRec(E4SRecConfig(candidates="ids"), Sizes(num_items=12_101, id_size=128))
    size = sum(value.nbytes for value in system.saved_state().values())
    id_run = 4 * 12_101 * 128 + 2_000_000  # a sasrec 128 wide
    items = 2 * 700_000
    assert size + id_run + items < 40_000_000


def test_a_moved_base_is_the_same_base(plugins: list[Any], tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(plugins[0], moved)
    shutil.copytree(shared_tiny_llama(), tmp_path / "llama")
    values = yaml.safe_load((moved / "config.yaml").read_text())
    values["llm"]["name"] = str(tmp_path / "llama")
    (moved / "config.yaml").write_text(yaml.safe_dump(values))
    history = [["i1", "i2"]]
    assert load_run(moved).recommend(history) == load_run(plugins[0]).recommend(history)


def test_an_evaluation_scores_what_validation_saw(plugins: list[Any], datasets: list[Any]) -> None:
    """The metrics of the manifest are those of the stored weights, in half precision."""
    run = load_run(plugins[0])
    actual = evaluate(run, on="valid", dataset=datasets[0], device="cpu").metrics
    for name, value in run.manifest.valid.items():
        assert actual[name] == pytest.approx(value, abs=1e-6)


def ids_config(system: str) -> dict[str, object]:
    if system not in ("gru4rec", "bert4rec"):
        return SMALL
    return {**SMALL, "encoder": {**SMALL["encoder"], "kind": system}}


@pytest.mark.parametrize("system", ["sasrec", "gru4rec", "bert4rec", "llminit", "llmesr"])
def test_ids_come_from_a_run_of_the_same_data(
    datasets: list[Any], tmp_path: Path, system: str
) -> None:
    data = datasets[0]
    if system in ("llminit", "llmesr"):
        embed(data, EmbedOptions(encoder="hash", users="mean"))
    train(data, system, out=tmp_path / "ids", config=ids_config(system))
    train(data, "e4srec", out=tmp_path / "run", config=config(ids={"run": str(tmp_path / "ids")}))
    run = load_run(tmp_path / "run")
    scorer: Any = load_run(tmp_path / "ids").scorer
    vectors = scorer.item_vectors
    expected = vectors / vectors.square().mean().sqrt()
    torch.testing.assert_close(run.system.ids, expected, rtol=1e-3, atol=1e-4)
    assert run.manifest.ids["system"] == system
    assert not (tmp_path / "run" / "ids").exists()


def test_ids_that_do_not_fit_are_refused(datasets: list[Any], tmp_path: Path) -> None:
    train(datasets[0], "popularity", out=tmp_path / "popular")
    required = config(ids={"run": str(tmp_path / "popular")})
    with pytest.raises(ConfigError, match="'popularity', which has no vector for each item"):
        train(datasets[0], "e4srec", out=tmp_path / "a", config=required)
    train(datasets[1], "sasrec", out=tmp_path / "other", config=SMALL)
    required = config(ids={"run": str(tmp_path / "other")})
    with pytest.raises(ArtefactError, match="not the data set of the run"):
        train(datasets[0], "e4srec", out=tmp_path / "b", config=required)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_language_model_that_is_missing_is_reported_before_training(
    datasets: list[Any], tmp_path: Path
) -> None:
    for llm, message in [({"name": "./no-such-model"}, "does not exist"), ({}, "1 to 2 are")]:
        model = {"name": str(shared_tiny_llama()), "num_layers": 7, **llm}
        with pytest.raises(SeqloomError, match=message):
            train(datasets[0], "e4srec", out=tmp_path / "run", config=config(llm=model))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["causal", "prompt"])
def test_a_killed_run_resumes_to_the_same_bits(
    datasets: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from seqloom.training.checkpoint import Checkpoints

    required = config(epochs=2, mode=mode, ids={"run": str(tmp_path / "ids")})
    train(datasets[0], "sasrec", out=tmp_path / "ids", config=SMALL)
    save, saves = Checkpoints.save_last, []

    def save_and_die(self: Any, *arguments: Any) -> None:
        save(self, *arguments)
        saves.append(1)
        if len(saves) == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"config": required, "device": "cpu", "checkpoint_every_s": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_last", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(datasets[0], "e4srec", out=tmp_path / "killed", **options)
    train(datasets[0], "e4srec", out=tmp_path / "killed", resume=True, **options)
    train(datasets[0], "e4srec", out=tmp_path / "whole", **options)
    first, second = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("killed", "whole")
    )
    assert all(torch.equal(first[name], second[name]) for name in first | second)
