"""The state-space dual scan on Triton kernels.

Matrix products are exact to float32 (three TF32 products for one). ``torch.set_float32_matmul_precision("high")``, or
``"medium"``, allows a single one, as it does for PyTorch's own products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._triton import CHUNK
from custom_networks.ops._triton_launch import architecture, as_float, dense_rows, launch, power_of_two, processors
from custom_networks.ops._triton_ssd_backward import decay_gradients, input_gradients, output_gradients, row_gradients
from custom_networks.ops._triton_ssd_forward import inner_products, outer_products, outputs, pass_states

_PASSED, _AHEAD = 256, 8
_WARPS = 8


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
    wide = -(-width // constants["WIDTH"])
    products = _multiply(B, C, constants)
    final = torch.empty((batch, heads, width, states_), dtype=torch.float32, device=x.device)
    states = _gain_and_pass(x, None, dt, B, A, dt_bias, initial_states, final, constants, adjoint=False)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    launch(
        outputs,
        batch * chunks * heads * wide,
        x.device,
        *(x, z, dt, C, A, _skip(D, x), dt_bias, products, states, out),
        *(*x.stride()[:3], *_strides(z), *C.stride()[:3]),
        *(length, heads, heads // groups, chunks, width, states_, wide),
        **constants,
        **_options(x.device),
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

    wide, deep = -(-width // constants["WIDTH"]), -(-states_ // constants["STATES"])
    products = _multiply(B, C, constants)
    dinitial = torch.empty_like(grad_final)
    adjoints = _gain_and_pass(grad_out, z, dt, C, A, dt_bias, grad_final, dinitial, constants, adjoint=True)
    strides = *grad_out.stride()[:3], *x.stride()[:3], *_strides(z)
    sizes = length, heads, per_group, chunks, width, states_
    options = constants | _options(x.device)

    dx, dz = (None if v is None else torch.empty(v.shape, dtype=v.dtype, device=v.device) for v in (x, z))
    seen, given, owed = (empty(wide, *dt.shape) for _ in range(3))
    ddt, dA, dD = empty(*dt.shape), empty(batch, chunks, heads), empty(batch, chunks, heads, width)
    dbias = None if dt_bias is None else empty(batch, chunks, heads)
    pairs = empty(batch, chunks, heads, CHUNK, CHUNK)
    launch(
        output_gradients,
        batch * chunks * heads * wide,
        x.device,
        *(grad_out, x, z, dt, C, A, skip, dt_bias, products, states, dz, seen),
        *(*strides, *C.stride()[:3], *sizes, wide),
        **options,
    )
    launch(
        input_gradients,
        batch * chunks * heads * wide,
        x.device,
        *(grad_out, x, z, dt, B, A, skip, dt_bias, products, adjoints, dx, dD, given, owed),
        *(*strides, *B.stride()[:3], *sizes, wide),
        **options,
    )
    launch(
        decay_gradients,
        batch * chunks * heads,
        x.device,
        *(grad_out, x, z, dt, A, dt_bias, products, states, adjoints, seen, given, owed, pairs, ddt, dA, dbias),
        *(*strides, *sizes, wide),
        **{name: value for name, value in options.items() if name != "STATES"} | {"WIDTH": min(32, options["WIDTH"])},
    )
    # Heads of a group one after the other, as long as there are programs for every processor.
    parts = min(per_group, -(-2 * processors(x.device) // (batch * chunks * groups * deep)))
    repeats = -(-per_group // parts)
    parts = -(-per_group // repeats)
    dB, dC = empty(parts, *B.shape), empty(parts, *C.shape)
    for of_B, rows, gate, other, kept, drows in ((True, x, None, C, adjoints, dB), (False, grad_out, z, B, states, dC)):
        launch(
            row_gradients,
            batch * chunks * groups * parts * deep,
            x.device,
            *(rows, gate, dt, other, A, dt_bias, kept, pairs, drows),
            *(*rows.stride()[:3], *_strides(gate), *other.stride()[:3], *sizes, deep, parts, repeats),
            **options,
            OF_B=of_B,
        )
    dA, dB, dC = dA.sum((0, 1)), dB.sum(0), dC.sum(0)
    dD = None if D is None else dD.sum((0, 1) if D.dim() == 2 else (0, 1, 3))
    dbias = None if dt_bias is None else dbias.sum((0, 1))
    dinitial = None if initial_states is None else dinitial
    found = dx, ddt, dA, dB, dC, dD, dz, dbias, dinitial
    return tuple(None if v is None else g.to(v.dtype).contiguous() for v, g in zip(tensors, found, strict=True))


def _constants(x: Tensor, B: Tensor, reverse: bool, softplus: bool) -> dict[str, object]:
    """What kernels are compiled for.

    Tiles are at least 16 wide, which is the least that tensor cores take. Before Hopper, operands of products lie in
    registers, which hold smaller tiles.
    """
    width, states = (64, 64) if architecture(x.device) >= 9 else (16, 32)
    return {
        "Q": CHUNK,
        "WIDTH": min(width, max(16, power_of_two(x.shape[3]))),
        "STATES": min(states, max(16, power_of_two(B.shape[3]))),
        "DIRECTION": int(reverse),
        "SOFTPLUS": softplus,
        "PRECISION": "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
    }


def _options(device: torch.device) -> dict[str, int]:
    """Loads are not staged in shared memory, which the tiles fill. Before Hopper, no register may be saved."""
    return {"num_warps": _WARPS, "num_stages": 1} | ({} if architecture(device) >= 9 else {"maxnreg": 255})


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
        **_options(B.device),
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
    chunks, wide, deep = -(-length // CHUNK), -(-width // constants["WIDTH"]), -(-states_ // constants["STATES"])
    states = torch.empty((batch, chunks, heads, width, states_), dtype=torch.float32, device=x.device)
    totals = torch.empty((batch, chunks, heads), dtype=torch.float32, device=x.device)
    launch(
        outer_products,
        batch * chunks * heads * wide * deep,
        x.device,
        *(x, gate, dt, rows, A, dt_bias, states, totals, *x.stride()[:3], *_strides(gate), *rows.stride()[:3]),
        *(length, heads, heads // groups, chunks, width, states_, wide, deep),
        **constants,
        ADJOINT=adjoint,
        **_options(x.device),
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
