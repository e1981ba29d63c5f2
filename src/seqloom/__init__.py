"""seqloom: large language models for sequential recommendation.

The names below are resolved on first use, so `import seqloom` loads neither torch nor any model
library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seqloom.core.errors import SeqloomError
    from seqloom.data.store import Dataset
    from seqloom.runs.add_items import add_items
    from seqloom.runs.audit import audit
    from seqloom.runs.compare import compare
    from seqloom.runs.embed import embed
    from seqloom.runs.evaluate import evaluate
    from seqloom.runs.folder import load_run
    from seqloom.runs.foundation import train_foundation
    from seqloom.runs.plan import plan
    from seqloom.runs.prepare import prepare
    from seqloom.runs.recommend import recommend
    from seqloom.runs.reproduce import reproduce
    from seqloom.runs.sweep import sweep
    from seqloom.runs.textual_ids import textual_ids
    from seqloom.runs.train import train
    from seqloom.runs.tune import tune
    from seqloom.runs.tune_llm import tune_llm
    from seqloom.runs.zero_shot import zero_shot

    load_dataset = Dataset.load

__all__ = [
    "SeqloomError",
    "__version__",
    "add_items",
    "audit",
    "compare",
    "embed",
    "evaluate",
    "load_dataset",
    "load_run",
    "plan",
    "prepare",
    "recommend",
    "reproduce",
    "sweep",
    "textual_ids",
    "train",
    "train_foundation",
    "tune",
    "tune_llm",
    "zero_shot",
]

_HOMES = {
    "SeqloomError": "seqloom.core.errors:SeqloomError",
    "add_items": "seqloom.runs.add_items:add_items",
    "audit": "seqloom.runs.audit:audit",
    "compare": "seqloom.runs.compare:compare",
    "embed": "seqloom.runs.embed:embed",
    "evaluate": "seqloom.runs.evaluate:evaluate",
    "load_dataset": "seqloom.data.store:Dataset.load",
    "load_run": "seqloom.runs.folder:load_run",
    "plan": "seqloom.runs.plan:plan",
    "prepare": "seqloom.runs.prepare:prepare",
    "recommend": "seqloom.runs.recommend:recommend",
    "reproduce": "seqloom.runs.reproduce:reproduce",
    "sweep": "seqloom.runs.sweep:sweep",
    "textual_ids": "seqloom.runs.textual_ids:textual_ids",
    "train": "seqloom.runs.train:train",
    "train_foundation": "seqloom.runs.foundation:train_foundation",
    "tune": "seqloom.runs.tune:tune",
    "tune_llm": "seqloom.runs.tune_llm:tune_llm",
    "zero_shot": "seqloom.runs.zero_shot:zero_shot",
}


def __getattr__(name: str) -> Any:
    """Import the home of a public name and keep what was found."""
    if name not in _HOMES:
        raise AttributeError(f"module 'seqloom' has no attribute {name!r}")
    module, _, path = _HOMES[name].partition(":")
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
