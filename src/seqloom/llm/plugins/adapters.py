"""A LoRA adapter as a torch module of its own, over a language model that others use too."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

from seqloom.llm.plugins.shared_base import LoraSettings, SharedBase


class Adapter(nn.Module):
    """Trainable low-rank maps inside a frozen base; its state is the adapter alone.

    The parameters are those of the PEFT layers in the base, so training and loading them in place
    changes what the base does while this adapter is active.
    """

    def __init__(self, base: SharedBase, settings: LoraSettings | None) -> None:
        """Without `settings` the base is used as it is, with nothing to train."""
        super().__init__()
        self.base = base
        base.users.add(self)
        self.name: str | None = None
        self.weights = nn.ParameterDict()
        if settings is not None:
            self.name, parameters = base.add_adapter(settings)
            # A parameter's name may hold no dot.
            self.weights = nn.ParameterDict(
                {path.replace(".", "/"): parameter for path, parameter in parameters.items()}
            )
            weakref.finalize(self, base.remove_adapter, self.name)

    def run(self, embeddings: Tensor, **inputs: Any) -> Any:
        """The base's backbone on input embeddings, with this adapter and no other.

        Shapes: embeddings [B, T, D] -> an output with `last_hidden_state` [B, T, D].
        """
        with self.base.activate(self.name, training=self.training) as backbone:
            table = backbone.get_input_embeddings().weight
            return backbone(inputs_embeds=embeddings.to(table.dtype), **inputs)

    def peft_state(self) -> dict[str, Tensor]:
        """The weights under the names that PEFT gives them in an adapter folder."""
        return {
            f"base_model.model.{self.base.module_path}{path.replace('/', '.')}.weight": value.detach()
            .contiguous()
            .cpu()
            for path, value in self.weights.items()
        }
