"""RecTools' SASRecModel with softmax over the catalogue; seen items are masked."""

from __future__ import annotations

import logging
import time

import common
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class _Steps(Callback):
    """Times the steps and knows how many an epoch has."""

    def __init__(self, recorder: common.Recorder) -> None:
        self._recorder = recorder

    def __deepcopy__(self, _: object) -> _Steps:
        return self  # the model trains with a copy of its trainer

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._recorder.steps_per_epoch = len(trainer.train_dataloader)
        self._recorder.stepped()


def main() -> None:
    """Train, rank, write."""
    options = common.arguments()
    seed_everything(common.SEED)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    sequences = common.read(options.data)
    train, whole = _dataset(sequences, 2), _dataset(sequences, 1)
    recorder = common.Recorder(options)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1,
            limit_train_batches=options.steps or None,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Steps(recorder)],
        )

    model = SASRecModel(
        n_blocks=common.BLOCKS,
        n_heads=common.HEADS,
        n_factors=common.WIDTH,
        session_max_len=common.MAX_LEN,
        loss="softmax",
        lr=common.RATE,
        batch_size=options.batch_size,
        dropout_rate=common.DROPOUT,
        get_trainer_func=trainer,
    )

    def recommend(dataset: Dataset) -> pd.DataFrame:
        users = list(range(len(sequences)))
        return model.recommend(users=users, dataset=dataset, k=10, filter_viewed=True)

    for _ in range(1 if options.steps else options.epochs):
        started = time.perf_counter()
        model.fit_partial(train, min_epochs=1, max_epochs=1)
        if options.steps:
            recorder.trained()
            break
        recorder.trained(time.perf_counter() - started)
        if recorder.enough(_accuracy(recommend(train), sequences)):
            break
    recorder.ranked(lambda: recommend(whole))
    recorder.write()


def _dataset(sequences: list[list[int]], held_out: int) -> Dataset:
    rows = [
        (user, item, 1.0, at)
        for user, items in enumerate(sequences)
        for at, item in enumerate(items[: len(items) - held_out])
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "weight", "at"])
    frame["datetime"] = pd.Timestamp("2000-01-01") + pd.to_timedelta(frame.pop("at"), unit="s")
    return Dataset.construct(frame)


def _accuracy(recommended: pd.DataFrame, sequences: list[list[int]]) -> float:
    lists = torch.full((len(sequences), 10), -1)
    users = torch.tensor(recommended["user_id"].to_numpy())
    ranks = torch.tensor(recommended["rank"].to_numpy())
    lists[users, ranks - 1] = torch.tensor(recommended["item_id"].to_numpy())
    return common.ndcg(lists, torch.tensor([items[-2] for items in sequences]))


if __name__ == "__main__":
    main()
