"""A small shop with dates, brands and categories, and runs of it, for pages that people look at."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch

from seqloom.data.store import Dataset
from support.datasets import SMALL, SMALL_LLMESR

_KINDS = (
    (
        "Garden",
        ("Trowel", "Watering can", "Secateurs", "Rake", "Seed tray", "Gloves", "Bulb planter"),
    ),
    (
        "Kitchen",
        ("Café press", "Whisk", "Paring knife", "Crème brûlée dishes", "Ladle", "Colander"),
    ),
    ("Office", ("Fountain pen", "Notebook", "Stapler", "Desk lamp", "Paper tray", "Ruler")),
    ("Outdoor", ("Tent", "Head torch", "Sleeping mat", "Stove", "Rope", "Compass")),
)
_BRANDS = ("Alder & Finch", "Brightwater", "Castellane", "Dovetail")
_DAY_S = 86_400
_START = 1_700_000_000


def shop_items() -> pl.DataFrame:
    """Returns 100 items: `item_id`, `title`, `brand`, `category`, `price`, `image_url`."""
    rows = []
    for brand_number, brand in enumerate(_BRANDS):
        for category, things in _KINDS:
            for number, thing in enumerate(things):
                price = f"{4 + 3 * number + 2 * brand_number}.90"
                item = f"{category[:2].lower()}-{brand_number}{number}"
                title = f"{brand} {thing}"
                rows.append(
                    (item, title, brand, category, price, f"https://pics.example.com/{item}.png")
                )
    rows[3] = (
        rows[3][0],
        f"{rows[3][1]}, " + "with a very long name that goes on and on " * 5,
        *rows[3][2:],
    )
    rows[9] = (rows[9][0], "🌵 Cactus mug", *rows[9][2:])
    columns = ["item_id", "title", "brand", "category", "price", "image_url"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def shop_log(items: pl.DataFrame, users: int = 80) -> pl.DataFrame:
    """Returns a log in which users stay with two categories and buy on some days, several items each."""
    draw = torch.Generator().manual_seed(3)
    by_kind = [
        group["item_id"].to_list() for _, group in items.group_by("category", maintain_order=True)
    ]
    rows = []

    def pick(below: int) -> int:
        return int(torch.randint(below, (), generator=draw))

    for user in range(users):
        name, length = f"Anna-{user}" if user < 3 else f"c{user}", 5 + pick(30)
        time, kind, at = _START + pick(90 * _DAY_S), user % len(by_kind), pick(24)
        for step in range(length):
            if step % 4 == 0:
                time += _DAY_S * (1 + pick(12))
                kind = (kind + (step // 4) % 2) % len(by_kind)
            at += 1 + pick(3) // 2
            rows.append((name, by_kind[kind][at % len(by_kind[kind])], time + step))
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def shop_dataset(path: Path) -> Dataset:
    """Prepares the shop, with hashed text embeddings."""
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions
    from seqloom.pipelines.prepare.prepare import prepare

    items = shop_items()
    made = prepare(shop_log(items), path, items=items, min_count=1)
    embed(made, EmbedOptions(encoder="hash", users="mean"))
    return made


def shop_runs(folder: Path) -> dict[str, Path]:
    """Trains LLM-ESR, SASRec and popularity on the shop for a moment and evaluates them."""
    from seqloom.pipelines.evaluate.evaluate import evaluate
    from seqloom.pipelines.train.train import train

    dataset = shop_dataset(folder / "data")
    longer = {"epochs": 6, "encoder": {"hidden_size": 16, "max_len": 50}}
    configs = {
        "llmesr": {**SMALL_LLMESR, **longer, "semantic": {"tower": {**SMALL, **longer}}},
        "sasrec": {**SMALL, **longer},
        "popularity": {},
    }
    for name, config in configs.items():
        train(dataset, name, out=folder / name, config=config, device="cpu")
        evaluate(folder / name, device="cpu")
    return {name: folder / name for name in configs}
