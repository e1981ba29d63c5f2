"""The kernels of the exact softmax, run by Triton's interpreter on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.nn import fused_softmax, losses


def has_triton(*oldest: int) -> bool:
    """Whether Triton is installed in this version or a later one."""
    try:
        installed = metadata.version("triton").split(".")
    except metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in installed[:2]) >= oldest


needs_triton = pytest.mark.skipif(
    not has_triton(3, 9),
    reason="Triton 3.9 is not installed, whose interpreter works with numpy 2.4",
)
needs_compiler = pytest.mark.skipif(
    not has_triton(3, 6), reason="Triton is not installed; CUDA builds of torch bring it"
)
SHAPES = [
    # targets, items, width, parts of the catalogue
    (37, 53, 8, 1),
    (130, 300, 24, 3),
    (1, 2, 64, 1),
    (129, 65, 64, 4),
    (70, 129, 100, 2),
]


def example(
    targets: int, items: int, width: int, *, ignored: bool, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(targets + items)
    hidden = torch.randn(targets, width, generator=draw, dtype=torch.float64).to(dtype)
    weight = torch.randn(items, width, generator=draw, dtype=torch.float64).to(dtype)
    truth = torch.randint(items, (targets,), generator=draw)
    if ignored:
        truth[::5] = -1
        truth[0] = 0
    return hidden, weight, truth


def plain(
    hidden: Tensor, weight: Tensor, truth: Tensor, offset: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Value and gradients of torch's cross-entropy in one number format."""
    h, w = (x.detach().to(dtype).requires_grad_() for x in (hidden, weight))
    logits = h @ w.t()
    logits = logits if dtype == torch.float64 else logits.float()
    logits = logits if offset is None else logits + offset.to(logits.dtype)
    value = F.cross_entropy(logits, truth, ignore_index=-1)
    (3 * value).backward()
    assert h.grad is not None
    assert w.grad is not None
    return value.detach(), h.grad, w.grad


def fused(
    hidden: Tensor, weight: Tensor, truth: Tensor, offset: Tensor | None, parts: int | None = None
) -> tuple[Tensor, ...]:
    h, w = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    value = fused_softmax.fused_softmax_loss(h, w, truth, offset=offset, parts=parts)
    (3 * value).backward()
    assert h.grad is not None
    assert w.grad is not None
    return value.detach(), h.grad, w.grad


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_is_at_most_that_of_plain_torch(
    shape: tuple[int, int, int, int], shifted: bool, dtype: torch.dtype
) -> None:
    targets, items, width, parts = shape
    hidden, weight, truth = example(targets, items, width, ignored=targets > 1, dtype=dtype)
    offset = torch.linspace(-2, 3, items) if shifted else None
    exact = plain(hidden, weight, truth, offset, torch.float64)
    usual = plain(hidden, weight, truth, offset, dtype)
    actual = fused(hidden, weight, truth, offset, parts)
    # The interpreter cuts numbers to bfloat16 where a device rounds them.
    slack = 5e-6 if dtype == torch.float32 else 2**-7
    # A float32 logit is off by a few roundings of its own size, however small the loss that is left of it.
    # The order of a sum, hence the processor, decides by how many. Gradients are products of what is off.
    largest = (hidden.double() @ weight.double().t()).abs().max() + (3 if shifted else 0)
    rounding = 4 * 2**-24 * largest
    factors = (1.0, 3 * float(weight.abs().max()), 3 * float(hidden.abs().max()))
    for name, got, other, true, factor in zip(
        ("value", "of hidden", "of weight"), actual, usual, exact, factors, strict=True
    ):
        error, usual_error = ((x.double() - true).abs().max() for x in (got, other))
        allowed = usual_error + slack * true.abs().max() + factor * rounding
        assert error <= allowed, (name, float(error), float(allowed))


@needs_triton
def test_ignored_targets_change_nothing() -> None:
    hidden, weight, truth = example(40, 31, 16, ignored=True)
    kept = truth >= 0
    value, of_hidden, of_weight = fused(hidden, weight, truth, None)
    alone, of_kept, of_same = fused(hidden[kept], weight, truth[kept], None)
    torch.testing.assert_close(value, alone)
    torch.testing.assert_close(of_hidden[kept], of_kept)
    torch.testing.assert_close(of_weight, of_same)
    assert not of_hidden[~kept].any()


@needs_triton
def test_no_target_at_all_is_a_loss_of_zero() -> None:
    hidden, weight, truth = example(4, 6, 16, ignored=False)
    value, of_hidden, of_weight = fused(hidden, weight, torch.full_like(truth, -1), None)
    assert float(value) == 0
    assert not of_hidden.any()
    assert not of_weight.any()


@needs_triton
def test_parts_of_the_catalogue_are_joined_where_some_are_empty() -> None:
    hidden, weight, truth = example(9, 70, 16, ignored=False)
    one, many = fused(hidden, weight, truth, None, 1), fused(hidden, weight, truth, None, 7)
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b)


