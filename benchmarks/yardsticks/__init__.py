"""Public libraries that train the same model, each in an environment of its own."""

from __future__ import annotations

from benchmarks.yardsticks.environment import Yardstick

YARDSTICKS = (
    Yardstick("replay", "RePlay 0.22 SasRec", ("replay-rec[torch]==0.22.0",), batch_size=128),
    Yardstick(
        "rectools", "RecTools 0.19 SASRecModel", ("rectools[torch]==0.19.0",), batch_size=128
    ),
    Yardstick(
        "recbole",
        "RecBole 1.2.1 SASRec",
        # ray 2.6 needs pkg_resources, RecBole itself np.float_ and pandas below 3.
        ("recbole==1.2.1", "numpy==1.26.4", "pandas==2.2.3", "scipy==1.13.1", "setuptools<81"),
        batch_size=2048,
    ),
)
"""RecBole's sample is one target with the items before it, so its own batch of 2,048 samples has about as
many targets as 350 histories; the others take histories."""
