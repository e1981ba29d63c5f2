"""A GRU that trains faster on a CPU than torch's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqloom.nn.dropout import dropout
from seqloom.nn.linear import fits_onednn, linear, product


def gru(network: nn.GRU, x: Tensor) -> Tensor:
    """Computes the states `network(x)[0]` with faster gradients on a CPU; wider states gain more.

    One product covers all inputs before the recurrence, and one product after it gives the gradient of the
    recurrent weights; torch makes one for each position. Products are oneDNN's, see `nn.linear`. Without
    gradients, and on other devices, the network itself runs.

    Args:
        network: batch first, one direction, with biases.

    Shapes: [B, L, D] -> [B, L, H].
    """
    if not (torch.is_grad_enabled() and fits_onednn(x) and x.numel()):
        plain: Tensor = network(x)[0]
        return plain
    states = x.transpose(0, 1)  # [L, B, D]
    for layer in range(network.num_layers):
        if layer:
            states = dropout(states, network.dropout, training=network.training)
        names = (f"{name}_l{layer}" for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
        weight_in, bias_in, weight, bias = (getattr(network, name) for name in names)
        states = _Recurrence.apply(linear(states, weight_in, bias_in), weight, bias)
    return states.transpose(0, 1)


class _Recurrence(torch.autograd.Function):
    """States of one layer, given the input terms W x + b of the reset, update and candidate gates.

        r = sigmoid(Wr x + Ur h + br)      z = sigmoid(Wz x + Uz h + bz)
        n = tanh(Wn x + r * (Un h + bn))   h' = (1 - z) * n + z * h

    Source: Cho et al., EMNLP 2014, eqs. 5 to 8; the reset gate acts after the recurrent product, as in torch.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Shapes: inputs [L, B, 3 H], weight [3 H, H], bias [3 H] -> [L, B, H]."""
        length, rows, _ = inputs.shape
        width = weight.shape[1]
        gates = torch.empty_like(inputs)
        recalled = inputs.new_empty(length, rows, width)  # Un h + bn, before the reset gate
        states = torch.empty_like(recalled)
        state = inputs.new_zeros(rows, width)
        for at in range(length):
            recurrent = product(state, weight, bias)  # [B, 3 H]
            # Reset and update gate share one addition and one sigmoid: [B, 2 H].
            both, candidate = gates[at].split([2 * width, width], 1)
            torch.add(inputs[at, :, : 2 * width], recurrent[:, : 2 * width], out=both).sigmoid_()
            reset, update = both.chunk(2, 1)
            recalled[at] = recurrent[:, 2 * width :]
            torch.addcmul(inputs[at, :, 2 * width :], reset, recalled[at], out=candidate).tanh_()
            # h' = n + z * (h - n), written into its place of `states`.
            state = torch.lerp(candidate, state, update, out=states[at])
        ctx.save_for_backward(gates, recalled, states, weight)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grads,) = grad_outputs
        gates, recalled, states, weight = ctx.saved_tensors
        length, _, width = states.shape
        # Gradients of the terms before the nonlinearities: of W x + b, and of U h + b.
        of_inputs = torch.empty_like(gates)  # [L, B, 3 H]
        of_recurrent = torch.empty_like(gates)
        grad, before = grads[length - 1], torch.zeros_like(states[0])  # d loss / d h', initial h
        for at in reversed(range(length)):
            reset, update, candidate = gates[at].chunk(3, 1)
            previous = states[at - 1] if at else before
            # d h' / d n = 1 - z, through the tanh of n.
            inner = _through_tanh(torch.addcmul(grad, grad, update, value=-1), candidate)
            # d n / d r = Un h + bn;  d h' / d z = h - n.
            by_reset, by_update, by_candidate = of_inputs[at].chunk(3, 1)
            by_reset.copy_(_through_sigmoid(inner * recalled[at], reset))
            by_update.copy_(_through_sigmoid(grad * (previous - candidate), update))
            by_candidate.copy_(inner)
            # Un h enters the candidate times r; the other two gates add both terms alike.
            of_recurrent[at, :, : 2 * width] = of_inputs[at, :, : 2 * width]
            torch.mul(inner, reset, out=of_recurrent[at, :, 2 * width :])
            if at:
                # Gradient of the state before: its own, what z carries over, and what U hands back.
                kept = torch.addcmul(grads[at - 1], grad, update)
                grad = kept.add_(product(of_recurrent[at], weight.t()))
        of_weight = None
        if ctx.needs_input_grad[1]:  # the initial state is zero, so position 0 adds nothing
            errors = of_recurrent[1:].flatten(0, 1)  # [(L - 1) * B, 3 H]
            of_weight = product(errors.t(), states[:-1].flatten(0, 1).t())
        of_bias = of_recurrent.sum((0, 1)) if ctx.needs_input_grad[2] else None
        return of_inputs, of_weight, of_bias


def _through_sigmoid(grad: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward(grad, output)


def _through_tanh(grad: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, output)
