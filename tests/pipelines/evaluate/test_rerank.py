"""`evaluate --rerank`: gain, certainty and cost on a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqloom.cli.main import run as run_command
from seqloom.core.errors import ConfigError
from seqloom.llm.reranking.options import RerankOptions
from seqloom.pipelines.evaluate.rerank import evaluate_rerank
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from support.chat_server import ChatServer, chat_server
from support.datasets import SMALL, looping_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rerank")
    train(looping_dataset(made / "data"), "sasrec", out=made / "run", config=SMALL, device="cpu")
    return made / "run"


@pytest.fixture
def chat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model that knows the data: it likes the user's next item."""
    run = load_run(folder)
    held_out = run.dataset().held_out("test")
    known = {}
    for row in range(len(held_out.users)):
        history = held_out.histories.select(held_out.users.new_tensor([row])).flat()[1].tolist()
        key = tuple(run.titles[number - 1] for number in history[-10:])
        known[key] = run.titles[int(held_out.targets[row]) - 1]

    def answer(system: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"score": 100 if known[tuple(data["history"])] == data["candidate"] else 0}

    with chat_server(answer) as running:
        monkeypatch.setenv("SEQLOOM_CHAT_URL", running.url)
        yield running


def test_a_model_that_knows_pays(folder: Path, chat: ChatServer) -> None:
    options = RerankOptions(model="openai:m", candidates=20, price_in=1.0, price_out=2.0)
    result = evaluate_rerank(folder, options, sample=40, device="cpu")
    ndcg = result.metrics[0]
    assert ndcg.metric == "ndcg@10"
    assert ndcg.after == pytest.approx(result.in_reach)
    assert ndcg.low > 0
    assert ndcg.p < 0.05
    assert result.verdict.startswith("Reranking pays")
    assert result.tokens_in + result.tokens_out == chat.tokens
    assert result.money == pytest.approx((result.tokens_in + 2 * result.tokens_out) / 1e6)
    assert (result.reranked, result.left) == (40, {})
    assert result.latency_ms <= result.latency_p95_ms
    again = evaluate_rerank(folder, options, sample=40, device="cpu")
    assert again.metrics == result.metrics


def test_a_model_that_fails_changes_nothing(folder: Path, chat: ChatServer) -> None:
    chat.status = 503
    options = RerankOptions(model="openai:m")
    result = evaluate_rerank(folder, options, sample=5, device="cpu")
    assert all(metric.difference == 0 for metric in result.metrics)
    assert result.reranked == 0
    assert sum(result.left.values()) == 5


def test_the_command_reports_it(folder: Path, chat: ChatServer, capsys: Any) -> None:
    line = ["evaluate", str(folder), "--rerank", "openai:m", "--rerank-set", "candidates=5"]
    assert run_command([*line, "--sample", "6", "--device", "cpu", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["options"]["candidates"] == 5
    assert document["users"] == 6
    assert run_command(["evaluate", str(folder), "--rerank-set", "candidates=5"]) == 2
    assert "--rerank" in capsys.readouterr().err


def test_a_catalogue_without_titles_is_refused(folder: Path, chat: ChatServer) -> None:
    run = load_run(folder)
    run.titles = [None] * len(run.item_ids)
    with pytest.raises(ConfigError, match="no titles"):
        evaluate_rerank(run, RerankOptions(model="openai:m"))
