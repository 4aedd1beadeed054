"""The selective scan in both directions at once."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.ops._checks import check_floating, check_not_empty, check_rank, check_shape
from custom_networks.ops.backend import resolve_beside
from custom_networks.ops.functional import selective_scan


def bidirectional_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Two selective scans, the first forwards and the second in reverse.

    Operands that differ between the directions have a leading axis of two; index 0 is scanned forwards, index 1 in
    reverse. Operands without it are shared. The backend ``triton`` runs both directions in one launch.

    Args:
        u: Input, (2, B, D, L) or (B, D, L).
        delta: Step sizes before bias and softplus, in one of the shapes of ``u``.
        A: State matrix, (2, D, N) or (D, N).
        B: Input matrix, (2, B, N, L), (2, B, G, N, L) or shared (B, N, L). Four axes are never a shared matrix with
            groups, which is given as five by ``expand``.
        C: Output matrix, in one of the shapes of ``B``.
        D: Weight of the skip connection, (2, D) or (D,).
        z: Gate, in one of the shapes of ``u``.
        delta_bias: Added to ``delta``, (2, D) or (D,).
        delta_softplus: Whether ``delta`` goes through softplus.

    Returns:
        Both outputs in the order of their positions, not of time, (2, B, D, L), in the dtype of ``u``.

    Raises:
        ValueError: A shape does not fit, or is empty; tensors are on different devices.
        TypeError: A tensor is not of real floating dtype.

    Source: Vision Mamba, Zhu et al. 2024, section 3.3. Deviation: nothing is flipped; the outputs are not summed.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    check_floating(**given)
    both = {name: _in_both(name, x) for name, x in given.items()}
    _check(**both)
    run = resolve_beside("bidirectional_selective_scan", "selective_scan", u.device.type)
    if run is not None:
        return run(**both, delta_softplus=delta_softplus)
    ends = [{name: None if x is None else x[i] for name, x in both.items()} for i in range(2)]
    return torch.stack(
        [selective_scan(**end, delta_softplus=delta_softplus, reverse=i == 1) for i, end in enumerate(ends)]
    )


# Axes of an operand that both directions share.
_AXES = {"u": 3, "delta": 3, "A": 2, "B": 3, "C": 3, "D": 1, "z": 3, "delta_bias": 1}


def _in_both(name: str, x: Tensor | None) -> Tensor | None:
    """``x`` with the leading axis of directions, expanded if it is shared; B and C with an axis of groups."""
    if x is None:
        return None
    if x.dim() <= _AXES[name]:
        x = x.expand(2, *x.shape)
    elif x.shape[0] != 2:
        raise ValueError(f"{name} must have {_AXES[name]} axes or a leading axis of 2, got shape {tuple(x.shape)}")
    return x.unsqueeze(2) if name in "BC" and x.dim() == 4 else x


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    check_rank("u", u, 4, "(2, B, D, L)")
    _, batch, channels, length = u.shape
    check_rank("A", A, 3, "(2, D, N)")
    states = A.shape[2]
    check_shape("A", A, (2, channels, states), "(2, D, N)")
    for name, x in (("delta", delta), ("z", z)):
        check_shape(name, x, u.shape, "(2, B, D, L)")
    for name, x in (("D", D), ("delta_bias", delta_bias)):
        check_shape(name, x, (2, channels), "(2, D)")
    check_not_empty(D=channels, L=length, N=states)
    check_rank("B", B, 5, "(2, B, G, N, L)")
    groups = B.shape[2]
    for name, x in (("B", B), ("C", C)):
        check_shape(name, x, (2, batch, groups, states, length), "(2, B, G, N, L)")
    if groups == 0 or channels % groups:
        raise ValueError(f"B: {groups} groups do not divide {channels} channels")
