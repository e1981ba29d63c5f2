"""Matrix products on a CPU by the fastest library that torch includes, and linear maps built on them.

torch multiplies float32 matrices with MKL on x86. MKL does not use the AVX-512 units of processors from
other makers than Intel; oneDNN, which torch includes too, does and is about twice as fast there. Both
compute in float32, so results differ by rounding only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNELS_BYTES = 170 << 20
"""Memory of oneDNN's kernels, 0.5 MiB for each shape of a product; measured on trainings of all encoders."""


@cache
def _has_onednn() -> bool:
    """Returns whether torch has oneDNN's product and this processor has AVX-512, which makes it faster."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def fits_onednn(x: Tensor) -> bool:
    """Returns whether products of `x` go to oneDNN."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and _has_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def kernel_bytes() -> int:
    """Returns the memory of oneDNN's kernels for the shapes of a training; 0 where it is not used."""
    return _KERNELS_BYTES if _has_onednn() else 0


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes a @ b.t() + bias without gradient. Either matrix may be a transposed view.

    Shapes: a [M, K], b [N, K], bias [N] -> [M, N].
    """
    if fits_onednn(a) and a.numel() and b.numel():
        return _onednn(_dense(a), _dense(b), bias)
    return F.linear(a, b, bias)


def _dense(x: Tensor) -> Tensor:
    """Copies a matrix with gaps between rows or columns: oneDNN is hundreds of times slower on these."""
    if x.is_contiguous() or x.t().is_contiguous():
        return x
    return x.t().contiguous().t() if x.stride(0) == 1 else x.contiguous()


class _Linear(torch.autograd.Function):
    """Computes x @ weight.t() + bias and its gradients by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()  # [M, O]
        return (
            _onednn(grad, weight.t()) if ctx.needs_input_grad[0] else None,
            _onednn(grad.t(), x.t()) if ctx.needs_input_grad[1] else None,
            grad.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` that trains faster on a CPU. Shapes: x [..., I], weight [O, I], bias [O] -> [..., O]."""
    if not (torch.is_grad_enabled() and fits_onednn(x) and x.numel()):
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(_dense(x.reshape(-1, x.shape[-1])), weight, bias)
    return out.view(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`nn.Linear` that trains faster on a CPU; without gradients it is `nn.Linear` itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: [..., I] -> [..., O]."""
        return linear(x, self.weight, self.bias)


def padded_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes `F.linear` for large models on a CPU, with and without gradients.

    Batches of texts come in all sizes and oneDNN keeps a kernel for each, so rows are padded to few sizes.

    Shapes: x [..., I], weight [O, I], bias [O] -> [..., O].
    """
    if not (fits_onednn(x) and x.numel()):
        return F.linear(x, weight, bias)
    flat = _dense(x.reshape(-1, x.shape[-1]))
    rows = len(flat)
    more = _few_sizes(rows) - rows
    padded = F.pad(flat, (0, 0, 0, more)) if more else flat
    out: Tensor = _Linear.apply(padded, _dense(weight), bias)
    return (out[:rows] if more else out).view(*x.shape[:-1], len(weight))


class OneDNNLinear(nn.Linear):
    """`nn.Linear` of a large model, faster on a CPU with and without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: [..., I] -> [..., O]."""
        return padded_linear(x, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Turns every `nn.Linear` of another library's model into a `OneDNNLinear`, in place."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDNNLinear


def _few_sizes(rows: int) -> int:
    """Rounds up to the next of sixteen sizes between each power of two and the next."""
    step = max(1, (1 << (rows - 1).bit_length()) >> 5)
    return -(-rows // step) * step
