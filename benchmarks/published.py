"""Published ways to compute the scans in PyTorch, written anew from their descriptions, as peers.

All take the tensors of :mod:`benchmarks.cases` by name, with one group.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def reference_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """As mamba-ssm's ``selective_scan_ref``: decays and inputs of all steps first, then a loop that takes slices."""
    step = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    gain = torch.einsum("bdl,bnl,bdl->bdln", step, B[:, 0], u)
    state = torch.zeros_like(decay[:, :, 0])
    outputs = []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + gain[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, 0, :, t]))
    return (torch.stack(outputs, dim=2) + D[:, None] * u) * F.silu(z)


def token_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """As in minimal single-file implementations: the same loop over tensors (B, L, D, N), a token a row."""
    rows, gate, inside, outside = (x.transpose(1, 2) for x in (u, z, B[:, 0], C[:, 0]))
    step = F.softplus(delta.transpose(1, 2) + delta_bias)
    decay = torch.exp(torch.einsum("bld,dn->bldn", step, A))
    gain = torch.einsum("bld,bln,bld->bldn", step, inside, rows)
    state = torch.zeros_like(decay[:, 0])
    outputs = []
    for t in range(rows.shape[1]):
        state = decay[:, t] * state + gain[:, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, outside[:, t]))
    return ((torch.stack(outputs, dim=1) + D * rows) * F.silu(gate)).transpose(1, 2)


def scan_by(
    states_of: Callable[[Tensor, Tensor], Tensor],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """A selective scan around a function of decays and inputs (B, L, D, N) that gives the states of all steps."""
    rows, gate = u.transpose(1, 2), z.transpose(1, 2)
    step = F.softplus(delta.transpose(1, 2) + delta_bias)
    states = states_of(torch.exp(step[..., None] * A), (step * rows)[..., None] * B[:, 0].transpose(1, 2)[:, :, None])
    y = (states @ C[:, 0].transpose(1, 2)[..., None]).squeeze(3) + D * rows
    return (y * F.silu(gate)).transpose(1, 2)


def chunked_ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, chunk: int
) -> Tensor:
    """The minimal listing of the Mamba-2 paper: B and C repeated to all heads, chunk states through a decay matrix."""
    length, heads = x.shape[1], x.shape[2]
    step = F.softplus(dt + dt_bias)
    missing = -length % chunk

    def chunks(tensor: Tensor) -> Tensor:
        padding = (0, 0) * (tensor.dim() - 2) + (0, missing)
        return F.pad(tensor, padding).unflatten(1, (-1, chunk))

    log_decay = chunks(step * A).permute(0, 3, 1, 2)
    X = chunks(step[..., None] * x)
    B, C = (chunks(v.repeat_interleave(heads // v.shape[2], dim=2)) for v in (B, C))
    along = log_decay.cumsum(-1)
    inside = torch.exp(_differences(log_decay))
    y = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, inside, X)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, torch.exp(along[..., -1:] - along), X)
    states = F.pad(states, (0, 0) * 3 + (1, 0))
    across = torch.exp(_differences(F.pad(along[..., -1], (1, 0))))
    entering = torch.einsum("bhzc,bchpn->bzhpn", across, states)[:, :-1]
    y = y + torch.einsum("bclhn,bchpn,bhcl->bclhp", C, entering, torch.exp(along))
    return y.flatten(1, 2)[:, :length] + D[:, None] * x


def _differences(steps: Tensor) -> Tensor:
    """Sums of ``steps`` over (j, i] as an (i, j) matrix, minus infinity above the diagonal."""
    size = steps.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool, device=steps.device)
    spread = steps[..., None].expand(*steps.shape, size).masked_fill(~later.tril(-1), 0)
    return spread.cumsum(-2).masked_fill(~later.tril(), float("-inf"))


def grouped_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ``causal_conv1d_ref``: PyTorch's grouped convolution of (B, D, L), padded and cut."""
    width = weight.shape[1]
    return F.silu(F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=x.shape[1])[..., : x.shape[2]])