@needs_triton
def test_large_logits_stay_finite() -> None:
    hidden, weight, truth = example(20, 40, 16, ignored=False)
    hidden = 200 * hidden
    actual = fused(hidden, weight, truth, None)
    exact = plain(hidden, weight, truth, None, torch.float64)
    usual = plain(hidden, weight, truth, None, torch.float32)
    for got, other, true in zip(actual, usual, exact, strict=True):
        # A logit of 2,000 in float32 is off by 1e-4, and so is a probability, in relation.
        allowed = (other.double() - true).abs().max() + 2e-4 * true.abs().max()
        assert (got.double() - true).abs().max() <= allowed


@needs_triton
def test_a_frozen_table_gets_no_gradient_and_a_frozen_state_none() -> None:
    hidden, weight, truth = example(5, 9, 16, ignored=False)
    state = hidden.clone().requires_grad_()
    fused_softmax.fused_softmax_loss(state, weight, truth).backward()
    table = weight.clone().requires_grad_()
    fused_softmax.fused_softmax_loss(hidden, table, truth).backward()
    _, of_hidden, of_weight = plain(hidden, weight, truth, None, torch.float32)
    torch.testing.assert_close(state.grad, of_hidden / 3, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(table.grad, of_weight / 3, rtol=1e-4, atol=1e-6)


@needs_triton
@pytest.mark.parametrize("shifted", [False, True])
def test_gradients_are_the_slopes_of_the_value(shifted: bool) -> None:
    """Central differences of the float64 value: the kernels themselves compute in float32."""
    hidden, weight, truth = example(3, 5, 4, ignored=False)
    offset = torch.linspace(-1, 1, 5) if shifted else None
    _, of_hidden, of_weight = fused(hidden, weight, truth, offset)
    for tensor, gradient in ((hidden, of_hidden), (weight, of_weight)):
        for at in [(row, column) for row in range(3) for column in range(4)]:
            moved = []
            for step in (1e-5, -1e-5):
                x = tensor.double().clone()
                x[at] += step
                h, w = (x, weight.double()) if tensor is hidden else (hidden.double(), x)
                logits = h @ w.t() + (0 if offset is None else offset.double())
                moved.append(float(F.cross_entropy(logits, truth)))
            slope = 3 * (moved[0] - moved[1]) / 2e-5
            assert float(gradient[at]) == pytest.approx(slope, abs=2e-5)


def test_a_cpu_keeps_its_own_products() -> None:
    hidden, weight, _ = example(5, 9, 16, ignored=False, dtype=torch.bfloat16)
    assert not fused_softmax.suits(hidden, weight, torch.bfloat16)


def test_what_the_kernels_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device on which they compile: products of 16 bits, vectors that fit, no terms."""
    monkeypatch.setattr(fused_softmax, "is_usable", lambda device: True)
    hidden, weight, truth = example(5, 9, 16, ignored=False, dtype=torch.bfloat16)
    assert fused_softmax.suits(hidden, weight, torch.bfloat16)
    assert not fused_softmax.suits(hidden, weight, torch.float32)
    wide = torch.zeros(2, fused_softmax.WIDEST + 1)
    assert not fused_softmax.suits(wide, wide, torch.bfloat16)
    taken: list[Tensor] = []

    def take(states: Tensor, *others: object, **options: object) -> Tensor:
        taken.append(states)
        return states.sum()

    monkeypatch.setattr(fused_softmax, "fused_softmax_loss", take)
    losses.softmax_loss(hidden, weight, truth)
    assert len(taken) == 1
    terms = (torch.zeros(5, 1, dtype=torch.int64), torch.zeros(5, 1))
    losses.softmax_loss(hidden, weight, truth, terms=terms)
    losses.softmax_loss(hidden.float(), weight.float(), truth)
    assert len(taken) == 1


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from seqloom.nn import fused_softmax, softmax_kernels

width = int(sys.argv[1])
blocks = fused_softmax.blocks_for(width)
tensors = {"hidden": "*bf16", "table": "*bf16", "offset": "*fp32"}
forward = {**tensors, **dict.fromkeys(("largest", "total", "average"), "*fp32")}
forward |= dict.fromkeys(("num_rows", "num_items", "span"), "i32")
backward = {**tensors, "targets": "*i64"}
backward |= dict.fromkeys(("largest", "spread", "scale", "gradient"), "*fp32")
backward |= dict.fromkeys(("num_rows", "num_items"), "i32")
shared = {
    "width": width, "block_width": fused_softmax._padded(width), "has_offset": True,
    "precision": "ieee", "widen": False,
}
one = {"block_rows": blocks.rows, "block_items": blocks.items, "averages": True}
other = {"block_rows": blocks.gradient_rows, "block_items": blocks.gradient_items}
for kernel, signature, sizes in (
    (softmax_kernels.average_kernel, forward, one),
    (softmax_kernels.table_gradient_kernel, backward, other),
):
    constants = {**shared, **sizes}
    signature = {**signature, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "mma" in compiled.asm["ptx"], "no tensor cores"
    print(compiled.metadata.shared)
"""


@needs_compiler
@pytest.mark.parametrize("width", [64, 256])
def test_the_kernels_compile_for_a_gpu(width: int, tmp_path: Path) -> None:
    """For compute capability 9.0, without such a device: tensor cores, and 227 KiB of shared memory."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE, str(width)],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sizes = [int(line) for line in done.stdout.split()]
    assert len(sizes) == 2
    assert max(sizes) <= 227 << 10
