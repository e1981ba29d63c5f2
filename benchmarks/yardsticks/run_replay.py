"""RePlay's SasRec with cross-entropy over the catalogue; seen items are masked."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import lightning
import pyarrow as pa
import pyarrow.parquet as pq
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import ComputeMetricsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms


class _Epochs(lightning.Callback):
    """Times steps and epochs; ends the training when it is enough."""

    def __init__(self, recorder: common.Recorder) -> None:
        self._recorder = recorder

    def on_train_epoch_start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self._recorder.stepped()

    def on_validation_start(self, *_: Any) -> None:
        self._recorder.trained(time.perf_counter() - self._started)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self._recorder.enough(float(trainer.callback_metrics["ndcg@10"])):
            trainer.should_stop = True


def main() -> None:
    """Train, rank, write."""
    options = common.arguments()
    lightning.seed_everything(common.SEED)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sequences = common.read(options.data)
    recorder = common.Recorder(options)
    recorder.steps_per_epoch = -(-len(sequences) // options.batch_size)
    num_items = 1 + max(max(items) for items in sequences)
    schema = _schema(num_items)
    model = SasRec.from_params(
        schema,
        embedding_dim=common.WIDTH,
        num_heads=common.HEADS,
        num_blocks=common.BLOCKS,
        max_sequence_length=common.MAX_LEN,
        dropout=common.DROPOUT,
    )
    module = LightningModule(model, optimizer_factory=OptimizerFactory(learning_rate=common.RATE))
    metrics = ComputeMetricsCallback(
        metrics=["ndcg"],
        ks=[10],
        item_count=num_items,
        verbose=False,
        postprocessors=[SeenItemsFilter(item_count=num_items)],
    )
    with tempfile.TemporaryDirectory() as work:
        data = _data(Path(work), sequences, schema, num_items, options.batch_size)
        trainer = lightning.Trainer(
            max_epochs=1 if options.steps else options.epochs,
            limit_train_batches=options.steps or None,
            limit_val_batches=0 if options.steps else None,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[metrics, _Epochs(recorder)],
        )
        trainer.fit(module, datamodule=data)
        if options.steps:
            recorder.trained()
        recorder.ranked(lambda: trainer.test(module, datamodule=data, verbose=False))
    recorder.write()


def _schema(num_items: int) -> TensorSchema:
    return TensorSchema(
        [
            TensorFeatureInfo(
                "item_id",
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=common.WIDTH,
                padding_value=num_items,
                cardinality=num_items,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
            )
        ]
    )


def _data(
    work: Path, sequences: list[list[int]], schema: TensorSchema, num_items: int, batch_size: int
) -> ParquetModule:
    items = {"shape": common.MAX_LEN, "padding": num_items}
    held = {
        "user_id": {},
        "item_id": items,
        "seen_ids": {"shape": max(map(len, sequences)), "padding": -2},
        "ground_truth": {"shape": 1, "padding": -1},
    }
    longer = {"shape": common.MAX_LEN + 1, "padding": num_items}
    at_once = common.RANKED_AT_ONCE
    return ParquetModule(
        batch_size={"train": batch_size, "validate": at_once, "test": at_once},
        transforms=make_default_sasrec_transforms(schema),
        metadata={"train": {"user_id": {}, "item_id": longer}, "validate": held, "test": held},
        train_path=_table(work / "train.parquet", sequences, 2),
        validate_path=_table(work / "validate.parquet", sequences, 2),
        test_path=_table(work / "test.parquet", sequences, 1),
    )


def _table(path: Path, sequences: list[list[int]], held_out: int) -> str:
    histories = [items[: len(items) - held_out] for items in sequences]
    columns = {"user_id": list(range(len(sequences))), "item_id": histories}
    if path.stem != "train":
        columns["seen_ids"] = histories
        columns["ground_truth"] = [[items[-held_out]] for items in sequences]
    pq.write_table(pa.table(columns), path)
    return str(path)


if __name__ == "__main__":
    main()
