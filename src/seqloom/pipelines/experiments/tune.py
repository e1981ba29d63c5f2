"""`tune`: searches configurations on the validation part, with a study in SQLite."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from seqloom.core.config import Config, nested
from seqloom.core.errors import ArtefactError, ConfigError, TrainingError
from seqloom.core.files import atomic_file, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.progress import Progress
from seqloom.core.random import derive_seed
from seqloom.core.storage import naming_full_disk
from seqloom.core.tabular import Tabular
from seqloom.data.store import Dataset
from seqloom.pipelines.experiments.search_space import TuneKeywords, TunePlan, check_space
from seqloom.pipelines.train.fit_run import Watch
from seqloom.pipelines.train.train import train
from seqloom.systems.registry import config_class

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_VOID = "void"
"""Attribute of the study: numbers of the trials that do not count, because the process was killed
during them or the plan was faulty."""


class SearchSummary(Tabular, Config):
    """The result of `tune`."""

    out: str
    trials: int
    complete: int
    pruned: int
    failed: int
    """Trials whose loss was not finite."""
    metric: str
    best_trial: int | None
    best_value: float | None
    best: dict[str, Any]
    """The searched keys of the best trial."""
    config: str | None
    """A file with the full configuration of the best trial, for `train --config`."""

    def headline(self) -> str:
        """Returns where the search is, on one line."""
        return f"Search at {self.out}"

    def facts(self) -> dict[str, Any]:
        """Returns the numbers of trials and the best of them."""
        counts = {"complete": self.complete, "pruned": self.pruned, "failed": self.failed}
        return {**counts, f"best {self.metric}": self.best_value, **self.best}


class _PrunedError(Exception):
    """A trial was stopped early."""


@public_function(TunePlan, parameter="plan")
def tune(
    dataset: Dataset | str | Path,
    plan: TunePlan | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    device: str = "auto",
    progress: Progress = AUTO,
    **keywords: Unpack[TuneKeywords],
) -> SearchSummary:
    """Searches with Optuna's tree-structured Parzen estimator until there are `plan.trials` trials.

    The fields of `TunePlan` are keywords too.

    Keeps the study in `out/study.db` and the run of each trial in `out/runs/`. A killed search continues
    with its unfinished trial. Removes the runs of trials that were stopped early. Does not read the
    test part.

    Raises:
        ConfigError: a searched key or value is not allowed, the data set has no validation part, or
            Optuna is not installed.
        ArtefactError: `out` holds a search of another plan or data set.
        LockedError: another process is writing `out`.
        StorageError: the disk is full; the next call continues the search.
    """
    _optuna()
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    plan = merge_options(TunePlan, plan, keywords)
    if not len(dataset.held_out("valid").users):
        raise ConfigError("the data set has no validation events to tune on; use another split")
    check_space(plan)
    out = Path(out)
    with sole_writer(out, progress), _naming_full_disk(out / "study.db"):
        return _search(dataset, plan, out, device, progress)


@contextmanager
def _naming_full_disk(file: Path) -> Iterator[None]:
    """Turns SQLite's error of a full disk within the block into a StorageError.

    Raises:
        StorageError: there is no room to write `file`.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        with naming_full_disk(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _search(
    dataset: Dataset, plan: TunePlan, out: Path, device: str, progress: Progress
) -> SearchSummary:
    optuna = _optuna()
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open_study(plan, dataset, out)
    _continue_killed(study, progress)
    with progress.task("tune", plan.trials, "trials") as task:
        task.advance(len(_counted(study)))
        while (number := len(_counted(study))) < plan.trials:
            # The seed depends on the number of trials, so that a continued search draws new values.
            study.sampler = optuna.samplers.TPESampler(
                seed=derive_seed(plan.seed, "tune", number) % 2**32,
                n_startup_trials=plan.startup_trials,
                multivariate=True,
            )
            _run_trial(study, plan, dataset, out, device, progress)
            task.advance()
    return _finish(study, plan, out)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tuning needs Optuna, which is not installed; pip install 'seqloom[tune]'"
        ) from None
    return optuna


