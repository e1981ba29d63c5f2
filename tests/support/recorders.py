"""Recorders for a CPU, which replay by calling the recorded work on the same tensors."""

from __future__ import annotations

import torch

from seqloom.nn.graphs import Results, Work


class SameTensors:
    """Does what a graph does: nothing when it records, and every replay writes into the same outputs."""

    def __init__(self) -> None:
        self.rehearsed = self.recorded = self.replayed = 0

    def rehearse(self, work: Work) -> Results:
        self.rehearsed += 1
        return work()

    def record(self, work: Work) -> Work:
        self.recorded += 1
        outputs: Results = {}

        def replay() -> Results:
            self.replayed += 1
            for name, value in work().items():
                if name not in outputs:
                    with torch.inference_mode(False):
                        outputs[name] = torch.empty_like(value)
                outputs[name].copy_(value)
            return outputs

        return replay


class Refusing(SameTensors):
    """Finds in a rehearsal, after part of the step, that it cannot be recorded."""

    def rehearse(self, work: Work) -> Results:
        torch.rand(3)
        raise RuntimeError("called a synchronizing operation\nand more")
