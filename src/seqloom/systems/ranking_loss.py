"""The ranking losses of all systems that train on next items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.core.cost import FLOAT_BYTES, ComputeCost
from seqloom.distributed.processes import ALONE, Processes
from seqloom.nn import losses
from seqloom.systems.base_config import LossConfig

DRAWS = 1 << 62
"""Upper bound of random integers, which are reduced modulo the number of a row's unseen items."""


class RankingLoss(nn.Module):
    """Computes the loss of states at target positions.

    Negatives are drawn from the global random state for the whole batch, of which the states may be one
    process's share.
    """

    cumulative: Tensor
    log_expected: Tensor
    offset: Tensor

    def __init__(
        self, config: LossConfig, popularity: Tensor, processes: Processes = ALONE
    ) -> None:
        """`popularity` [N + 1] are the training counts, entry 0 for padding."""
        super().__init__()
        self._processes = processes
        self.config = config
        self.num_items = len(popularity) - 1
        weight = (popularity[1:].double() + 1) ** config.popularity_power
        share = weight / weight.sum()
        self.register_buffer("cumulative", share.cumsum(0).float(), persistent=False)
        expected = (share * config.negatives).log().float()
        self.register_buffer("log_expected", expected, persistent=False)
        offset = config.popularity_offset * (popularity[1:].double() + 1).log()
        self.register_buffer("offset", (offset - offset.mean()).float(), persistent=False)

    def forward(
        self,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        seen: Tensor | None = None,
        terms: tuple[Tensor, Tensor] | None = None,
        *,
        padded: bool = False,
    ) -> Tensor:
        """Returns the mean loss of the states; bce and gbce draw no negative from `seen`.

        Args:
            seen: rows of `weight` that may not be negatives of each target, ascending, then padded with
                N. By default the target alone.
            terms: rows of `weight` and what is added to their logits (`softmax_loss`); softmax alone.
            padded: whether targets of -1 occur, which count for nothing; softmax alone.

        Shapes: hidden [M, D], weight [N, D], targets [M] rows of weight, seen [M, S] -> scalar.
        """
        config = self.config
        offset = self.offset if config.popularity_offset else None
        if config.kind == "softmax":
            return losses.softmax_loss(
                hidden, weight, targets, offset=offset, terms=terms, padded=padded
            )
        if config.kind == "sampled-softmax":
            # One set of negatives for all targets, drawn by inverting the distribution function.
            with self._processes.shared_random_state():
                uniform = torch.rand(config.negatives, device=hidden.device)
            drawn = torch.searchsorted(self.cumulative, uniform).clamp(max=self.num_items - 1)
            return losses.sampled_softmax_loss(
                hidden, weight, targets, drawn, self.log_expected, offset=offset
            )
        # Negatives of each target: all processes draw those of the whole batch and keep their own.
        whole, own = self._processes.locate_rows(len(hidden))
        shape = (whole, config.negatives)
        with self._processes.shared_random_state():
            drawn = torch.randint(DRAWS, shape, device=hidden.device)[own]
        negatives = outside(targets[:, None] if seen is None else seen, drawn, self.num_items)
        beta = 1.0
        if config.kind == "gbce":
            beta = losses.gbce_beta(config.negatives, self.num_items, config.calibration)
        return losses.binary_loss(hidden, weight, targets, negatives, beta=beta, offset=offset)


def outside(seen: Tensor, drawn: Tensor, num_items: int) -> Tensor:
    """Maps random integers to items that a row has not seen, uniformly.

    The r-th unseen item is r + the number of seen items j with seen_j - j <= r.

    Shapes: seen [M, S] ascending, then `num_items`; drawn [M, K] int64 -> [M, K] int64.
    """
    real = seen < num_items
    before = torch.where(real, seen - torch.arange(seen.shape[1], device=seen.device), num_items)
    place = drawn % (num_items - real.sum(1, keepdim=True))
    return place + torch.searchsorted(before.contiguous(), place, right=True)


def loss_cost(config: LossConfig, targets: float, num_items: int, width: int) -> ComputeCost:
    """Returns the cost of `RankingLoss` for M targets, N items of width D, with the item gradients."""
    table, rows = FLOAT_BYTES * num_items * width, FLOAT_BYTES * targets * width
    if config.kind == "softmax":
        chunk = losses.chunk_rows(num_items, torch.device("cpu"))
        chunks = -(-targets // chunk)
        # Every chunk adds to the whole gradient, which is then divided, scaled and handed over.
        return ComputeCost(
            products=6 * targets * num_items * width,
            logits=targets * num_items,
            moved=table * (2 * chunks + 7),
            calls=12 * chunks + 12,
            held=3 * table + 3 * rows + 2 * FLOAT_BYTES * min(chunk, targets) * num_items,
        )
    shared = config.kind == "sampled-softmax"
    scored = config.negatives * targets
    taken = targets + (config.negatives if shared else scored)
    # The gradient of a gathered table is a table of its own; targets and negatives have one each.
    return ComputeCost(
        products=6 * scored * width,
        elements=10 * scored + 6 * taken * width,
        logits=2 * scored,
        moved=8 * table,
        gathered=4 * taken,
        calls=60,
        held=3 * table + FLOAT_BYTES * (3 * taken * width + 5 * scored),
    )
