"""Makes the sample of this folder: `purchases.csv` and `products.csv` of an invented shop.

    python examples/shop/make_sample.py

The customers, products and purchases are made by chance, from the seed below; see README.md for the rules.
"""

from __future__ import annotations

import csv
import datetime
import random
from collections.abc import Iterator
from pathlib import Path

SEED = 7
CUSTOMERS = 1000
FIRST_DAY, DAYS = datetime.datetime(2025, 1, 6, 8), 330
# Themes, each with a usual order: who buys from one step is likely to buy from the next one later.
THEMES: dict[str, tuple[str, list[tuple[str, list[str]]]]] = {
    "coffee": (
        "Kitchen",
        [
            ("hand grinder", ["steel burrs", "ceramic burrs", "foldable handle"]),
            ("pour-over dripper", ["glass", "ceramic", "copper"]),
            ("gooseneck kettle", ["0.6 l", "0.9 l", "with thermometer"]),
            ("filter papers", ["size 01", "size 02", "unbleached"]),
            ("single origin beans", ["Ethiopia", "Colombia", "Guatemala", "Kenya"]),
        ],
    ),
    "bread": (
        "Kitchen",
        [
            ("proofing basket", ["round", "oval", "rattan"]),
            ("dough scraper", ["flexible", "steel", "beech"]),
            ("baking stone", ["cordierite", "30 cm", "38 cm"]),
            ("rye flour", ["wholegrain", "type 1150", "organic"]),
            ("scoring lame", ["walnut", "with blades", "curved"]),
        ],
    ),
    "hiking": (
        "Outdoor",
        [
            ("trail shoes", ["waterproof", "wide fit", "lightweight"]),
            ("merino socks", ["crew", "ankle", "two pairs"]),
            ("trekking poles", ["carbon", "foldable", "cork grip"]),
            ("rain jacket", ["three layers", "packable", "with hood"]),
            ("trail map", ["Alps", "Pyrenees", "Tatra", "Dolomites"]),
        ],
    ),
    "cycling": (
        "Outdoor",
        [
            ("bike lights", ["USB", "front and rear", "600 lumen"]),
            ("chain oil", ["wet", "dry", "ceramic"]),
            ("tubeless tyres", ["28 mm", "32 mm", "gravel"]),
            ("multi tool", ["14 functions", "with chain breaker", "mini"]),
            ("frame bag", ["2 l", "4 l", "waterproof"]),
        ],
    ),
    "watercolour": (
        "Art",
        [
            ("watercolour pans", ["12 colours", "24 colours", "earth tones"]),
            ("round brushes", ["squirrel", "synthetic", "travel set"]),
            ("cotton paper", ["300 g cold pressed", "640 g rough", "block"]),
            ("mixing palette", ["porcelain", "folding", "18 wells"]),
            ("masking fluid", ["with nib", "75 ml", "tinted"]),
        ],
    ),
    "knitting": (
        "Art",
        [
            ("circular needles", ["3.5 mm", "4 mm", "bamboo", "interchangeable"]),
            ("merino yarn", ["indigo", "ochre", "moss", "rust", "undyed"]),
            ("stitch markers", ["brass", "wooden", "locking"]),
            ("blocking mats", ["set of nine", "with pins", "felt"]),
            ("cable needles", ["set of three", "curved", "rosewood"]),
        ],
    ),
    "garden": (
        "Garden",
        [
            ("seed trays", ["77 cells", "biodegradable", "with lid"]),
            ("tomato seeds", ["San Marzano", "cherry", "black", "yellow pear"]),
            ("hand trowel", ["stainless", "copper", "ash handle"]),
            ("plant labels", ["slate", "zinc", "bamboo"]),
            ("watering can", ["5 l", "long spout", "galvanised"]),
        ],
    ),
    "baby": (
        "Family",
        [
            ("muslin cloths", ["organic", "five pack", "printed"]),
            ("wooden rattle", ["maple", "with bells", "ring"]),
            ("sleeping bag", ["0-6 months", "6-18 months", "1 tog", "2.5 tog"]),
            ("stacking cups", ["rainbow", "pastel", "for the bath"]),
            ("picture book", ["farm", "sea", "night", "numbers"]),
        ],
    ),
}
BRANDS = [
    "Alder & Finch",
    "Bergblick",
    "Casa Lume",
    "Juniper Works",
    "Kōyō",
    "Møller",
    "Petit Atelier",
    "Öst",
]
# Words in which each brand tells of its products; customers who like one brand find it by them.
STYLES = ["classic", "compact", "handmade", "everyday", "studio", "premium"]


def make_products(draw: random.Random) -> list[dict[str, str]]:
    """Every variant of every product by three to six brands."""
    products = []
    for theme, (category, steps) in THEMES.items():
        for step, (noun, variants) in enumerate(steps):
            for variant in variants:
                for brand in draw.sample(BRANDS, draw.randint(3, 6)):
                    products.append(
                        {
                            "title": f"{brand} {draw.choice(STYLES)} {noun}, {variant}",
                            "brand": brand,
                            "category": category,
                            "theme": theme,
                            "step": str(step),
                        }
                    )
    # Ids in no order: those of a shop that are given by theme would tell what is bought next.
    places = random.Random(SEED).sample(range(len(products)), len(products))
    for product, place in zip(products, places, strict=True):
        product["product"] = f"P{10000 + 7 * place}"
    return products


def make_purchases(
    draw: random.Random, products: list[dict[str, str]]
) -> Iterator[tuple[datetime.datetime, str, str]]:
    """The purchases of all customers: their theme step by step, by their brands, with some chance."""
    popularity = {each["product"]: draw.paretovariate(1.3) for each in products}
    for number in range(CUSTOMERS):
        themes = draw.sample(list(THEMES), draw.choice([1, 1, 1, 2]))
        brands = draw.sample(BRANDS, 2)
        day = draw.uniform(0, DAYS * 0.7)
        step = draw.randrange(3)
        owned: set[str] = set()
        for _ in range(min(5 + int(draw.expovariate(0.4)), 24)):
            theme = draw.choice(themes) if draw.random() > 0.08 else draw.choice(list(THEMES))
            shelf = [p for p in products if p["theme"] == theme and p["product"] not in owned]
            weights = [
                popularity[p["product"]] ** 0.6
                * (6.0 if int(p["step"]) == step % 5 else 1.0)
                * (4.0 if p["brand"] in brands else 1.0)
                for p in shelf
            ]
            bought = draw.choices(shelf, weights)[0]
            owned.add(bought["product"])
            when = FIRST_DAY + datetime.timedelta(days=day, minutes=draw.randrange(600))
            yield when, f"C{2000 + 3 * number}", bought["product"]
            step = int(bought["step"]) + 1
            day += draw.expovariate(1 / 9)


def write(path: Path, rows: list[list[str]]) -> None:
    """Writes a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def main(folder: Path = Path(__file__).parent) -> None:
    """Writes both files into `folder`."""
    draw = random.Random(SEED)
    products = make_products(draw)
    purchases = sorted(make_purchases(draw, products))
    names = ["product", "title", "brand", "category"]
    write(folder / "products.csv", [names, *([p[name] for name in names] for p in products)])
    lines = [[c, p, when.isoformat(sep=" ", timespec="minutes")] for when, c, p in purchases]
    write(folder / "purchases.csv", [["customer", "product", "purchased_at"], *lines])


if __name__ == "__main__":
    main()
