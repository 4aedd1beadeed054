"""Turns a backend's plain forward and backward functions into differentiable, exportable operators.

A backend that computes its own gradients hands its functions to :func:`define_selective_scan`, :func:`define_ssd_scan`
or :func:`define_causal_conv1d` and gets back a function with the public signature. It is registered with
``torch.library``: ``torch.compile`` and ``torch.export`` see one opaque node, fake tensors have their shapes, autograd
works once, and asking for second derivatives is a clear error.

The backend's functions see tensors channel-last, of any strides, and run without autocast; what they return owns
contiguous memory. A scan's ``forward`` also returns ``states``, whatever its ``backward`` needs; it must be empty
unless ``save_states``, which is off where no gradient is wanted and in exported programs (there, ``states_shape`` would
bind the length). Should a gradient be asked for all the same, the forward pass is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from custom_networks.ops._layout import is_channel_last, state_dtype

# Lives as long as the process: the operators vanish with it.
_LIBRARY = torch.library.Library("custom_networks", "FRAGMENT")


def define_selective_scan(backend: str, forward: Callable, backward: Callable, states_shape: Callable) -> Callable:
    """Registers a selective scan.

    Args:
        backend: Name, part of the operator's name in exported programs.
        forward: ``(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse, save_states)`` to
            ``out, last, states`` with u, delta, z, out (B, L, D); B, C (B, L, G, N); initial_state, last (B, D, N).
        backward: ``(grad_out, grad_last, u, delta, A, B, C, D, z, delta_bias, initial_state, states, delta_softplus,
            reverse)`` to the gradients of the nine tensors, None for what is absent, each in shape and dtype of its
            tensor.
        states_shape: ``(u, A, B)`` to the shape of the states.

    Returns:
        A function with the signature of :func:`custom_networks.ops.selective_scan`.
    """

    def fake(save_states: bool, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, *_: object) -> list[Tensor]:
        dtype = state_dtype(u.dtype)
        states = states_shape(u, A, B) if save_states else (0,)
        last = u.shape[0], *A.shape
        return [u.new_empty(u.shape), u.new_empty(last, dtype=dtype), u.new_empty(states, dtype=dtype)]

    operator = register(
        f"{backend}_selective_scan",
        "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
        "Tensor? initial_state",
        "bool delta_softplus, bool reverse",
        fake,
        forward,
        backward,
        results=2,
        kept=1,
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
        initial_state: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        rows, steps, gate = (None if x is None else x.transpose(1, 2) for x in (u, delta, z))
        tensors = rows, steps, A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2), D, gate, delta_bias, initial_state
        out, last, _ = operator(*tensors, delta_softplus, reverse, wants_gradient(tensors))
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
        A function with the signature of :func:`custom_networks.ops.ssd_scan` without ``dt_limit``.
    """

    def fake(save_states: bool, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, *rest: object) -> list[Tensor]:
        dtype = state_dtype(x.dtype)
        states = states_shape(x, B, rest[-1]) if save_states else (0,)
        final = x.shape[0], *x.shape[2:], B.shape[3]
        return [x.new_empty(x.shape), x.new_empty(final, dtype=dtype), x.new_empty(states, dtype=dtype)]

    operator = register(
        f"{backend}_ssd_scan",
        "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, "
        "Tensor? initial_states",
        "bool dt_softplus, bool reverse, int chunk_size",
        fake,
        forward,
        backward,
        results=2,
        kept=1,
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
        out, final, _ = operator(*tensors, dt_softplus, reverse, chunk_size, wants_gradient(tensors))
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
        A function with the signature of :func:`custom_networks.ops.causal_conv1d` without its states.
    """
    operator = register(
        f"{backend}_causal_conv1d",
        "Tensor x, Tensor weight, Tensor? bias",
        "bool silu, bool reverse",
        lambda _, x, *rest: [x.new_empty(x.shape)],
        forward,
        backward,
        results=1,
        kept=0,
    )

    def causal_conv1d(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, reverse: bool = False
    ) -> Tensor:
        return _like(x, operator(x.transpose(1, 2), weight, bias, activation is not None, reverse))

    return causal_conv1d


def register(
    name: str,
    tensors: str,
    flags: str,
    fake: Callable,
    forward: Callable,
    backward: Callable,
    results: int,
    kept: int,
) -> Callable:
    """Registers ``custom_networks::<name>`` and its backward operator.

    The lower interface of ``torch.library`` is used: its ``custom_op`` imports the compiler on the first call, which
    takes more than a second.

    Args:
        name: Name of the operator.
        tensors: Its tensors, as in an operator schema; the first is never absent.
        flags: Its other arguments but the last, ``bool save_states``, which is there if anything is kept.
        fake: ``(save_states, *tensors, *flags)`` to a list of empty tensors, as the outputs will be.
        forward: ``(*tensors, *flags, save_states)`` to the results and, behind them, what is kept for ``backward``.
        backward: ``(*gradients of the results, *tensors, *kept, *flags)`` to gradients, None if absent.
        results: Number of outputs that have gradients.
        kept: Number of outputs after these. All are empty without ``save_states``.

    Returns:
        The operator.
    """
    count = tensors.count(",") + 1
    flags = f", {flags}" if flags else ""
    switch = ", bool save_states" if kept else ""

    def run(*arguments: object) -> Tensor | tuple[Tensor, ...]:
        with torch.autocast(arguments[0].device.type, enabled=False):
            return forward(*arguments)

    def run_back(*arguments: object) -> list[Tensor]:
        gradients, inputs = arguments[:results], arguments[results : results + count]
        states, settings = arguments[results + count : results + count + kept], arguments[results + count + kept :]
        if inputs[0].numel() == 0:
            return [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs if x is not None]
        with torch.autocast(inputs[0].device.type, enabled=False):
            if any(g is None for g in gradients):
                like = fake(False, *inputs, *settings)
                gradients = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=False)]
            if kept and states[0].numel() == 0:
                states = forward(*inputs, *settings, True)[results:]
            found = backward(*gradients, *inputs, *states, *settings)
        return [gradient for gradient in found if gradient is not None]

    def run_fake(*arguments: object) -> Tensor | tuple[Tensor, ...]:
        made = fake(arguments[-1], *arguments[:-1]) if kept else fake(False, *arguments)
        return made[0] if results + kept == 1 else tuple(made)

    def run_fake_back(*arguments: object) -> list[Tensor]:
        return [x.new_empty(x.shape) for x in arguments[results : results + count] if x is not None]

    def keep(ctx: object, inputs: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        # Zeros of the size of what is kept, which has no gradient, would be made otherwise.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:count], *(output[results:] if kept else ()))
        ctx.settings = inputs[count:-1] if kept else inputs[count:]

    def differentiate(ctx: object, *gradients: Tensor | None) -> tuple:
        saved = ctx.saved_tensors
        found = iter(operator_back(*gradients[:results], *saved, *ctx.settings))
        tail = len(ctx.settings) + bool(kept)
        return *(None if x is None else next(found) for x in saved[:count]), *(None for _ in range(tail))

    def refuse(ctx: object, *gradients: object) -> tuple:
        raise RuntimeError(f"{name} has no second derivative; set_backend('reference') computes one, slowly")

    outputs = ", ".join(["Tensor"] * (results + kept))
    incoming = ", ".join(f"Tensor? grad_{i}" for i in range(results))
    saved = "".join(f", Tensor kept_{i}" for i in range(kept))
    operator = _define(f"{name}({tensors}{flags}{switch}) -> ({outputs})", run, run_fake)
    operator_back = _define(
        f"{name}_backward({incoming}, {tensors}{saved}{flags}) -> Tensor[]", run_back, run_fake_back
    )
    torch.library.register_autograd(f"custom_networks::{name}", differentiate, setup_context=keep, lib=_LIBRARY)
    torch.library.register_autograd(f"custom_networks::{name}_backward", refuse, lib=_LIBRARY)
    return operator


def _define(schema: str, run: Callable, fake: Callable) -> Callable:
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"custom_networks::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.custom_networks, name).default


def wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    """Whether autograd will ask for a gradient of any of these; not while a program is exported."""
    if torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return False
    return any(x is not None and x.requires_grad for x in tensors)


def _like(x: Tensor, rows: Tensor) -> Tensor:
    """(B, L, D) rows as (B, D, L) in the memory order of ``x``."""
    out = rows.transpose(1, 2)
    return out if is_channel_last(x) else out.contiguous()
