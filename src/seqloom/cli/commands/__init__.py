"""The commands, one module each. A command is the function with the module's name.

Modules are imported when their command is used: a new command is a new module and its line in `SUMMARIES`. A
command imports its pipeline inside the function, so that its help loads no numerical library.
"""

from __future__ import annotations

SUMMARIES = {
    "prepare": "Read, check, filter and split an interaction log.",
    "embed": "Embed the texts of a data set's items and users.",
    "import-llmesr": "Import the files published with LLM-ESR.",
    "ids": "Name items with a few words, as IDGenRec does.",
    "plan": "Estimate memory, time and disk space of a training.",
    "train": "Train a system on a prepared data set.",
    "tune-llm": "Tune a language model on instructions.",
    "tune-encoder": "Tune a text encoder on the training part of a data set.",
    "evaluate": "Rank each user's held-out item and report metrics.",
    "compare": "Test the differences between runs, user by user.",
    "sweep": "Train and evaluate every run of a plan.",
    "tune": "Search for a good configuration with Optuna.",
    "reproduce": "Train a run again from its manifest and compare the results.",
    "audit": "Check that no held-out event was used for training.",
    "recommend": "Recommend items to users, or for histories of item ids.",
    "add-items": "Add items without events to a run, by their text.",
    "serve": "Serve recommendations of trained runs over HTTP.",
    "mcp": "Give assistants tools over standard input and output (MCP).",
    "runs": "List runs with their metrics.",
    "show": "Show one run or data set: sizes, configuration, metrics.",
    "systems": "List the systems, or the configuration keys of one.",
    "token": "Create, list or revoke access tokens of a server.",
    "export": "Export a sequence model as ONNX, or item vectors for vector search.",
    "track": "Record a run in MLflow or Weights & Biases.",
    "demo": "Run everything on MovieLens-100K, from prepare to recommend.",
}
"""Commands in the order of the help, with the first line of their docstrings."""
