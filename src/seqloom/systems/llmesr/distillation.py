"""Retrieval-augmented self-distillation: users with similar texts teach each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.phase import Mean
from seqloom.data.batches import TrainingBatch, TrainingRows
from seqloom.data.sequences import Sequences
from seqloom.distributed.processes import Processes
from seqloom.nn.attention import last_position
from seqloom.systems.llmesr.config import DistillationConfig

_ENCODED_AT_ONCE = 512
Represent = Callable[[Sequences], Tensor]
"""Maps training parts of users to their states [B, D'], in evaluation mode and without gradient."""


class Distillation(nn.Module):
    """L_SD between a user's state and the mean state of the N users with the most similar texts.

    Source: LLM-ESR, eq. 10 to 12; the teacher is the same network, without gradient.
    Differs: by default the teachers' states are those at the start of the epoch, so that a step does
    not encode N more histories for each user; `teacher: step` is the paper's way. A teacher is encoded
    without dropout, a student without output dropout, whose noise would be most of the loss; the authors'
    code has dropout in both and no output dropout. A teacher's state follows the whole training part,
    the authors' the training part without its last item.
    """

    bank: Tensor
    bank_epoch: Tensor

    def __init__(
        self,
        config: DistillationConfig,
        train: Sequences,
        rows: TrainingRows,
        similar: Tensor,
        state_size: int,
        processes: Processes,
    ) -> None:
        """`similar` [U, N] are user numbers; `state_size` is D'."""
        super().__init__()
        self.config = config
        self._processes = processes
        self._train = train
        self._similar = similar
        self._users = rows.users
        self._is_last = rows.is_last
        users = len(train) if config.teacher == "epoch" else 0
        # The bank belongs to the state, so that a run resumed within an epoch has the same teachers.
        self.register_buffer("bank", torch.zeros(users, state_size))
        self.register_buffer("bank_epoch", torch.tensor(-1))

    def begin_epoch(self, epoch: int, represent: Represent) -> None:
        """Encodes all users with the weights at the start of the epoch; each process encodes a part."""
        if self.config.teacher == "step" or int(self.bank_epoch) == epoch:
            return
        order = torch.argsort(self._train.lengths, stable=True).split(_ENCODED_AT_ONCE)
        self.bank.zero_()
        for rows in order[self._processes.rank :: self._processes.size]:
            states = represent(self._train.select(rows))
            self.bank[rows.to(self.bank.device)] = states.to(self.bank.dtype)
        self._processes.sum(self.bank)
        self.bank_epoch.fill_(epoch)

    def forward(self, batch: TrainingBatch, states: Tensor, represent: Represent) -> Mean:
        """Returns the weighted loss over the rows that end a user's training part.

        The student is the state that predicts the last item; a row in which that item is not a target
        (BERT4Rec masks others) has no student.

        Shapes: states [B, L, D'] -> scalar.
        """
        chosen = torch.nonzero(self._is_last[batch.rows] & batch.predicts_last).flatten()
        if self.config.kind == "contrast":
            return self._contrast(batch, states, chosen, represent)
        if not len(chosen):
            return Mean(states.sum() * 0.0, 0)
        students, teachers = self._pairs(batch, states, chosen, represent)
        return Mean(self.config.alpha * F.mse_loss(students, teachers), len(chosen))

    def _contrast(
        self, batch: TrainingBatch, states: Tensor, chosen: Tensor, represent: Represent
    ) -> Mean:
        """Returns the contrastive loss against the teachers of the whole batch, over all processes."""
        students = teachers = states[:0, 0]
        if len(chosen):
            students, teachers = self._pairs(batch, states, chosen, represent)
        every, own = self._processes.gather_rows(teachers)
        if not len(chosen):
            return Mean(states.sum() * 0.0, 0)
        # Each student has to pick its own teacher by cosine similarity.
        cosines = F.normalize(students, dim=1) @ F.normalize(every, dim=1).t()  # [C, all teachers]
        own_teachers = torch.arange(own.start, own.stop, device=states.device)
        loss = F.cross_entropy(cosines / self.config.temperature, own_teachers)
        return Mean(self.config.alpha * loss, len(chosen))

    def _pairs(
        self, batch: TrainingBatch, states: Tensor, chosen: Tensor, represent: Represent
    ) -> tuple[Tensor, Tensor]:
        """Returns students and their teachers. Shapes: states [B, L, D'], chosen [C] -> two of [C, D']."""
        at = chosen.to(states.device)
        students = last_position(states[at], batch.inputs.lengths[at])
        similar = self._similar[self._users[batch.rows[chosen]], : self.config.num_similar]
        return students, self._teachers(similar, represent).to(students.dtype)

    def _teachers(self, similar: Tensor, represent: Represent) -> Tensor:
        """Returns the mean state of similar users. Shapes: similar [B, N] -> [B, D']."""
        if self.config.teacher == "epoch":
            return self.bank[similar.to(self.bank.device)].mean(1)
        # Encode each user once, however many students it teaches.
        users, place = similar.unique(return_inverse=True)
        return represent(self._train.select(users))[place].mean(1)
