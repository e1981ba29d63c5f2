"""The `recommend` command: next items for users of the data set, or for histories of item ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from seqloom.core.errors import ConfigError, DataError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.given_ids import match_ids
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.runs.folder import Run, load_run
from seqloom.runs.recommendations import (
    Recommendation,
    Recommendations,
    check_k,
    follow_sentence,
    list_best,
    recommend_histories,
)
from seqloom.runs.steering import DEFAULT_WEIGHT


@public_function()
def recommend(
    run: Run | str | Path,
    *,
    histories: Sequence[Sequence[object]] | Sequence[object] | None = None,
    users: Iterable[str] | None = None,
    all_users: bool = False,
    k: int = 10,
    mask_seen: bool | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    approximate: bool = False,
    about: str | None = None,
    about_weight: float = DEFAULT_WEIGHT,
    progress: Progress = AUTO,
) -> Recommendations:
    """Returns the `k` best items for each history of item ids, or for each (or every) user with all
    stored events.

    A history may be of anybody and of any length; ids that the catalogue does not hold are left out
    and named in the answer. An empty history gets what is popular, whatever the system.

    Args:
        mask_seen: leave items of the history out; by default as the run was trained.
        approximate: search an index of the items instead of all items; see `approximate_scorer`.
        about: a sentence that steers the lists; see `recommend_histories`.
        about_weight: how strongly it does.

    Raises:
        ConfigError: neither or both of `histories` and `users` are given, or `k` is below 1, or
            the system cannot search approximately (see `approximate_scorer`).
        DataError: a user is not in the data set, or a history holds no known item at all.
        ArtefactError: a history is empty, and the run does not know what is popular.
    """
    if (histories is not None) + (users is not None) + all_users != 1:
        raise ConfigError("give either histories, or users, or ask for all users")
    check_k(k)
    run = run if isinstance(run, Run) else load_run(run, device=device)
    if histories is not None:
        return recommend_histories(
            run,
            histories,
            k=k,
            mask_seen=mask_seen,
            approximate=approximate,
            about=about,
            about_weight=about_weight,
            dataset=dataset,
            progress=progress,
        )
    data = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).warm
    ids = data.user_ids if all_users else match_ids(users or [], data.user_numbers)
    steered = follow_sentence(run, about, about_weight, dataset, progress)
    lists = list_best(
        run,
        _stored(data, ids),
        k=k,
        mask_seen=mask_seen,
        approximate=approximate,
        steered=steered,
        dataset=dataset,
        progress=progress,
    )
    followed = steered.followed if steered else None
    return Recommendations(
        Recommendation(user=user, items=items, about=followed)
        for user, items in zip(ids, lists, strict=True)
    )


def _stored(data: Dataset, users: Sequence[str]) -> Sequences:
    missing = [user for user in users if user not in data.user_numbers]
    if missing:
        raise DataError(
            f"{len(missing)} user(s) are not in the data set, first {missing[0]!r}; its ids look "
            f"like {', '.join(data.user_ids[:3])}; for somebody else give a history"
        )
    rows = torch.tensor([data.user_numbers[user] for user in users], dtype=torch.int64)
    offsets = data.events.offsets
    return Sequences(data.events.items, offsets[:-1][rows], offsets[1:][rows])
