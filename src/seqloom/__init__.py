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
    from seqloom.pipelines.audit import audit
    from seqloom.pipelines.compare.compare import compare
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.estimate.plan import plan
    from seqloom.pipelines.evaluate.evaluate import evaluate
    from seqloom.pipelines.evaluate.zero_shot import zero_shot
    from seqloom.pipelines.experiments.reproduce import reproduce
    from seqloom.pipelines.experiments.sweep import sweep
    from seqloom.pipelines.experiments.tune import tune
    from seqloom.pipelines.prepare.prepare import prepare
    from seqloom.pipelines.recommend.add_items import add_items
    from seqloom.pipelines.recommend.recommend import recommend
    from seqloom.pipelines.train.foundation import train_foundation
    from seqloom.pipelines.train.textual_ids import textual_ids
    from seqloom.pipelines.train.train import train
    from seqloom.pipelines.train.tune_llm import tune_llm
    from seqloom.runs.folder import load_run

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
    "add_items": "seqloom.pipelines.recommend.add_items:add_items",
    "audit": "seqloom.pipelines.audit:audit",
    "compare": "seqloom.pipelines.compare.compare:compare",
    "embed": "seqloom.pipelines.embed.embed:embed",
    "evaluate": "seqloom.pipelines.evaluate.evaluate:evaluate",
    "load_dataset": "seqloom.data.store:Dataset.load",
    "load_run": "seqloom.runs.folder:load_run",
    "plan": "seqloom.pipelines.estimate.plan:plan",
    "prepare": "seqloom.pipelines.prepare.prepare:prepare",
    "recommend": "seqloom.pipelines.recommend.recommend:recommend",
    "reproduce": "seqloom.pipelines.experiments.reproduce:reproduce",
    "sweep": "seqloom.pipelines.experiments.sweep:sweep",
    "textual_ids": "seqloom.pipelines.train.textual_ids:textual_ids",
    "train": "seqloom.pipelines.train.train:train",
    "train_foundation": "seqloom.pipelines.train.foundation:train_foundation",
    "tune": "seqloom.pipelines.experiments.tune:tune",
    "tune_llm": "seqloom.pipelines.train.tune_llm:tune_llm",
    "zero_shot": "seqloom.pipelines.evaluate.zero_shot:zero_shot",
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
