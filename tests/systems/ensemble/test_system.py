"""An ensemble as a run: made of runs, whole without them, fast where its members are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.protocols import VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset, HeldOut
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from support.datasets import small_config, tiny_dataset

HISTORIES = Sequences.from_lists([[1, 2, 3], [7], [4, 9, 1, 33, 12], list(range(1, 21)), [40]])


def scores(run: Run) -> torch.Tensor:
    batch = HISTORIES.pad(run.system.max_len)
    with torch.inference_mode():
        return run.scorer.score(batch.items, batch.lengths)


def own_scores(path: str, scale: str) -> torch.Tensor:
    """A member's scores on the ensemble's scale, from its own run."""
    actual = scores(load_run(path)).double()
    return actual if scale == "logits" else actual / actual.std(1, correction=0, keepdim=True)


@pytest.mark.parametrize("scale", ["logits", "z_score"])
@pytest.mark.parametrize("names", [("sasrec", "gru4rec"), ("sasrec", "itemknn")])
def test_scores_are_the_weighted_sum_of_the_members(
    dataset: Dataset, members: dict[str, str], scale: str, names: tuple[str, str], tmp_path: Path
) -> None:
    paths = [members[name] for name in names]
    train(
        dataset,
        "ensemble",
        out=tmp_path / "both",
        config={"runs": paths, "scale": scale},
        device="cpu",
    )
    run: Any = load_run(tmp_path / "both")
    weights = run.system.weights.double()
    expected = sum(w * own_scores(path, scale) for w, path in zip(weights, paths, strict=True))
    torch.testing.assert_close(scores(run).double(), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(run.scorer, VectorScorer) == ("itemknn" not in names)
    assert run.manifest.cost.members_seconds > 0
    assert [member.system for member in run.manifest.members] == list(names)


def test_members_of_other_lengths_read_their_own_part_of_a_history(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    short = {**small_config("sasrec"), "encoder": {"hidden_size": 8, "max_len": 3}}
    train(dataset, "sasrec", out=tmp_path / "short", config=short, device="cpu")
    paths = [str(tmp_path / "short"), members["gru4rec"]]
    train(
        dataset,
        "ensemble",
        out=tmp_path / "both",
        config={"runs": paths, "scale": "logits"},
        device="cpu",
    )
    run: Any = load_run(tmp_path / "both")
    assert run.system.max_len == 8
    expected = sum(
        w * own_scores(path, "logits")
        for w, path in zip(run.system.weights.double(), paths, strict=True)
    )
    torch.testing.assert_close(scores(run).double(), expected, rtol=1e-4, atol=1e-4)
    assert run.system.view_columns() == {"short": slice(0, 8), "gru4rec": slice(8, 24)}


def test_an_ensemble_needs_its_members_no_more_and_nests(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    for name in ("sasrec", "gru4rec"):
        shutil.copytree(members[name], tmp_path / name)
    inner = {
        "runs": [str(tmp_path / "sasrec"), str(tmp_path / "gru4rec")],
        "objective": "likelihood",
    }
    train(dataset, "ensemble", out=tmp_path / "inner", config=inner, device="cpu")
    outer = {"runs": [str(tmp_path / "inner"), members["itemknn"]]}
    train(dataset, "ensemble", out=tmp_path / "outer", config=outer, device="cpu")
    before = scores(load_run(tmp_path / "outer"))
    for name in ("sasrec", "gru4rec", "inner"):
        shutil.rmtree(tmp_path / name)
    reported = train(dataset, "ensemble", out=tmp_path / "outer", config=outer, resume=True)
    assert reported.valid
    run = load_run(tmp_path / "outer")
    assert torch.equal(scores(run), before)
    assert evaluate(run).users == 60


def test_the_test_part_is_never_read(
    dataset: Dataset, members: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Dataset.held_out

    def held_out(self: Any, part: Any) -> HeldOut:
        assert part == "valid"
        return read(self, part)

    monkeypatch.setattr(Dataset, "held_out", held_out)
    config = {"runs": list(members.values()), "objective": "ndcg"}
    train(dataset, "ensemble", out=tmp_path / "all", config=config, device="cpu")


def test_what_cannot_be_combined_is_reported(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    other = tiny_dataset(tmp_path / "other", [[1, 2, 3, 4]] * 4)
    train(other, "popularity", out=tmp_path / "elsewhere", device="cpu")
    for runs, error, message in (
        ([members["sasrec"], str(tmp_path / "elsewhere")], ArtefactError, "not the data set"),
        ([members["sasrec"], members["sasrec"]], ConfigError, "named twice"),
        ([members["sasrec"], str(tmp_path / "nowhere")], ArtefactError, "is missing"),
        ([members["sasrec"]], ConfigError, "at least 2"),
    ):
        with pytest.raises(error, match=message):
            train(dataset, "ensemble", out=tmp_path / "none", config={"runs": runs})
        assert not (tmp_path / "none").exists()


def test_a_damaged_member_list_is_detected(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    config = {"runs": [members["sasrec"], members["itemknn"]]}
    train(dataset, "ensemble", out=tmp_path / "both", config=config, device="cpu")
    file = tmp_path / "both" / "model" / "members.json"
    file.write_text(
        file.read_text().replace("gelu", "relu").replace('"num_layers": 2', '"num_layers": 1')
    )
    with pytest.raises(ArtefactError, match="damaged or changed since training"):
        load_run(tmp_path / "both")


@pytest.mark.parametrize("system", ["e4srec", pytest.param("idgenrec", marks=pytest.mark.slow)])
def test_language_models_can_be_members(
    dataset: Dataset, members: dict[str, str], system: str, tmp_path: Path
) -> None:
    train(dataset, system, out=tmp_path / system, config=small_config(system), device="cpu")
    paths = [members["sasrec"], str(tmp_path / system)]
    train(
        dataset,
        "ensemble",
        out=tmp_path / "both",
        config={"runs": paths, "scale": "logits"},
        device="cpu",
    )
    run: Any = load_run(tmp_path / "both")
    expected = sum(
        w * own_scores(path, "logits")
        for w, path in zip(run.system.weights.double(), paths, strict=True)
    )
    # A plug-in is stored in half precision, and once more with the ensemble.
    torch.testing.assert_close(scores(run).double(), expected, rtol=1e-3, atol=1e-3)


def test_a_server_answers_from_an_ensemble_and_explains_by_member(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    from seqloom.serving.engine.answering import answer
    from seqloom.serving.engine.model import ServedModel
    from seqloom.serving.engine.queries import Explain

    config = {"runs": [members["sasrec"], members["gru4rec"]]}
    train(dataset, "ensemble", out=tmp_path / "both", config=config, device="cpu")
    model = ServedModel("both", tmp_path / "both")
    assert model.by_vectors
    with pytest.raises(ConfigError, match="run of ensemble cannot take new items"):
        load_run(tmp_path / "both").add_items(dataset.items)
    explained: Any
    (explained,) = answer(model, [Explain(history=("i3", "i4"), item_id="i5")], {})
    assert set(explained.views) == {"sasrec", "gru4rec"}
    total = sum(part.score for part in explained.views.values())
    assert total == pytest.approx(explained.score, rel=1e-4)


def test_only_members_with_a_weight_are_asked_for_text_and_language_model(
    dataset: Dataset, members: dict[str, str], tmp_path: Path
) -> None:
    train(dataset, "textknn", out=tmp_path / "text", device="cpu")
    paths = [members["sasrec"], str(tmp_path / "text")]
    train(dataset, "ensemble", out=tmp_path / "both", config={"runs": paths}, device="cpu")
    system: Any = load_run(tmp_path / "both").system
    text = system.systems[1]
    text.sizes = text.sizes.model_copy(update={"text_by_language_model": True})
    for weight in (0.0, 0.5):
        system.weights[1] = weight
        assert system.reads_text == system.uses_language_model == (weight > 0)
    text.sizes = text.sizes.model_copy(update={"text_by_language_model": False})
    assert (system.reads_text, system.uses_language_model) == (True, False)
