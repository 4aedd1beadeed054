"""The inside of a Mamba mixer as one operator: convolution, projections and scan, with little kept for backward.

Kept are the input, the small projections and the states between chunks. The convolution's output and the step sizes,
each as large as the scan's output, are computed again; gradients of the two halves of the input are written into the
two halves of one tensor. A second direction adds to the output and to that gradient.

Source: the fused inner function published with Mamba, Gu and Dao 2023. Deviation: both directions in one operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops._layout import deliver
from custom_networks.ops._operators import register, wants_gradient


@dataclass(frozen=True)
class Kernels:
    """Plain functions of a backend, as :mod:`custom_networks.ops._operators` describes them.

    Three of them write in place, by further keyword arguments: ``scan_forward`` adds its output to the tensor
    ``add_to``, ``scan_backward`` and ``conv_backward`` write the gradient of z or x to ``grad_z`` or ``grad_x``, or add
    it there with ``add``; those two have dense rows, but lie in a wider tensor. :meth:`that_return` makes such
    functions of those that only return tensors.
    """

    conv_forward: Callable
    conv_backward: Callable
    scan_forward: Callable
    scan_backward: Callable
    states_shape: Callable

    @classmethod
    def that_return(
        cls,
        conv_forward: Callable,
        conv_backward: Callable,
        scan_forward: Callable,
        scan_backward: Callable,
        states_shape: Callable,
    ) -> Kernels:
        """From functions without the keyword arguments; what they return is copied or added to its place."""

        def adding_scan(*arguments: object, add_to: Tensor | None) -> tuple[Tensor, ...]:
            out, *rest = scan_forward(*arguments)
            return deliver(out, add_to, True), *rest

        def writing_scan(*arguments: object, grad_z: Tensor, add: bool) -> tuple[Tensor | None, ...]:
            found = scan_backward(*arguments)
            deliver(found[6], grad_z, add)
            return found

        def writing_conv(*arguments: object, grad_x: Tensor, add: bool) -> tuple[Tensor | None, ...]:
            found = conv_backward(*arguments)
            deliver(found[0], grad_x, add)
            return found

        return cls(conv_forward, writing_conv, adding_scan, writing_scan, states_shape)


class Weights(NamedTuple):
    """Parameters of one direction, as :func:`custom_networks.ops.mamba_inner` describes them."""

    conv_weight: Tensor
    conv_bias: Tensor | None
    x_proj_weight: Tensor
    dt_proj_weight: Tensor
    dt_bias: Tensor | None
    A: Tensor
    D: Tensor | None

    def parts(self) -> list[int]:
        """Sizes of the step size, B and C in the projection."""
        states = self.A.shape[1]
        return [self.dt_proj_weight.shape[1], states, states]


_TENSORS = (
    "Tensor {0}conv_weight, Tensor? {0}conv_bias, Tensor {0}x_proj_weight, Tensor {0}dt_proj_weight, "
    "Tensor? {0}dt_bias, Tensor {0}A, Tensor? {0}D"
)
_PARAMETERS = len(Weights._fields)


def define_mamba_inner(backend: str, kernels: Kernels) -> Callable:
    """Registers the inside of a mixer of one direction.

    Returns:
        ``(xz, *weights, reverse)`` to the gated output (B, L, D).
    """

    def forward(xz: Tensor, *rest: object) -> tuple[Tensor, ...]:
        *weights, reverse, save_states = rest
        out, *kept = _forward(kernels, xz, Weights(*weights), reverse, save_states, None)
        return out, *kept

    def backward(grad: Tensor, xz: Tensor, *rest: object) -> tuple[Tensor | None, ...]:
        *weights, projected, states, reverse = rest
        grad_xz = torch.empty_like(xz, memory_format=torch.contiguous_format)
        found = _backward(kernels, grad, xz, Weights(*weights), projected, states, reverse, grad_xz, False)
        return grad_xz, *found

    def fake(save_states: bool, xz: Tensor, *rest: object) -> list[Tensor]:
        return [_empty_output(xz), *_empty_kept(kernels, xz, Weights(*rest[:_PARAMETERS]), save_states)]

    operator = register(
        f"{backend}_mamba_inner",
        "Tensor xz, " + _TENSORS.format(""),
        "bool reverse",
        fake,
        forward,
        backward,
        results=1,
        kept=2,
    )

    def mamba_inner(xz: Tensor, weights: tuple, reverse: bool) -> Tensor:
        tensors = xz, *weights
        return operator(*tensors, reverse, wants_gradient(tensors))[0]

    return mamba_inner


def define_bidirectional_mamba_inner(backend: str, kernels: Kernels) -> Callable:
    """Registers the inside of a mixer of two directions with parameters of their own.

    Returns:
        ``(xz, weights, weights_reverse)`` to the sum of the gated outputs, (B, L, D).
    """

    def forward(xz: Tensor, *rest: object) -> tuple[Tensor, ...]:
        save_states = rest[-1]
        ahead, behind = Weights(*rest[:_PARAMETERS]), Weights(*rest[_PARAMETERS:-1])
        out, *kept = _forward(kernels, xz, ahead, False, save_states, None)
        out, *kept_behind = _forward(kernels, xz, behind, True, save_states, out)
        return out, *kept, *kept_behind

    def backward(grad: Tensor, xz: Tensor, *rest: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_xz = torch.empty_like(xz, memory_format=torch.contiguous_format)
        found = []
        for reverse in (False, True):
            weights = Weights(*rest[reverse * _PARAMETERS :][:_PARAMETERS])
            projected, states = rest[2 * _PARAMETERS + 2 * reverse :][:2]
            found += _backward(kernels, grad, xz, weights, projected, states, reverse, grad_xz, reverse)
        return grad_xz, *found

    def fake(save_states: bool, xz: Tensor, *weights: object) -> list[Tensor]:
        directions = Weights(*weights[:_PARAMETERS]), Weights(*weights[_PARAMETERS:])
        return [_empty_output(xz), *(x for w in directions for x in _empty_kept(kernels, xz, w, save_states))]

    operator = register(
        f"{backend}_bidirectional_mamba_inner",
        "Tensor xz, " + _TENSORS.format("") + ", " + _TENSORS.format("reverse_"),
        "",
        fake,
        forward,
        backward,
        results=1,
        kept=4,
    )

    def bidirectional_mamba_inner(xz: Tensor, weights: tuple, weights_reverse: tuple) -> Tensor:
        tensors = xz, *weights, *weights_reverse
        return operator(*tensors, wants_gradient(tensors))[0]

    return bidirectional_mamba_inner


def _empty_output(xz: Tensor) -> Tensor:
    batch, length, wide = xz.shape
    return xz.new_empty(batch, length, wide // 2)


def _empty_kept(kernels: Kernels, xz: Tensor, weights: Weights, save_states: bool) -> tuple[Tensor, Tensor]:
    """What :func:`_forward` keeps, without its numbers."""
    u = _empty_output(xz)
    B = xz.new_empty(*xz.shape[:2], 1, weights.A.shape[1])
    states = kernels.states_shape(u, weights.A, B) if save_states else (0,)
    projected = (*xz.shape[:2], sum(weights.parts())) if save_states else (0,)
    return xz.new_empty(projected), weights.A.new_empty(states)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype))


def _forward(
    kernels: Kernels, xz: Tensor, weights: Weights, reverse: bool, save_states: bool, add_to: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and what is kept: the projection (B, L, R + 2 N) and the states between chunks."""
    x, z = xz.chunk(2, dim=-1)
    u = kernels.conv_forward(x, weights.conv_weight, weights.conv_bias, True, reverse)
    projected = _linear(u, weights.x_proj_weight)
    operands = _scan_operands(u, z, projected, weights)
    out, _, states = kernels.scan_forward(*operands, True, reverse, save_states, add_to=add_to)
    return out, projected if save_states else projected.new_empty(0), states


