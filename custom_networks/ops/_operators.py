"""Turns a backend's plain forward and backward functions into differentiable, exportable operators.

A backend that computes its own gradients hands its functions to :func:`define_selective_scan`, :func:`define_ssd_scan`
or :func:`define_causal_conv1d` and gets back a function with the public signature. It is registered with
``torch.library``: ``torch.compile`` and ``torch.export`` see one opaque node, fake tensors have their shapes, autograd
works once, and asking for second derivatives is a clear error.

The backend's functions see tensors channel-last, of any strides, and run without autocast; what they return owns
contiguous memory. ``forward`` also returns ``states``, whatever its ``backward`` needs; it must be empty unless
``save_states``, which is off where no gradient is wanted and in exported programs (there, ``states_shape`` would bind
the length). Should a gradient be asked for all the same, the forward pass is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from custom_networks.ops._layout import is_channel_last, state_dtype


def define_selective_scan(backend: str, forward: Callable, backward: Callable, states_shape: Callable) -> Callable:
    """Registers a selective scan.

    Args:
        backend: Name, part of the operator's name in exported programs.
        forward: ``(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, save_states)`` to ``out, last,
            states`` with u, delta, z, out (B, L, D); B, C (B, L, G, N); last (B, D, N).
        backward: ``(grad_out, grad_last, u, delta, A, B, C, D, z, delta_bias, states, delta_softplus, reverse)`` to
            the gradients of the eight tensors, None for what is absent, each in shape and dtype of its tensor.
        states_shape: ``(u, A, B)`` to the shape of the states.

    Returns:
        A function with the signature of :func:`custom_networks.ops.selective_scan`.
    """

    def shapes(save_states: bool, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, *_: object) -> list:
        return [u.shape, (u.shape[0], *A.shape), states_shape(u, A, B) if save_states else (0,)]

    operator = _register(
        f"{backend}_selective_scan",
        "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias",
        "bool delta_softplus, bool reverse",
        3,
        shapes,
        forward,
        backward,
    )

    def selective_scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        reverse: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        rows, steps, gate = (None if x is None else x.transpose(1, 2) for x in (u, delta, z))
        tensors = rows, steps, A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2), D, gate, delta_bias
        out, last, _ = operator(*tensors, delta_softplus, reverse, _wants_gradient(tensors))
        return (_like(u, out), last) if return_last_state else _like(u, out)

    return selective_scan


def define_ssd_scan(backend: str, forward: Callable, backward: Callable, states_shape: Callable) -> Callable:
    """Registers an SSD scan.

    Args:
        backend: Name, part of the operator's name in exported programs.
        forward: ``(x, dt, A, B, C, D, z, dt_bias, initial_states, dt_softplus, reverse, chunk_size, save_states)`` to
            ``out, final, states`` with the shapes of the public function.
        backward: ``(grad_out, grad_final, x, dt, A, B, C, D, z, dt_bias, initial_states, states, dt_softplus, reverse,
            chunk_size)`` to the gradients of the nine tensors, None for what is absent, each in shape and dtype of
            its tensor.
        states_shape: ``(x, B, chunk_size)`` to the shape of the states.

    Returns:
        A function with the signature of :func:`custom_networks.ops.ssd_scan`.
    """

    def shapes(save_states: bool, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, *rest: object) -> list:
        final = x.shape[0], *x.shape[2:], B.shape[3]
        return [x.shape, final, states_shape(x, B, rest[-1]) if save_states else (0,)]

    operator = _register(
        f"{backend}_ssd_scan",
        "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, "
        "Tensor? initial_states",
        "bool dt_softplus, bool reverse, int chunk_size",
        3,
        shapes,
        forward,
        backward,
    )

    def ssd_scan(
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        chunk_size: int = 64,
        D: Tensor | None = None,
        z: Tensor | None = None,
        dt_bias: Tensor | None = None,
        dt_softplus: bool = False,
        initial_states: Tensor | None = None,
        return_final_states: bool = False,
        reverse: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        tensors = x, dt, A, B, C, D, z, dt_bias, initial_states
        out, final, _ = operator(*tensors, dt_softplus, reverse, chunk_size, _wants_gradient(tensors))
        return (out, final) if return_final_states else out

    return ssd_scan


def define_causal_conv1d(backend: str, forward: Callable, backward: Callable) -> Callable:
    """Registers a depthwise causal convolution.

    Args:
        backend: Name, part of the operator's name in exported programs.
        forward: ``(x, weight, bias, silu, reverse)`` to ``out`` with x, out (B, L, D).
        backward: ``(grad_out, x, weight, bias, silu, reverse)`` to the gradients of the three tensors, None for an
            absent bias, each in shape and dtype of its tensor.

    Returns:
        A function with the signature of :func:`custom_networks.ops.causal_conv1d`.
    """

    def with_states(*arguments: object) -> tuple[Tensor, Tensor]:
        return forward(*arguments[:-1]), arguments[0].new_empty((0,), dtype=state_dtype(arguments[0].dtype))

    def without_states(grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, _: Tensor, *flags: bool):
        return backward(grad_out, x, weight, bias, *flags)

    operator = _register(
        f"{backend}_causal_conv1d",
        "Tensor x, Tensor weight, Tensor? bias",
        "bool silu, bool reverse",
        2,
        lambda _, x, *rest: [x.shape, (0,)],
        with_states,
        without_states,
    )

    def causal_conv1d(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
    ) -> Tensor:
        out, _ = operator(x.transpose(1, 2), weight, bias, activation is not None, reverse, False)
        return _like(x, out)

    return causal_conv1d


def _register(
    name: str, tensors: str, flags: str, outputs: int, shapes: Callable, forward: Callable, backward: Callable
) -> torch.library.CustomOpDef:
    """Registers ``custom_networks::<name>`` and its backward operator.

    Args:
        name: Name of the operator.
        tensors: Its tensors, as in an operator schema.
        flags: Its other arguments but the last, ``bool save_states``.
        outputs: Number of its outputs, ``states`` included.
        shapes: ``(save_states, *tensors, *flags)`` to the shapes of the outputs. The first output has the dtype of the
            first tensor, the others (states) that of the state.
        forward: ``(*tensors, *flags, save_states) -> outputs``; the last output is ``states``.
        backward: ``(*gradients of all outputs but states, *tensors, states, *flags)`` to gradients, None if absent.
    """
    count = tensors.count(",") + 1

    def run(*arguments: object) -> tuple[Tensor, ...]:
        with torch.autocast(arguments[0].device.type, enabled=False):
            return forward(*arguments)

    def run_back(gradients: Sequence[Tensor], *arguments: object) -> list[Tensor]:
        inputs, states, settings = arguments[:count], arguments[count], arguments[count + 1 :]
        if inputs[0].numel() == 0:
            return [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs if x is not None]
        with torch.autocast(inputs[0].device.type, enabled=False):
            if states.numel() == 0:
                states = forward(*inputs, *settings, True)[-1]
            found = backward(*gradients, *inputs, states, *settings)
        return [gradient for gradient in found if gradient is not None]

    def fake(*arguments: object) -> tuple[Tensor, ...]:
        x, dtype = arguments[0], state_dtype(arguments[0].dtype)
        sizes = shapes(arguments[-1], *arguments[:-1])
        return x.new_empty(sizes[0]), *(x.new_empty(size, dtype=dtype) for size in sizes[1:])

    def fake_back(gradients: Sequence[Tensor], *arguments: object) -> list[Tensor]:
        return [x.new_empty(x.shape) for x in arguments[:count] if x is not None]

    def keep(ctx: object, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:count], output[-1])
        ctx.settings = inputs[count:-1]

    def differentiate(ctx: object, *gradients: Tensor) -> tuple:
        saved = ctx.saved_tensors
        found = iter(operator_back(list(gradients[:-1]), *saved, *ctx.settings))
        return *(None if x is None else next(found) for x in saved[:-1]), *(None for _ in ctx.settings), None

    def refuse(ctx: object, *gradients: object) -> tuple:
        raise RuntimeError(f"{name} has no second derivative; set_backend('reference') computes one, slowly")

    results = ", ".join(["Tensor"] * outputs)
    operator = torch.library.custom_op(
        f"custom_networks::{name}",
        run,
        mutates_args=(),
        schema=f"({tensors}, {flags}, bool save_states) -> ({results})",
    )
    operator_back = torch.library.custom_op(
        f"custom_networks::{name}_backward",
        run_back,
        mutates_args=(),
        schema=f"(Tensor[] gradients, {tensors}, Tensor states, {flags}) -> Tensor[]",
    )
    operator.register_fake(fake)
    operator_back.register_fake(fake_back)
    operator.register_autograd(differentiate, setup_context=keep)
    operator_back.register_autograd(refuse)
    return operator


def _wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    if torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return False
    return any(x is not None and x.requires_grad for x in tensors)


def _like(x: Tensor, rows: Tensor) -> Tensor:
    """(B, L, D) rows as (B, D, L) in the memory order of ``x``."""
    out = rows.transpose(1, 2)
    return out if is_channel_last(x) else out.contiguous()
