"""seqloom: large language models for sequential recommendation.

Everything that the guides use is importable from here. Names are resolved on first use, so
`import seqloom` loads neither torch nor any model library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqloom._version import __version__

if TYPE_CHECKING:
    from seqloom.core.device import keep_freed_memory
    from seqloom.core.errors import (
        ArtefactError,
        AssetError,
        ConfigError,
        DataError,
        EmbeddingError,
        EngineError,
        LanguageModelError,
        LockedError,
        ProcessError,
        SeqloomError,
        ServingError,
        StorageError,
        StoreError,
        TrainingError,
    )
    from seqloom.core.interactive import show_progress
    from seqloom.core.progress import Progress, Task
    from seqloom.data.options import ReadOptions
    from seqloom.data.store import Dataset
    from seqloom.evaluation.compare import Comparison, compare_runs
    from seqloom.evaluation.differences import Difference
    from seqloom.evaluation.evaluated_run import EvaluatedRun
    from seqloom.evaluation.groups import GroupThresholds, group_metrics
    from seqloom.evaluation.metrics import rank_metrics
    from seqloom.evaluation.protocol import RankingProtocol
    from seqloom.evaluation.ranks_file import RankTable, read_ranks
    from seqloom.jobs import JobOptions, JobRunner, build_runner
    from seqloom.llm.reranking.options import RerankOptions
    from seqloom.pipelines.audit import audit
    from seqloom.pipelines.audit.report import Audit, Check
    from seqloom.pipelines.compare.compare import compare
    from seqloom.pipelines.demo import DemoSummary, demo
    from seqloom.pipelines.embed.embed import EmbedSummary, embed
    from seqloom.pipelines.embed.options import EmbedOptions
    from seqloom.pipelines.estimate.plan import TrainingPlan, plan
    from seqloom.pipelines.evaluate.evaluate import evaluate
    from seqloom.pipelines.evaluate.rerank import RerankEvaluation, evaluate_rerank
    from seqloom.pipelines.evaluate.stored import Evaluation
    from seqloom.pipelines.evaluate.zero_shot import ZeroShot, zero_shot
    from seqloom.pipelines.experiments.reproduce import Reproduction, reproduce
    from seqloom.pipelines.experiments.search_space import TunePlan
    from seqloom.pipelines.experiments.sweep import SweepSummary, sweep
    from seqloom.pipelines.experiments.sweep_grid import SweepPlan
    from seqloom.pipelines.experiments.tune import SearchSummary, tune
    from seqloom.pipelines.overview import RunList, list_runs
    from seqloom.pipelines.prepare.import_llmesr import ImportSummary, import_llmesr
    from seqloom.pipelines.prepare.options import PrepareOptions
    from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
    from seqloom.pipelines.prepare.prepare import prepare, statistics_table
    from seqloom.pipelines.recommend.add_items import AddItemsSummary, add_items
    from seqloom.pipelines.recommend.export import ExportedRun, export
    from seqloom.pipelines.recommend.recommend import recommend
    from seqloom.pipelines.recommend.recommend_shards import ListsManifest, open_lists, recommend_by
    from seqloom.pipelines.recommend.vectors.export_vectors import ExportedVectors, export_vectors
    from seqloom.pipelines.train.foundation import train_foundation
    from seqloom.pipelines.train.summary import TrainSummary
    from seqloom.pipelines.train.textual_ids import IDSummary, textual_ids
    from seqloom.pipelines.train.tracking import TrackedRun, track
    from seqloom.pipelines.train.train import train
    from seqloom.pipelines.train.tune_encoder import EncoderTuningSummary, tune_encoder
    from seqloom.pipelines.train.tune_llm import LLMTuningSummary, tune_llm
    from seqloom.reports.plots import plot_differences, plot_metrics, plot_training
    from seqloom.runs.folder import Run, load_run
    from seqloom.runs.recommendations import Recommendation, Recommendations, RecommendedItem
    from seqloom.systems.registry import config_class
    from seqloom.systems.registry import names as system_names
    from seqloom.text.store import TextEmbeddings, load_embeddings
    from seqloom.training.trackers import Tracker

    load_dataset = Dataset.load

__all__ = [
    "AddItemsSummary",
    "ArtefactError",
    "AssetError",
    "Audit",
    "Check",
    "Comparison",
    "ConfigError",
    "DataError",
    "Dataset",
    "DemoSummary",
    "Difference",
    "EmbedOptions",
    "EmbedSummary",
    "EmbeddingError",
    "EncoderTuningSummary",
    "EngineError",
    "EvaluatedRun",
    "Evaluation",
    "ExportedRun",
    "ExportedVectors",
    "GroupThresholds",
    "IDSummary",
    "ImportSummary",
    "JobOptions",
    "JobRunner",
    "LLMTuningSummary",
    "LanguageModelError",
    "ListsManifest",
    "LockedError",
    "PrepareOptions",
    "ProcessError",
    "Progress",
    "RankTable",
    "RankingProtocol",
    "ReadOptions",
    "Recommendation",
    "Recommendations",
    "RecommendedItem",
    "Reproduction",
    "RerankEvaluation",
    "RerankOptions",
    "Run",
    "RunList",
    "SearchSummary",
    "SeqloomError",
    "ServingError",
    "StorageError",
    "StoreError",
    "SweepPlan",
    "SweepSummary",
    "Task",
    "TextEmbeddings",
    "TrackedRun",
    "Tracker",
    "TrainSummary",
    "TrainingError",
    "TrainingPlan",
    "TunePlan",
    "ZeroShot",
    "__version__",
    "add_items",
    "audit",
    "build_runner",
    "compare",
    "compare_runs",
    "config_class",
    "demo",
    "embed",
    "evaluate",
    "evaluate_rerank",
    "export",
    "export_vectors",
    "group_metrics",
    "import_llmesr",
    "keep_freed_memory",
    "list_runs",
    "load_dataset",
    "load_embeddings",
    "load_run",
    "open_lists",
    "plan",
    "plot_differences",
    "plot_metrics",
    "plot_training",
    "prepare",
    "prepare_out_of_core",
    "rank_metrics",
    "read_ranks",
    "recommend",
    "recommend_by",
    "reproduce",
    "show_progress",
    "statistics_table",
    "sweep",
    "system_names",
    "textual_ids",
    "track",
    "train",
    "train_foundation",
    "tune",
    "tune_encoder",
    "tune_llm",
    "zero_shot",
]

# The public names by home module; `name=path` where the home has another name for it.
_HOMES = {
    "seqloom.pipelines.overview": "RunList list_runs",
    "seqloom.training.trackers": "Tracker",
    "seqloom.pipelines.train.tracking": "TrackedRun track",
    "seqloom.pipelines.recommend.vectors.export_vectors": "ExportedVectors export_vectors",
    "seqloom.reports.plots": "plot_differences plot_metrics plot_training",
    "seqloom.core.interactive": "show_progress",
    "seqloom.core.device": "keep_freed_memory",
    "seqloom.core.errors": (
        "ArtefactError AssetError ConfigError DataError EmbeddingError EngineError LanguageModelError "
        "LockedError "
        "ProcessError SeqloomError ServingError StorageError StoreError TrainingError"
    ),
    "seqloom.core.progress": "Progress Task",
    "seqloom.data.options": "ReadOptions",
    "seqloom.data.store": "Dataset load_dataset=Dataset.load",
    "seqloom.evaluation.compare": "Comparison EvaluatedRun compare_runs",
    "seqloom.evaluation.differences": "Difference",
    "seqloom.evaluation.groups": "GroupThresholds group_metrics",
    "seqloom.evaluation.metrics": "rank_metrics",
    "seqloom.evaluation.protocol": "RankingProtocol",
    "seqloom.evaluation.ranks_file": "RankTable read_ranks",
    "seqloom.jobs": "JobRunner JobOptions build_runner",
    "seqloom.llm.reranking.options": "RerankOptions",
    "seqloom.pipelines.audit": "audit",
    "seqloom.pipelines.audit.report": "Audit Check",
    "seqloom.pipelines.compare.compare": "compare",
    "seqloom.pipelines.demo": "DemoSummary demo",
    "seqloom.pipelines.embed.embed": "EmbedSummary embed",
    "seqloom.pipelines.embed.options": "EmbedOptions",
    "seqloom.pipelines.estimate.plan": "TrainingPlan plan",
    "seqloom.pipelines.evaluate.evaluate": "evaluate",
    "seqloom.pipelines.evaluate.stored": "Evaluation",
    "seqloom.pipelines.evaluate.rerank": "RerankEvaluation evaluate_rerank",
    "seqloom.pipelines.evaluate.zero_shot": "ZeroShot zero_shot",
    "seqloom.pipelines.experiments.reproduce": "Reproduction reproduce",
    "seqloom.pipelines.experiments.search_space": "TunePlan",
    "seqloom.pipelines.experiments.sweep": "SweepSummary sweep",
    "seqloom.pipelines.experiments.sweep_grid": "SweepPlan",
    "seqloom.pipelines.experiments.tune": "SearchSummary tune",
    "seqloom.pipelines.prepare.import_llmesr": "ImportSummary import_llmesr",
    "seqloom.pipelines.prepare.out_of_core": "prepare_out_of_core",
    "seqloom.pipelines.prepare.options": "PrepareOptions",
    "seqloom.pipelines.prepare.prepare": "prepare statistics_table",
    "seqloom.pipelines.recommend.add_items": "AddItemsSummary add_items",
    "seqloom.pipelines.recommend.export": "ExportedRun export",
    "seqloom.pipelines.recommend.recommend": "recommend",
    "seqloom.pipelines.recommend.recommend_shards": "ListsManifest open_lists recommend_by",
    "seqloom.pipelines.train.foundation": "train_foundation",
    "seqloom.pipelines.train.textual_ids": "IDSummary textual_ids",
    "seqloom.pipelines.train.summary": "TrainSummary",
    "seqloom.pipelines.train.train": "train",
    "seqloom.pipelines.train.tune_encoder": "EncoderTuningSummary tune_encoder",
    "seqloom.pipelines.train.tune_llm": "LLMTuningSummary tune_llm",
    "seqloom.runs.folder": "Run load_run",
    "seqloom.runs.recommendations": "Recommendations Recommendation RecommendedItem",
    "seqloom.systems.registry": "config_class system_names=names",
    "seqloom.text.store": "TextEmbeddings load_embeddings",
}
_ADDRESSES = {
    name: (module, path or name)
    for module, entries in _HOMES.items()
    for name, _, path in (entry.partition("=") for entry in entries.split())
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its home module and caches it."""
    if name not in _ADDRESSES:
        raise AttributeError(f"module 'seqloom' has no attribute {name!r}")
    module, path = _ADDRESSES[name]
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
