"""Which scale and which objective an ensemble is best fitted with: `ensemble_halves.py DATASET RUN RUN...`

The validation users are halved at random. Weights are fitted on one half, NDCG@10 among the candidates
is measured on both. The test part is not read.
"""

from __future__ import annotations

import sys
from typing import get_args

import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.store import Dataset
from seqloom.pipelines.train.ensemble_members import load_members
from seqloom.systems.ensemble.candidates import Candidates, fitting_users, gather_candidates
from seqloom.systems.ensemble.config import EnsembleConfig
from seqloom.systems.ensemble.fitting import fit_likelihood, ndcg, search_ndcg
from seqloom.systems.score_sum import MemberScorer, Scale


def main(dataset: str, runs: list[str]) -> None:
    """Print a line for each scale, objective and half."""
    data = Dataset.load(dataset)
    members = load_members(data, runs, "cpu").systems
    lengths = [member.system.max_len for member in members]
    longest = None if None in lengths else max(n for n in lengths if n is not None)
    config = EnsembleConfig(runs=runs)
    for scale in get_args(Scale):
        scorers = [MemberScorer(m.system.scorer(), m.system.max_len, scale) for m in members]
        found = gather_candidates(
            scorers,
            fitting_users(data, masked=data.masks_seen),
            data.tie_keys,
            best=config.candidates,
            others=config.others,
            max_len=longest,
            seed=config.seed,
            device=torch.device("cpu"),
        )
        users = torch.randperm(len(found.scores), generator=generator(config.seed, "halves"))
        first, second = (_part(found, rows) for rows in users.tensor_split(2))
        for name, fitted, other in (("first", first, second), ("second", second, first)):
            for number, member in enumerate(members):
                alone = torch.eye(len(members))[number]
                _say(f"{member.name} alone", scale, name, fitted, other, alone)
            for l2 in (0.0, 1e-3, 1e-1, 10.0):
                weights = fit_likelihood(fitted, l2)
                _say(f"likelihood, l2 {l2:g}", scale, name, fitted, other, weights)
            weights = search_ndcg(fitted, fit_likelihood(fitted, config.l2))
            _say("ndcg", scale, name, fitted, other, weights)


def _part(found: Candidates, rows: Tensor) -> Candidates:
    return Candidates(found.scores[rows], found.log_count[rows], found.spread)


def _say(
    what: str, scale: str, half: str, fitted: Candidates, other: Candidates, weights: Tensor
) -> None:
    shares = " ".join(f"{share:.3f}" for share in (weights * fitted.spread).tolist())
    print(
        f"{scale:8} {half:6} {what:20} fitted {ndcg(fitted, weights):.4f} "
        f"other {ndcg(other, weights):.4f} weights {shares}",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