def _scan_operands(u: Tensor, z: Tensor, projected: Tensor, weights: Weights) -> tuple[Tensor | None, ...]:
    steps, B, C = projected.split(weights.parts(), dim=-1)
    delta = _linear(steps, weights.dt_proj_weight)
    return u, delta, weights.A, B.unsqueeze(2), C.unsqueeze(2), weights.D, z, weights.dt_bias, None


def _backward(
    kernels: Kernels,
    grad: Tensor,
    xz: Tensor,
    weights: Weights,
    projected: Tensor,
    states: Tensor,
    reverse: bool,
    grad_xz: Tensor,
    add: bool,
) -> list[Tensor | None]:
    """Gradients of the weights; that of the input is written, or added, to ``grad_xz``."""
    (x, z), (grad_x, grad_z) = xz.chunk(2, dim=-1), grad_xz.chunk(2, dim=-1)
    u = kernels.conv_forward(x, weights.conv_weight, weights.conv_bias, True, reverse)
    operands = _scan_operands(u, z, projected, weights)
    grad_last = weights.A.new_zeros(xz.shape[0], *weights.A.shape)
    du, ddelta, dA, dB, dC, dD, _, dbias, _ = kernels.scan_backward(
        grad, grad_last, *operands, states, True, reverse, grad_z=grad_z, add=add
    )
    del operands

    rank, count, _ = weights.parts()
    grad_projected = torch.empty_like(projected)
    grad_projected[..., rank : rank + count] = dB.squeeze(2)
    grad_projected[..., rank + count :] = dC.squeeze(2)
    rows, grad_rows, grad_delta = (v.flatten(0, 1) for v in (projected, grad_projected, ddelta))
    torch.mm(grad_delta, weights.dt_proj_weight.to(xz.dtype), out=grad_rows[:, :rank])
    grad_dt_proj = torch.mm(grad_delta.t(), rows[:, :rank])
    du_rows = du.flatten(0, 1)
    du_rows.addmm_(grad_rows, weights.x_proj_weight.to(xz.dtype))
    grad_x_proj = torch.mm(grad_rows.t(), u.flatten(0, 1))
    _, grad_conv_weight, grad_conv_bias = kernels.conv_backward(
        du, x, weights.conv_weight, weights.conv_bias, True, reverse, grad_x=grad_x, add=add
    )
    return [
        grad_conv_weight,
        grad_conv_bias,
        grad_x_proj.to(weights.x_proj_weight.dtype),
        grad_dt_proj.to(weights.dt_proj_weight.dtype),
        dbias,
        dA,
        dD,
    ]
