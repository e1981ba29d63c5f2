"""A LoRA adapter as a torch module of its own, over a shared language model."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.llm.config import LoraSettings
from seqloom.llm.plugins.recompute import recompute_layers
from seqloom.llm.plugins.shared_base import SharedBase


class Adapter(nn.Module):
    """Trainable low-rank maps inside a frozen base; its state dict holds the adapter alone.

    The parameters belong to PEFT layers in the base, so training or loading them in place changes the
    base's output while this adapter is active.
    """

    def __init__(
        self,
        base: SharedBase,
        settings: LoraSettings | None,
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Adds an adapter to `base`; without `settings` the base is used unchanged, with nothing to train.

        `gradient_checkpointing` computes layers again in the backward pass, in place of keeping their states.
        """
        super().__init__()
        self.base = base
        self.gradient_checkpointing = gradient_checkpointing
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

        Passes that return a cache (`use_cache`) keep their states: their keys and values are read later.

        Shapes: embeddings [B, T, D] -> an output with `last_hidden_state` [B, T, D].
        """
        activate = partial(self.base.activate, self.name, training=self.training)
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        with activate() as backbone:
            table = backbone.get_input_embeddings().weight
            kept = again and not inputs.get("use_cache")
            with recompute_layers(backbone, activate) if kept else nullcontext():
                return backbone(inputs_embeds=embeddings.to(table.dtype), **inputs)

    def peft_state(self) -> dict[str, Tensor]:
        """Returns the weights under their names in a PEFT adapter folder."""
        return {
            f"base_model.model.{self.base.module_path}{path.replace('/', '.')}.weight": value.detach()
            .contiguous()
            .cpu()
            for path, value in self.weights.items()
        }
