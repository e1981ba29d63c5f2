"""The tools, called by the client of the official SDK: in this process, and over standard streams."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the package mcp is not installed (pip install 'seqloom[mcp]')")

from mcp import Client, StdioServerParameters

from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.runs.folder import load_run
from seqloom.serving.mcp.server import build_server, open_engine
from support.servers import SOURCES

TOOLS = {"recommend", "similar", "explain", "search_items", "compare"}
HISTORY = ["i3", "i7", "i11"]


@pytest.fixture(scope="module")
def server(runs: Any) -> Iterator[Any]:
    for name in ("llmesr", "popularity"):
        evaluate(runs[name], device="cpu")
    with open_engine(runs) as engine:
        yield build_server(engine)


def call(server: Any, tool: str, **arguments: Any) -> Any:
    """The structured answer of a tool, or its error text."""

    async def ask() -> Any:
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
            return (
                getattr(result.content[0], "text", "")
                if result.is_error
                else result.structured_content
            )

    return asyncio.run(ask())


def listed(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_every_tool_has_a_description_and_schemas(server: Any) -> None:
    async def ask() -> Any:
        async with Client(server) as client:
            return (await client.list_tools()).tools

    tools = asyncio.run(ask())
    assert {tool.name for tool in tools} == TOOLS
    assert all(tool.description and tool.input_schema and tool.output_schema for tool in tools)


def test_recommend_is_that_of_the_library(server: Any, runs: Any) -> None:
    answer = call(server, "recommend", history=HISTORY, k=5, about="red, not blue")
    expected = load_run(runs["llmesr"]).recommend([HISTORY], k=5, about="red, not blue")[0]
    assert listed(answer) == [item.item_id for item in expected.items]
    assert answer["about"]["unwanted"] == ["blue"]
    assert answer["items"][0]["title"].startswith("red thing")
    assert call(server, "recommend", user_id="u1")["history_length"] > 0


def test_the_other_tools_answer(server: Any) -> None:
    assert len(call(server, "similar", item_id="i3", k=4)["items"]) == 4
    reason = call(server, "explain", history=HISTORY)
    assert reason["rank"] >= 1
    assert {each["item_id"] for each in reason["history"]} == set(HISTORY)
    assert set(reason["views"]) == {"semantic", "collaborative"}
    found = call(server, "search_items", query="numb 5 red")["items"]
    assert found
    assert all("red" in item["title"] for item in found)


def test_compare_tests_the_stored_evaluations(server: Any) -> None:
    answer = call(server, "compare", first="popularity", second="llmesr")
    assert answer["users"] > 0
    for metric in answer["metrics"]:
        assert metric["low"] <= metric["difference"] <= metric["high"]
        assert metric["difference"] == pytest.approx(metric["second"] - metric["first"])
    assert "seqloom evaluate" in call(server, "compare", first="popularity", second="sasrec")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("recommend", {}, "exactly one"),
        ("recommend", {"history": HISTORY, "k": 1000}, "between 1 and 100"),
        ("recommend", {"history": HISTORY * 1000}, "at most 1000"),
        ("recommend", {"history": HISTORY, "about": "red, not red"}, "for and against"),
        ("recommend", {"history": HISTORY, "model": "none"}, "no model 'none'"),
        ("similar", {"item_id": "nothing"}, "does not know item"),
        ("explain", {"history": []}, "no history"),
        ("search_items", {"query": "red", "limit": 0}, "limit is 0"),
        ("compare", {"first": "llmesr", "second": "none"}, "no model"),
    ],
)
def test_errors_are_told_to_the_assistant(
    server: Any, tool: Any, arguments: Any, message: Any
) -> None:
    assert message in call(server, tool, **arguments)


def test_a_process_speaks_over_standard_input_and_output(runs: Any, tmp_path: Path) -> None:
    main = "from seqloom.cli.main import main; main()"
    arguments = ["-c", main, "mcp", f"first={runs['sasrec']}", str(runs["popularity"])]
    environment = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    parameters = StdioServerParameters(
        command=sys.executable, args=arguments, env=environment, cwd=tmp_path
    )

    async def ask() -> tuple[Any, Any]:
        async with Client(parameters) as client:
            tools = await client.list_tools()
            answer = await client.call_tool("recommend", {"user_id": "u1", "k": 3})
            return {tool.name for tool in tools.tools}, answer

    names, answer = asyncio.run(ask())
    assert names == TOOLS
    assert answer.structured_content["model"] == "first"
    assert len(answer.structured_content["items"]) == 3
