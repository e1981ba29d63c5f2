"""Ensemble: a weighted sum of the scores of trained systems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.core.number_format import format_percent
from seqloom.core.phase import Phase
from seqloom.core.protocols import ListScorer, Scorer, VectorScorer
from seqloom.nn.repeats import RepeatTerm
from seqloom.systems.base import Member, Sizes, System, TrainingData
from seqloom.systems.ensemble.candidates import fitting_users, gather_candidates
from seqloom.systems.ensemble.config import EnsembleConfig
from seqloom.systems.ensemble.fitting import fit_likelihood, ndcg, ranking_ndcg, search_ndcg
from seqloom.systems.repeat_scores import RepeatScorer, fit_repeats, repeat_shares
from seqloom.systems.score_sum import MemberScorer, build_scorer, vectors
from seqloom.systems.stored_member import StoredMember, build_member, store_member

_LIST = "members.json"


class Ensemble(System[EnsembleConfig]):
    """score(u, i) = sum over members m of w_m s_m(u, i), the weights fitted on the validation part.

    The members are trained systems of any kind over the same data set. They are not trained further;
    their weights and files are part of the ensemble's own. A sum of dot products is a dot product, so an
    ensemble of such members ranks, serves and exports as they do. It takes no new items
    (`ExtendsCatalogue`), even where its members do.

    Source: a logarithmic opinion pool (Genest and Zidek, Statistical Science 1986).
    """

    name: ClassVar[str] = "ensemble"
    config_class: ClassVar[type[EnsembleConfig]] = EnsembleConfig
    combines_runs: ClassVar[bool] = True
    weights: Tensor

    def __init__(self, config: EnsembleConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.names: list[str] = []
        self.members = nn.ModuleList()
        self.register_buffer("weights", torch.zeros(len(config.runs)))
        self.repeats = RepeatTerm() if config.repeat == "learned" else None

    @property
    def systems(self) -> list[System[Any]]:
        """The members, in the order of the weights."""
        return [member for member in self.members if isinstance(member, System)]

    @property
    def max_len(self) -> int | None:
        """The longest history that any member reads."""
        longest = [member.max_len for member in self.systems]
        return None if None in longest else max((n for n in longest if n is not None), default=None)

    @property
    def uses_language_model(self) -> bool:
        """Whether a member with a weight uses one."""
        return any(member.uses_language_model for member in self._weighed)

    @property
    def reads_text(self) -> bool:
        """Whether a member with a weight does."""
        return any(member.reads_text for member in self._weighed)

    @property
    def _weighed(self) -> list[System[Any]]:
        """The members with a weight above 0."""
        pairs = zip(self.systems, self.weights.tolist(), strict=True)
        return [member for member, weight in pairs if weight > 0]

    def initialise(self, data: TrainingData) -> None:
        """Takes the members and fits their weights on the validation part.

        Raises:
            ConfigError: no validation event can be fitted on.
        """
        self._take(data.members)
        for name, member in zip(self.names, self.systems, strict=True):
            if isinstance(member.scorer(), ListScorer):
                data.progress.warn(
                    f"{name} ({member.name}) lists items by a beam search; in an ensemble it scores the "
                    "whole catalogue, which is slow"
                )
        if self.repeats is None:
            self._fit(data, masked=data.dataset.masks_seen)
        else:
            self._fit_with_repeats(data, self.repeats)

    @torch.no_grad()
    def _fit_with_repeats(self, data: TrainingData, repeats: RepeatTerm) -> None:
        """Fits the weights on targets that are new to the user, then the constant for items of the history.

        Where seen items are ranked, validation chooses among the constants and weights that were fitted on
        all targets, without a constant.
        """
        if data.dataset.masks_seen:
            self._fit(data, masked=True)
            fit_repeats(repeats, self.scorer(), data, self.max_len, data.dataset.repeat_share)
            return
        fits: list[tuple[float, Tensor, float]] = []
        if len(fitting_users(data.dataset, masked=True).users):
            self._fit(data, masked=True)
            for share in repeat_shares(data):
                fit_repeats(repeats, self.scorer(), data, self.max_len, share)
                value = self._validate(data, f"{format_percent(share)} of repeats expected")
                term = float(repeats.recency[0])  # the same for every age
                fits.append((value, self.weights.clone(), term))
        repeats.recency.zero_()
        self._fit(data, masked=False)
        fits.append((self._validate(data, "the members' terms alone"), self.weights.clone(), 0.0))
        _, weights, term = max(fits, key=lambda fit: fit[0])
        self.weights.copy_(weights)
        repeats.recency.fill_(term)

    def _validate(self, data: TrainingData, what: str) -> float:
        """Returns NDCG@10 on validation, seen items ranked, with the present weights and constant."""
        held_out = fitting_users(data.dataset, masked=False)
        value = ranking_ndcg(self.scorer(), held_out, self.max_len, _device(self.systems))
        data.progress.note(f"repeats, {what}: NDCG@10 {value:.4f} on validation")
        return value

    def _fit(self, data: TrainingData, *, masked: bool) -> None:
        """Fits the weights on the validation targets, or with `masked` on those that are new to the user."""
        held_out = fitting_users(data.dataset, masked=masked)
        if not len(held_out.users):
            raise ConfigError(
                "an ensemble's weights are fitted on validation targets after a history that does not hold "
                "them, and the data set has none; prepare it with --min-user-count 3 or more, or with "
                "another --split"
            )
        config = self.config
        candidates = gather_candidates(
            self.member_scorers(),
            held_out,
            data.dataset.tie_keys,
            best=config.candidates,
            others=config.others,
            max_len=self.max_len,
            seed=config.seed,
            device=_device(self.systems),
            masked=masked,
            progress=data.progress,
        )
        weights = fit_likelihood(candidates, config.l2)
        if config.objective == "ndcg":
            weights = search_ndcg(candidates, weights)
        self.weights.copy_(weights)
        shares = weights * candidates.spread
        shares = shares / shares.sum()
        named = zip(self.names, shares.tolist(), strict=True)
        listed = ", ".join(f"{name} {share:.2f}" for name, share in named)
        data.progress.note(
            f"shares of the ensemble: {listed}; NDCG@10 on the data of the fit: "
            f"{ndcg(candidates, weights):.4f}"
        )

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns no phase: the members are trained, and `initialise` fits the weights."""
        return []

    def scorer(self) -> Scorer:
        """Returns a scorer with the present weights."""
        scorer = build_scorer(self.member_scorers(), self.weights)
        return scorer if self.repeats is None else RepeatScorer(scorer, self.repeats)

    def member_scorers(self) -> list[MemberScorer]:
        """Returns the members' scorers on the scale of the weights."""
        return [
            MemberScorer(member.scorer(), member.max_len, self.config.scale)
            for member in self.systems
        ]

    def view_columns(self) -> dict[str, slice]:
        """Returns the columns of each member's vectors; empty if a member has none."""
        scorers = self.member_scorers()
        if self.repeats or not all(isinstance(each.scorer, VectorScorer) for each in scorers):
            return {}
        columns, first = {}, 0
        for name, each in zip(self.names, scorers, strict=True):
            last = first + vectors(each).shape[1]
            columns[name] = slice(first, last)
            first = last
        return columns

    def saved_state(self) -> dict[str, Tensor]:
        """Returns the weights and the saved state of each member."""
        state = {"weights": self.weights}
        if self.repeats is not None:
            state |= {f"repeats.{name}": value for name, value in self.repeats.state_dict().items()}
        for number, member in enumerate(self.systems):
            state |= {f"members.{number}.{k}": v for k, v in member.saved_state().items()}
        return state

    def write_files(self, folder: Path) -> None:
        """Writes a description of the members, and the files of each in a folder of its own."""
        stored = []
        for number, (name, member) in enumerate(zip(self.names, self.systems, strict=True)):
            described = store_member(Member(name, member), folder / str(number))
            stored.append(described.model_dump(mode="json"))
        write_json(folder / _LIST, stored)

    def read_files(self, folder: Path) -> None:
        """Builds the members; their weights are loaded afterwards.

        Raises:
            ArtefactError: the list is damaged, or a plug-in was trained with another language model.
        """
        members = []
        for number, entry in enumerate(read_json(folder / _LIST, "ensemble")):
            members.append(build_member(StoredMember.build(entry), folder / str(number)))
        self._take(members)

    def _take(self, members: Sequence[Member]) -> None:
        assert len(members) == len(self.weights)
        self.names = [member.name for member in members]
        self.members = nn.ModuleList(member.system.eval() for member in members)


def _device(systems: Sequence[System[Any]]) -> torch.device:
    """Returns the device of the members."""
    tensors = (t for system in systems for t in system.state_dict().values())
    return next((t.device for t in tensors), torch.device("cpu"))