def _open_study(plan: TunePlan, dataset: Dataset, out: Path) -> Study:
    optuna = _optuna()
    pruner = optuna.pruners.NopPruner()
    if plan.prune:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=plan.startup_trials, n_warmup_steps=plan.warmup_validations
        )
    study = optuna.create_study(
        storage=f"sqlite:///{(out / 'study.db').resolve()}",
        study_name="seqloom",
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )
    stated = {
        **plan.model_dump(mode="json", exclude={"trials", "prune", "seed"}),
        "dataset": dataset.fingerprint,
    }
    stated = json.loads(json.dumps(stated))
    before = study.user_attrs.get("plan")
    if before is None:
        study.set_user_attr("plan", stated)
    elif before != stated:
        changed = ", ".join(key for key in stated if before.get(key) != stated[key])
        raise ArtefactError(
            f"{out} holds a search with another {changed}; continue with the same plan and data, or "
            "choose another folder"
        )
    return study


def _counted(study: Study) -> list[FrozenTrial]:
    """Returns the finished trials that count."""
    void = study.user_attrs.get(_VOID, [])
    trials = study.get_trials(deepcopy=False)
    return [one for one in trials if one.state.is_finished() and one.number not in void]


def _discard(study: Study, number: int) -> None:
    """Ends a trial that does not count. Marks it first, so that a kill in between counts nothing."""
    from optuna.trial import TrialState

    study.set_user_attr(_VOID, [*study.user_attrs.get(_VOID, []), number])
    study.tell(number, state=TrialState.FAIL)


def _continue_killed(study: Study, progress: Progress) -> None:
    """Enqueues the configuration of a killed trial again, with its run to resume."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        progress.note(f"trial {trial.number} was stopped; continuing it")
        if "run" in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={"run": trial.user_attrs["run"]})
        _discard(study, trial.number)


def _run_trial(
    study: Study, plan: TunePlan, dataset: Dataset, out: Path, device: str, progress: Progress
) -> None:
    from optuna.trial import TrialState

    trial = study.ask()
    values = {key: space.suggest(trial, key) for key, space in plan.space.items()}
    config = nested(plan.config, values)
    name = trial.user_attrs.get("run", f"trial-{trial.number:03d}")
    trial.set_user_attr("run", name)
    folder = out / "runs" / name
    progress.note(f"{name}: {json.dumps(values)}")
    try:
        config_class(plan.system).build(config)
        summary = train(
            dataset,
            plan.system,
            out=folder,
            config=config,
            resume=folder.exists(),
            device=device,
            progress=progress,
            watch=_watch(trial, plan),
        )
        study.tell(trial, summary.valid[plan.metric])
    except _PrunedError:
        progress.note(f"{name}: stopped early, its metric is below the median")
        study.tell(trial, state=TrialState.PRUNED)
        shutil.rmtree(folder)
    except TrainingError as error:
        progress.warn(f"{name}: {error}")
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
    except ConfigError as error:
        _discard(study, trial.number)  # a fault of the plan
        raise ConfigError(f"the search tried {json.dumps(values)}: {error}") from None


def _watch(trial: Trial, plan: TunePlan) -> Watch:
    def watch(count: int, metrics: dict[str, float]) -> None:
        trial.report(metrics[plan.metric], count)
        if trial.should_prune():
            raise _PrunedError

    return watch


def _finish(study: Study, plan: TunePlan, out: Path) -> SearchSummary:
    from optuna.trial import TrialState

    trials = _counted(study)
    states = [trial.state for trial in trials]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    _write_trials(out / "trials.csv", plan, trials)
    file = out / "best.yaml"
    if best is not None:
        config = config_class(plan.system).build(nested(plan.config, best.params))
        with atomic_file(file) as work:
            work.write_text(config.to_yaml(), encoding="utf-8")
    return SearchSummary(
        out=str(out),
        trials=len(trials),
        complete=len(complete),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        metric=plan.metric,
        best_trial=best.number if best else None,
        best_value=best.value if best else None,
        best=dict(best.params) if best else {},
        config=str(file) if best else None,
    )


def _write_trials(file: Path, plan: TunePlan, trials: list[FrozenTrial]) -> None:
    """Writes one line for each trial: number, state, metric, validations, run and searched keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", plan.metric, "validations", "run", *plan.space])
    for trial in trials:
        last = trial.last_step or 0
        value = trial.value
        if value is None and trial.intermediate_values:
            value = max(trial.intermediate_values.values())
        row = [trial.number, trial.state.name.lower(), value, last, trial.user_attrs.get("run")]
        writer.writerow([*row, *(trial.params.get(key) for key in plan.space)])
    with atomic_file(file) as work:
        work.write_text(text.getvalue(), encoding="utf-8")
