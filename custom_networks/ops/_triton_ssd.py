"""The state-space dual scan on Triton kernels.

Matrix products are exact to float32 (three TF32 products for one). ``torch.set_float32_matmul_precision("high")``, or
``"medium"``, allows a single one, as it does for PyTorch's own products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._triton import CHUNK
from custom_networks.ops._triton_launch import as_float, dense_rows, launch, power_of_two, processors
from custom_networks.ops._triton_ssd_backward import row_gradients, step_gradients
from custom_networks.ops._triton_ssd_forward import inner_products, outer_products, outputs, pass_states

_PASSED, _AHEAD = 256, 8


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, L, H, P), final state (B, H, P, N), states entering each chunk; ``chunk_size`` plays no part."""
    x, B, C, z = (dense_rows(v) for v in (x, B, C, z))
    dt, A, dt_bias, initial_states = (as_float(v) for v in (dt, A, dt_bias, initial_states))
    (batch, length, heads, width), (groups, states_) = x.shape, B.shape[2:]
    chunks, constants = -(-length // CHUNK), _constants(x, B, reverse, dt_softplus)
    products = _multiply(B, C, constants)
    final = torch.empty((batch, heads, width, states_), dtype=torch.float32, device=x.device)
    states = _gain_and_pass(x, None, dt, B, A, dt_bias, initial_states, final, constants, adjoint=False)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    launch(
        outputs,
        batch * chunks * heads,
        x.device,
        *(x, z, dt, C, A, _skip(D, x), dt_bias, products, states, out),
        *(*x.stride()[:3], *_strides(z), *C.stride()[:3]),
        *(length, heads, heads // groups, chunks, width, states_),
        **constants,
        num_warps=_warps(constants),
    )
    return out, final, states if save_states else states.new_empty(0)


def backward(
    grad_out: Tensor,
    grad_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    states: Tensor,
    dt_softplus: bool,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors; None for what is absent."""
    tensors = x, dt, A, B, C, D, z, dt_bias, initial_states
    grad_out, x, B, C, z = (dense_rows(v) for v in (grad_out, x, B, C, z))
    dt, A, dt_bias, grad_final = (as_float(v) for v in (dt, A, dt_bias, grad_final))
    (batch, length, heads, width), (groups, states_) = x.shape, B.shape[2:]
    chunks, constants = -(-length // CHUNK), _constants(x, B, reverse, dt_softplus)
    skip, per_group = _skip(D, x), heads // groups

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=x.device)

    products = _multiply(B, C, constants)
    dinitial = torch.empty_like(grad_final)
    adjoints = _gain_and_pass(grad_out, z, dt, C, A, dt_bias, grad_final, dinitial, constants, adjoint=True)
    strides = *grad_out.stride()[:3], *x.stride()[:3], *_strides(z), *B.stride()[:3], *C.stride()[:3]
    sizes = length, heads, per_group, chunks, width, states_

    dx, dz = (None if v is None else torch.empty(v.shape, dtype=v.dtype, device=v.device) for v in (x, z))
    ddt, dA, dD, dbias = empty(*dt.shape), empty(batch, chunks, heads), empty(batch, chunks, heads, width), None
    dbias = None if dt_bias is None else empty(batch, chunks, heads)
    launch(
        step_gradients,
        batch * chunks * heads,
        x.device,
        *(grad_out, x, z, dt, B, C, A, skip, dt_bias, products, states, adjoints, dx, dz, ddt, dA, dD, dbias),
        *(*strides, *sizes),
        **constants,
        num_warps=_warps(constants),
    )
    pieces = -(-states_ // constants["STATES"])
    # Heads of a group one after the other, as long as there are programs for every processor.
    parts = min(per_group, -(-2 * processors(x.device) // (batch * chunks * groups * pieces)))
    repeats = -(-per_group // parts)
    parts = -(-per_group // repeats)
    dB, dC = empty(parts, *B.shape), empty(parts, *C.shape)
    launch(
        row_gradients,
        batch * chunks * groups * parts * pieces,
        x.device,
        *(grad_out, x, z, dt, B, C, A, dt_bias, states, adjoints, dB, dC),
        *(*strides, *sizes, pieces, parts, repeats, batch),
        **constants,
        num_warps=_warps(constants),
    )
    dA, dB, dC = dA.sum((0, 1)), dB.sum(0), dC.sum(0)
    dD = None if D is None else dD.sum((0, 1) if D.dim() == 2 else (0, 1, 3))
    dbias = None if dt_bias is None else dbias.sum((0, 1))
    dinitial = None if initial_states is None else dinitial
    found = dx, ddt, dA, dB, dC, dD, dz, dbias, dinitial
    return tuple(None if v is None else g.to(v.dtype).contiguous() for v, g in zip(tensors, found, strict=True))


def _constants(x: Tensor, B: Tensor, reverse: bool, softplus: bool) -> dict[str, object]:
    """What kernels are compiled for: tiles of at least 16, which is the least that tensor cores take."""
    return {
        "Q": CHUNK,
        "WIDTH": max(16, power_of_two(x.shape[3])),
        "STATES": min(64, max(16, power_of_two(B.shape[3]))),
        "DIRECTION": int(reverse),
        "SOFTPLUS": softplus,
        "PRECISION": "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
    }


def _warps(constants: dict[str, object]) -> int:
    return 8 if constants["WIDTH"] > 64 else 4


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if x is None else x.stride()[:3]


def _skip(D: Tensor | None, x: Tensor) -> Tensor | None:
    """The weight of the skip connection as (H, P)."""
    return None if D is None else as_float(D.reshape(D.shape[0], -1).expand(x.shape[2:]))


def _multiply(B: Tensor, C: Tensor, constants: dict[str, object]) -> Tensor:
    """The products of C and B within each chunk, (B, chunks, G, Q, Q)."""
    batch, length, groups, states = B.shape
    chunks = -(-length // CHUNK)
    products = torch.empty((batch, chunks, groups, CHUNK, CHUNK), dtype=torch.float32, device=B.device)
    used = {name: constants[name] for name in ("Q", "STATES", "DIRECTION", "PRECISION")}
    launch(
        inner_products,
        batch * chunks * groups,
        B.device,
        *(B, C, products, *B.stride()[:3], *C.stride()[:3], length, groups, chunks, states),
        **used,
        num_warps=4,
    )
    return products


def _gain_and_pass(
    x: Tensor,
    gate: Tensor | None,
    dt: Tensor,
    rows: Tensor,
    A: Tensor,
    dt_bias: Tensor | None,
    initial: Tensor | None,
    final: Tensor,
    constants: dict[str, object],
    adjoint: bool,
) -> Tensor:
    """States that enter the chunks, or adjoints of those that leave them, (B, chunks, H, P, N); fills ``final``."""
    (batch, length, heads, width), (groups, states_) = x.shape, rows.shape[2:]
    chunks, pieces = -(-length // CHUNK), -(-states_ // constants["STATES"])
    states = torch.empty((batch, chunks, heads, width, states_), dtype=torch.float32, device=x.device)
    totals = torch.empty((batch, chunks, heads), dtype=torch.float32, device=x.device)
    launch(
        outer_products,
        batch * chunks * heads * pieces,
        x.device,
        *(x, gate, dt, rows, A, dt_bias, states, totals, *x.stride()[:3], *_strides(gate), *rows.stride()[:3]),
        *(length, heads, heads // groups, chunks, width, states_, pieces),
        **constants,
        ADJOINT=adjoint,
        num_warps=_warps(constants),
    )
    blocks = -(-width * states_ // _PASSED)
    launch(
        pass_states,
        batch * heads * blocks,
        x.device,
        *(states, totals, initial, final, heads, chunks, width * states_, blocks),
        BACK=adjoint,
        SIZE=_PASSED,
        AHEAD=_AHEAD,
        num_warps=4,
    )
    return states
