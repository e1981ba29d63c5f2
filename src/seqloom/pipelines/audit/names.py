"""Checks of a run that names items by words: its IDs, its prompts, and the run that it went on from."""

from __future__ import annotations

from pathlib import Path

import torch

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.random import generator
from seqloom.data.store import Dataset, Part
from seqloom.llm.generation.text_model import END
from seqloom.pipelines.audit.report import Checks
from seqloom.runs.folder import Run, load_run
from seqloom.systems.base import MODEL_FOLDER, TrainingData
from seqloom.systems.idgenrec.language import Language
from seqloom.systems.idgenrec.prompts import SEPARATOR
from seqloom.systems.idgenrec.system import IDGenRec
from seqloom.systems.idgenrec.templates import Templates, read_templates
from seqloom.text.prompts import text_columns, title_column

_AGAIN = "train again"
_IDS_AT_MOST = 2000
"""Items whose textual IDs are made again unasked; naming more takes minutes."""
_SAMPLE = 64


def check_names(
    run: Run, blind: Dataset, checks: Checks, *, thorough: bool, progress: Progress
) -> None:
    """Textual IDs are what the run's generator makes of the texts."""
    system = run.system
    assert isinstance(system, IDGenRec)
    what = ("textual IDs of items", "item texts alone; there are no IDs of users")
    if system.ids_are_given:
        why = f"they were given in {system.config.ids.file}; what that file was made from is not known"
        checks.unknown(*what, why, "leave ids.file out, so that the run makes them")
        return
    if run.trained_items > _IDS_AT_MOST and not thorough:
        why = f"{run.trained_items:,} items are too many to name again unasked"
        checks.unknown(*what, why, "audit with --thorough")
        return
    kept = system.ids[1 : run.trained_items + 1]
    fresh = load_run(run.path).system
    assert isinstance(fresh, IDGenRec)
    made = fresh.named_again(TrainingData(blind, progress))
    wrong = int((made.to(kept.device) != kept).any(dim=1).sum())
    checks.judge(
        *what,
        not wrong,
        good=f"{len(kept)} IDs, made again from the texts, are those of the run",
        bad=f"{wrong} of {len(kept)} IDs are not what the run's generator makes of the texts",
        action=_AGAIN,
    )


def check_prompts(run: Run, blind: Dataset, checks: Checks) -> None:
    """Prompts hold the words of their file, the IDs of the history, and nothing of the user."""
    system = run.system
    assert isinstance(system, IDGenRec)
    what = ("prompts of the recommender", "their file; IDs of the history's items; no user")
    try:
        templates = _templates(system)
    except SeqloomError as error:
        checks.unknown(*what, str(error), "keep the file of the prompts")
        return
    same = templates == system.language.templates
    histories = blind.train.select(torch.nonzero(blind.train.lengths > 0).flatten())
    rows = torch.randperm(len(histories), generator=generator(0, "audit", "prompts"))[:_SAMPLE]
    batch = histories.select(rows).pad(system.max_len)
    which = torch.arange(len(rows)) % len(templates.parts)
    device = system.ids.device
    built = system.builder(system.table, batch.items.to(device), which.to(device))
    wrong = 0
    for row, number in enumerate(which.tolist() if same else ()):
        items = batch.items[row][: int(batch.lengths[row])].tolist()
        found = built.tokens[row][built.mask[row]].tolist()
        wrong += found != _prompt(system, templates.parts[number], items)
    checks.judge(
        *what,
        same and not wrong,
        good=f"{len(templates.parts)} prompts are those of their file; {len(rows)} histories, put "
        "into words again one by one, give the tokens that the recommender reads",
        bad=f"{wrong} of {len(rows)} histories are read otherwise than their IDs and the file say"
        if same
        else "the run's prompts are not those of the file that its configuration names",
        action=_AGAIN,
    )


def _templates(system: IDGenRec) -> Templates:
    if system.config.start_from is None:
        return read_templates(system.config.templates)
    return Language.load(Path(system.config.start_from) / MODEL_FOLDER).templates


def _prompt(system: IDGenRec, words: tuple[str, str], items: list[int]) -> list[int]:
    """The recommender's tokens for a history, put together in plain steps."""
    language = system.language
    place = None if language.kept is None else {t: i for i, t in enumerate(language.kept.tolist())}

    def tokens(text: str) -> list[int]:
        found: list[int] = language.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found if place is None else [place[token] for token in found]

    outputs = language.lexicon.output_tokens.tolist()
    before, after = words
    made = tokens(before) if before else []
    for item in items:
        own = [outputs[number] for number in system.table[item].tolist() if number > END]
        made += own if place is None else [place[token] for token in own]
        made += tokens(SEPARATOR)
    return made + (tokens(f" {after}") if after else [])


def earlier_run(run: Run, data: Dataset, checks: Checks) -> Run | None:
    """The run that this one went on from, after a look at what it was trained on; None where there is none.

    Its own data set may hold this one's users and items: then none of their held-out events may stand in
    its training part.
    """
    assert isinstance(run.system, IDGenRec)
    path = run.system.config.start_from
    if path is None:
        return None
    what = ("run that training went on from", "no held-out event of this data set")
    try:
        earlier = load_run(path)
        theirs = earlier.dataset()
    except SeqloomError as error:
        checks.unknown(*what, str(error), "keep that run and its data set")
        return None
    met = _pairs_met(data, theirs)
    checks.judge(
        *what,
        not met,
        good=f"none stands in the training part of {earlier.path}, which is checked too",
        bad=f"{met} held-out events of this data set stand in the training part of {earlier.path}",
        action="train that run without this data set, or on its training part, then train again",
    )
    return earlier


def _pairs_met(data: Dataset, theirs: Dataset) -> int:
    """Held-out events of `data` that are training events of `theirs`: the same user id, item id and text."""
    users = {own: number for number, own in enumerate(_plain_ids(theirs, theirs.user_ids))}
    ids = _plain_ids(theirs, theirs.item_ids)
    items = {own: number for number, own in enumerate(zip(ids, _titles(theirs), strict=True), 1)}
    rows, numbers = theirs.train.flat()
    trained = set(zip(rows.tolist(), numbers.tolist(), strict=True))
    own_items = list(zip(data.item_ids, _titles(data), strict=True))
    parts: tuple[Part, ...] = ("valid", "test")
    met = 0
    for part in parts:
        held_out = data.held_out(part)
        for user, item in zip(held_out.users.tolist(), held_out.targets.tolist(), strict=True):
            other = (users.get(data.user_ids[user]), items.get(own_items[item - 1]))
            met += other in trained
    return met


def _plain_ids(data: Dataset, ids: list[str]) -> list[str]:
    """Ids as they were before data sets were laid together."""
    if "origins" not in data.manifest.options:
        return ids
    return [own.partition("/")[2] for own in ids]


def _titles(data: Dataset) -> list[str | None]:
    columns = text_columns(data.items)
    if not columns:
        return [None] * data.num_items
    titles: list[str | None] = data.items.column(title_column(columns)).to_pylist()
    return titles
