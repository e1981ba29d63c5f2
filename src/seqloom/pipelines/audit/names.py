"""Checks of a run that names items with words: its IDs, its prompts, and the run that it continued."""

from __future__ import annotations

import torch

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.protocols import NamesItems
from seqloom.core.random import generator
from seqloom.data.store import Dataset, Part
from seqloom.pipelines.audit.report import Checks
from seqloom.runs.folder import Run, load_run
from seqloom.text.prompts import text_columns, title_column

_AGAIN = "train again"
_MAX_IDS = 2000
"""Items whose textual IDs are remade without --thorough; naming more takes minutes."""
_SAMPLE = 64


def check_names(
    run: Run,
    system: NamesItems,
    blind: Dataset,
    checks: Checks,
    *,
    thorough: bool,
    progress: Progress,
) -> None:
    """Checks that the run's generator makes the textual IDs from the item texts.

    IDs from a tree are made again with the run's tree, which is checked as a start of the weights.
    """
    what = ("textual IDs of items", f"{system.named_from}; there are no IDs of users")
    if system.ids_file is not None:
        why = f"they were read from {system.ids_file}; the source of that file is not known"
        checks.unknown(*what, why, "leave ids.file out, so that the run makes them")
        return
    if run.trained_items > _MAX_IDS and not thorough:
        why = f"{run.trained_items:,} items are too many to name again without --thorough"
        checks.unknown(*what, why, "audit with --thorough")
        return
    kept = system.ids[1 : run.trained_items + 1]
    fresh = load_run(run.path).system
    assert isinstance(fresh, NamesItems)
    remade = fresh.remake_ids(blind.items, blind.item_ids, progress)
    wrong = int((remade.to(kept.device) != kept).any(dim=1).sum())
    checks.judge(
        *what,
        not wrong,
        good=f"{len(kept)} IDs, made again from the texts, are those of the run",
        bad=f"{wrong} of {len(kept)} IDs are not what the run makes of the texts",
        action=_AGAIN,
    )


def check_prompts(system: NamesItems, blind: Dataset, checks: Checks) -> None:
    """Checks that prompts hold the words of their file, the IDs of the history, and nothing of the user."""
    what = ("prompts of the recommender", "their file; IDs of the history's items; no user")
    try:
        same = system.templates_match_source()
    except SeqloomError as error:
        checks.unknown(*what, str(error), "keep the file of the prompts")
        return
    histories = blind.train.select(torch.nonzero(blind.train.lengths > 0).flatten())
    rows = torch.randperm(len(histories), generator=generator(0, "audit", "prompts"))[:_SAMPLE]
    wrong = 0
    if same and len(rows):
        batch = histories.select(rows).pad(system.max_len)
        templates = torch.arange(len(rows)) % system.num_templates
        prompts = system.prompt_tokens(batch.items, templates)
        for row, (template, tokens) in enumerate(zip(templates.tolist(), prompts, strict=True)):
            items = batch.items[row][: int(batch.lengths[row])].tolist()
            wrong += tokens != system.spell_prompt(items, template)
    checks.judge(
        *what,
        same and not wrong,
        good=f"{system.num_templates} prompts are those of their file; {len(rows)} histories, "
        "written out one by one, give the tokens that the recommender reads",
        bad=f"{wrong} of {len(rows)} histories are read differently from their IDs and the file"
        if same
        else "the run's prompts are not those of the file that its configuration names",
        action=_AGAIN,
    )


def check_earlier_run(system: NamesItems, data: Dataset, checks: Checks) -> Run | None:
    """Checks the training part of the run that this one continued, and returns that run, if any.

    Its data set may hold the same users and items, but none of their held-out events as training events.
    """
    path = system.start_from
    if path is None:
        return None
    what = ("run that training continued", "no held-out event of this data set")
    try:
        earlier = load_run(path)
        earlier_data = earlier.dataset()
    except SeqloomError as error:
        checks.unknown(*what, str(error), "keep that run and its data set")
        return None
    leaked = _count_leaked(data, earlier_data)
    checks.judge(
        *what,
        not leaked,
        good=f"the training part of {earlier.path}, which is checked too, holds none",
        bad=f"{leaked} held-out events of this data set are in the training part of {earlier.path}",
        action="train that run without this data set, or on its training part, then train again",
    )
    return earlier


def _count_leaked(data: Dataset, earlier: Dataset) -> int:
    """Counts held-out events of `data` that are training events of `earlier`.

    Two events are the same if user id, item id and item text are equal.
    """
    users = {own: number for number, own in enumerate(_unmerged_ids(earlier, earlier.user_ids))}
    ids = _unmerged_ids(earlier, earlier.item_ids)
    items = {own: number for number, own in enumerate(zip(ids, _titles(earlier), strict=True), 1)}
    rows, numbers = earlier.train.flat()
    trained = set(zip(rows.tolist(), numbers.tolist(), strict=True))
    own_items = list(zip(data.item_ids, _titles(data), strict=True))
    parts: tuple[Part, ...] = ("valid", "test")
    leaked = 0
    for part in parts:
        held_out = data.held_out(part)
        for user, item in zip(held_out.users.tolist(), held_out.targets.tolist(), strict=True):
            event = (users.get(data.user_ids[user]), items.get(own_items[item - 1]))
            leaked += event in trained
    return leaked


def _unmerged_ids(data: Dataset, ids: list[str]) -> list[str]:
    """Returns ids without the data set's name that merging put in front of them."""
    if "origins" not in data.manifest.options:
        return ids
    return [own.partition("/")[2] for own in ids]


def _titles(data: Dataset) -> list[str | None]:
    columns = text_columns(data.items)
    if not columns:
        return [None] * data.num_items
    titles: list[str | None] = data.items.column(title_column(columns)).to_pylist()
    return titles
