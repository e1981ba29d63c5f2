"""Public functions take the fields of their options as keywords, and explain mistyped ones."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

import seqloom
from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.keywords import merge_options
from seqloom.jobs.factory import JobKeywords, JobOptions
from seqloom.pipelines.embed.options import EmbedKeywords, EmbedOptions
from seqloom.pipelines.experiments.search_space import TuneKeywords, TunePlan
from seqloom.pipelines.experiments.sweep_grid import SweepKeywords, SweepPlan
from seqloom.pipelines.prepare.options import PrepareKeywords, PrepareOptions
from seqloom.pipelines.recommend.recommend_shards import ListsJob, ListsKeywords

MODELS = [
    (PrepareOptions, PrepareKeywords, set()),
    (EmbedOptions, EmbedKeywords, {"encoder"}),  # `embed` has it as a parameter of its own
    (JobOptions, JobKeywords, set()),
    (SweepPlan, SweepKeywords, set()),
    (TunePlan, TuneKeywords, set()),
    (ListsJob, ListsKeywords, set()),
]
LOOSER = {"variants", "space"}
"""Keywords that also take mappings in place of models."""
FUNCTIONS = [
    name
    for name in seqloom.__all__
    if inspect.isfunction(getattr(seqloom, name))
    and "progress" in inspect.signature(getattr(seqloom, name)).parameters
]


@pytest.mark.parametrize(("model", "keywords", "apart"), MODELS)
def test_the_typed_keywords_are_the_fields(
    model: type[Config], keywords: Any, apart: set[str]
) -> None:
    typed = get_type_hints(keywords)
    fields = {name: f.annotation for name, f in model.model_fields.items() if name not in apart}
    assert typed.keys() == fields.keys()
    for name in typed.keys() - LOOSER:
        assert typed[name] == fields[name], name


@pytest.mark.parametrize(
    ("name", "model"), [("prepare", PrepareOptions), ("embed", EmbedOptions), ("sweep", SweepPlan)]
)
def test_signatures_list_the_fields(name: str, model: type[Config]) -> None:
    parameters = inspect.signature(getattr(seqloom, name)).parameters
    assert model.model_fields.keys() <= parameters.keys()
    assert all(each.kind is not each.VAR_KEYWORD for each in parameters.values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_keyword_is_explained(name: str) -> None:
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'progres'.*progress"):
        getattr(seqloom, name)(progres=None)


def test_every_long_call_is_declared_public() -> None:
    assert {"prepare", "train", "evaluate", "compare", "recommend", "embed", "tune"} <= set(
        FUNCTIONS
    )


def test_a_configuration_key_is_told_from_a_keyword() -> None:
    with pytest.raises(TypeError, match=r"configuration key of sasrec: config=\{'epochs': ...\}"):
        seqloom.train("data", "sasrec", out="run", epochs=3)  # type: ignore[call-arg]


def test_keywords_go_before_options() -> None:
    options = PrepareOptions(min_count=3, header=False)
    merged = merge_options(PrepareOptions, options, {"min_count": 2})
    assert (merged.min_count, merged.header) == (2, False)
    assert merge_options(PrepareOptions, options, {}) is options
    assert merge_options(SweepPlan, {"system": "sasrec"}, {"seeds": [1]}).seeds == [1]


def test_a_value_out_of_range_names_the_keyword() -> None:
    with pytest.raises(ConfigError, match="min_count: found -1"):
        seqloom.prepare("log.csv", "out", min_count=-1)
