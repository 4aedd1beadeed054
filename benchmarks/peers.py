"""The implementations that are compared: the project's backends, published loops written anew, installed packages.

A peer takes the tensors of :mod:`benchmarks.cases` by name and returns the output. Packages are imported when asked
for; what is not installed is left out. Nothing of them is copied.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.ops.backend import availability


@dataclass(frozen=True)
class Peer:
    """One implementation of an operator, and the sizes up to which it is worth waiting for.

    ``largest`` bounds the elements of the full state tensor (B, L, D, N) that it holds; ``longest_training`` bounds L
    where the backward pass takes time quadratic in it.
    """

    name: str
    run: Callable[..., Tensor]
    largest: float = float("inf")
    longest_training: float = float("inf")


def scan_peers() -> Iterator[Peer]:
    """Selective scans."""
    for name, module in _backends():
        run = _flags(module.selective_scan, delta_softplus=True)
        yield Peer(name, run, longest_training=4000 if name == "reference" else float("inf"))
    yield Peer("published loop", published_loop, largest=1e8, longest_training=500)
    if (pscan := _installed("mambapy.pscan", "pscan")) is not None:
        yield Peer("mamba.py pscan", lambda **tensors: parallel_scan(pscan, **tensors), largest=1.5e8)


def ssd_peers() -> Iterator[Peer]:
    """State-space dual scans."""
    for name, module in _backends():
        run = _flags(module.ssd_scan, chunk_size=64, dt_softplus=True)
        yield Peer(name, run, longest_training=4000 if name == "reference" else float("inf"))
    for chunk in (64, 256):
        yield Peer(f"published chunks of {chunk}", _flags(published_chunks, chunk=chunk))


def conv_peers() -> Iterator[Peer]:
    """Causal convolutions. ``copy`` is no convolution: it is the floor."""
    for name, module in _backends():
        yield Peer(name, _flags(module.causal_conv1d, activation="silu"))
    yield Peer("F.conv1d", grouped_convolution)


def published_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """The published reference in PyTorch: decays and inputs of all steps first, then a loop that takes slices."""
    step = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    gain = torch.einsum("bdl,bnl,bdl->bdln", step, B[:, 0], u)
    state = torch.zeros_like(decay[:, :, 0])
    outputs = []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + gain[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, 0, :, t]))
    return (torch.stack(outputs, dim=2) + D[:, None] * u) * F.silu(z)


def parallel_scan(
    pscan: Callable,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> Tensor:
    """A block's worth of work around the parallel scan of the package mamba.py, in its layout (B, L, D, N)."""
    rows, gate = u.transpose(1, 2), z.transpose(1, 2)
    step = F.softplus(delta.transpose(1, 2) + delta_bias)
    states = pscan(torch.exp(step[..., None] * A), (step * rows)[..., None] * B[:, 0].transpose(1, 2)[:, :, None])
    y = (states @ C[:, 0].transpose(1, 2)[..., None]).squeeze(3) + D * rows
    return (y * F.silu(gate)).transpose(1, 2)


def published_chunks(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, chunk: int
) -> Tensor:
    """The published chunked form in PyTorch: B and C repeated to all heads, chunk states through a decay matrix."""
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
    """PyTorch's grouped convolution, padded and cut."""
    width = weight.shape[1]
    return F.silu(F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=x.shape[1])[..., : x.shape[2]])


def _backends() -> Iterator[tuple[str, object]]:
    for name in ("native", "torch", "reference"):
        if availability(name)[0]:
            yield name, importlib.import_module(f"custom_networks.ops._{name}")


def _flags(function: Callable[..., Tensor], **flags: object) -> Callable[..., Tensor]:
    return lambda **tensors: function(**tensors, **flags)


def _installed(module: str, name: str) -> Callable | None:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        return None
