"""RecBole's SASRec with cross-entropy over the catalogue.

It makes one sample of every target. Its own evaluation leaves seen items in, so the accuracy is
counted over its public `full_sort_predict`, with seen items masked.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import torch

torch.load = functools.partial(torch.load, weights_only=False)  # its checkpoints are pickles

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402


def main() -> None:
    """Train, rank, write."""
    options = common.arguments()
    options.data, options.out = options.data.resolve(), options.out.resolve()
    sequences = common.read(options.data)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # where it writes its logs
        sys.argv = sys.argv[:1]  # which it reads
        config = _config(Path(work), sequences, options.batch_size)
        logging.getLogger().setLevel(logging.WARNING)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, valid, test = data_preparation(config, dataset)
        torch.set_num_threads(threads)
        model = get_model("SASRec")(config, train._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        recorder = common.Recorder(options)
        recorder.steps_per_epoch = len(train)
        seen = {
            dataset.token2id("user_id", str(user)): torch.as_tensor(
                dataset.token2id("item_id", [str(item) for item in items[:-2]])
            )
            for user, items in enumerate(sequences)
        }
        if options.steps:
            trainer._train_epoch(common.Part(train, options.steps, recorder), 0)
            recorder.trained()
        else:
            for epoch in range(options.epochs):
                started = time.perf_counter()
                trainer._train_epoch(train, epoch)
                recorder.trained(time.perf_counter() - started)
                if recorder.enough(_accuracy(model, valid, seen)):
                    break
        recorder.ranked(lambda: trainer.evaluate(test, load_best_model=False))
        recorder.write()


def _config(work: Path, sequences: list[list[int]], batch_size: int) -> Config:
    folder = work / "data" / "data"
    folder.mkdir(parents=True)
    with (folder / "data.inter").open("w", encoding="utf-8") as out:
        out.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(sequences):
            out.writelines(f"{user}\t{item}\t{at}\n" for at, item in enumerate(items))
    given = {
        "data_path": str(work / "data"),
        "use_gpu": False,
        "seed": common.SEED,
        "show_progress": False,
        "state": "WARNING",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "order": "TO",
            "group_by": "user",
            "mode": "full",
        },
        "MAX_ITEM_LIST_LENGTH": common.MAX_LEN,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "hidden_size": common.WIDTH,
        "inner_size": 4 * common.WIDTH,
        "n_layers": common.BLOCKS,
        "n_heads": common.HEADS,
        "hidden_dropout_prob": common.DROPOUT,
        "attn_dropout_prob": common.DROPOUT,
        "train_batch_size": batch_size,
        "learning_rate": common.RATE,
        "metrics": ["Hit", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
    }
    return Config(model="SASRec", dataset="data", config_dict=given)


@torch.no_grad()
def _accuracy(model: Any, part: Any, seen: dict[int, torch.Tensor]) -> float:
    """NDCG@10 with the items of the history masked."""
    model.eval()
    lists, targets = [], []
    for interaction, _, _, positive in part:
        scores = model.full_sort_predict(interaction).view(len(interaction), -1)
        scores[:, 0] = -math.inf
        for row, user in enumerate(interaction["user_id"].tolist()):
            scores[row, seen[user]] = -math.inf
        lists.append(scores.topk(10).indices)
        targets.append(positive)
    model.train()
    return common.ndcg(torch.cat(lists), torch.cat(targets))


if __name__ == "__main__":
    main()
