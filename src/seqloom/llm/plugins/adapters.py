"""A LoRA adapter as a torch module of its own, over a shared language model."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

from seqloom.llm.config import LoraSettings
from seqloom.llm.plugins.shared_base import SharedBase


class Adapter(nn.Module):
    """Trainable low-rank maps inside a frozen base; its state dict holds the adapter alone.

    The parameters belong to PEFT layers in the base, so training or loading them in place changes the
    base's output while this adapter is active.
    """

    def __init__(self, base: SharedBase, settings: LoraSettings | None) -> None:
        """Adds an adapter to `base`; without `settings` the base is used unchanged, with nothing to train."""
        super().__init__()
        self.base = base
        base.users.add(self)
        self.name: str | None = None
        self.weights = nn.ParameterDict()
        if settings is not None:
            self.name, parameters = base.add_adapter(settings)
            # Parameter names must not contain dots.
            self.weights = nn.ParameterDict(
                {path.replace(".", "/"): parameter for path, parameter in parameters.items()}
            )
            weakref.finalize(self, base.remove_adapter, self.name)

    def run(self, embeddings: Tensor, **inputs: Any) -> Any:
        """Runs the base's backbone on input embeddings with this adapter active.

        Shapes: embeddings [B, T, D] -> an output with `last_hidden_state` [B, T, D].
        """
        with self.base.activate(self.name, training=self.training) as backbone:
            table = backbone.get_input_embeddings().weight
            return backbone(inputs_embeds=embeddings.to(table.dtype), **inputs)

    def peft_state(self) -> dict[str, Tensor]:
        """Returns the weights under their names in a PEFT adapter folder."""
        return {
            f"base_model.model.{self.base.module_path}{path.replace('/', '.')}.weight": value.detach()
            .contiguous()
            .cpu()
            for path, value in self.weights.items()
        }
