"""The implementations that are compared: the project's backends, published loops written anew, installed packages.

A peer takes the tensors of :mod:`benchmarks.cases` by name and returns the output. Packages are imported when asked
for, and a record says which are absent. Nothing of them is copied.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch.nn.functional as F
from torch import Tensor

from benchmarks.published import chunked_ssd, grouped_convolution, reference_loop, scan_by, token_loop
from custom_networks.ops.backend import availability


@dataclass(frozen=True)
class Peer:
    """One implementation of an operator, and the sizes up to which it is worth waiting for.

    ``largest`` bounds the elements of the full state tensor (B, L, D, N) that it holds; ``longest_training`` bounds L
    where the backward pass takes time quadratic in it. ``layout`` is the memory order that it gets for free:
    ``channel-last`` or ``time-last``. ``absent`` says why there is nothing to run.
    """

    name: str
    run: Callable[..., Tensor] | None
    largest: float = float("inf")
    longest_training: float = float("inf")
    layout: str = "channel-last"
    absent: str = ""


def scan_peers() -> Iterator[Peer]:
    """Selective scans."""
    for name, module in _backends():
        run = _flags(module.selective_scan, delta_softplus=True)
        yield Peer(name, run, longest_training=4000 if name == "reference" else float("inf"))
    yield Peer("selective_scan_ref loop", reference_loop, largest=3e8, longest_training=500, layout="time-last")
    yield Peer("minimal loop", token_loop, largest=3e8, longest_training=500)

    (pscan, block), absent = _installed("mambapy", "mambapy.pscan:pscan", "mambapy.mamba:MambaBlock")
    if absent:
        yield Peer("mamba.py", None, absent=absent)
    else:
        yield Peer("mamba.py pscan", lambda **tensors: scan_by(pscan, **tensors), largest=1.5e8)
        run = _mambapy_sequential(block)
        yield Peer("mamba.py sequential", run, largest=3e8, longest_training=500)

    (scan,), absent = _installed("transformers", "transformers.models.mamba.modeling_mamba:mamba_selective_scan")
    if absent:
        yield Peer("transformers", None, absent=absent)
    else:
        run = _transformers_scan(scan)
        yield Peer("transformers", run, largest=3e8, longest_training=500, layout="time-last")
        if pscan is not None:
            run = _transformers_scan(scan, use_mambapy=True)
            yield Peer("transformers, mamba.py", run, largest=1.5e8, layout="time-last")


def ssd_peers() -> Iterator[Peer]:
    """State-space dual scans."""
    for name, module in _backends():
        run = _flags(module.ssd_scan, chunk_size=64, dt_softplus=True)
        yield Peer(name, run, longest_training=4000 if name == "reference" else float("inf"))
    for chunk in (64, 256):
        yield Peer(f"ssd_minimal, chunk {chunk}", _flags(chunked_ssd, chunk=chunk))
    (scan,), absent = _installed("transformers", "transformers.models.mamba2.modeling_mamba2:mamba2_chunk_scan")
    if absent:
        yield Peer("transformers", None, absent=absent)
        return
    for chunk in (64, 256):
        yield Peer(f"transformers, chunk {chunk}", _transformers_ssd(scan, chunk))


def conv_peers() -> Iterator[Peer]:
    """Causal convolutions."""
    for name, module in _backends():
        yield Peer(name, _flags(module.causal_conv1d, activation="silu"))
    yield Peer("causal_conv1d_ref, own layout", grouped_convolution, layout="time-last")
    yield Peer("causal_conv1d_ref, channel-last", lambda **tensors: _from_channel_last(**tensors))


def _from_channel_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Into the published operator's layout and back, as linear layers around it ask for."""
    return grouped_convolution(x.contiguous(), weight, bias).mT.contiguous().mT


def _mambapy_sequential(block: type) -> Callable[..., Tensor]:
    def run(u: Tensor, delta: Tensor, z: Tensor, **rest: Tensor) -> Tensor:
        rows, steps = u.transpose(1, 2), F.softplus(delta.transpose(1, 2) + rest["delta_bias"])
        B, C = rest["B"][:, 0].transpose(1, 2), rest["C"][:, 0].transpose(1, 2)
        config = SimpleNamespace(d_inner=u.shape[1], d_state=B.shape[2])
        y = block.selective_scan_seq(SimpleNamespace(config=config), rows, steps, rest["A"], B, C, rest["D"])
        return (y * F.silu(z.transpose(1, 2))).transpose(1, 2)

    return run


def _transformers_scan(scan: Callable, **flags: bool) -> Callable[..., Tensor]:
    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **rest: Tensor) -> Tensor:
        return scan(u, delta, A, B[:, 0], C[:, 0], **rest, delta_softplus=True, **flags)

    return run


def _transformers_ssd(scan: Callable, chunk: int) -> Callable[..., Tensor]:
    def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
        return scan(x, dt, A, B, C, chunk, D=D, dt_bias=dt_bias, dt_softplus=True)

    return run


def _backends() -> Iterator[tuple[str, object]]:
    for name in ("native", "torch", "reference"):
        if availability(name)[0]:
            yield name, importlib.import_module(f"custom_networks.ops._{name}")


def _flags(function: Callable[..., Tensor], **flags: object) -> Callable[..., Tensor]:
    return lambda **tensors: function(**tensors, **flags)


def _installed(package: str, *names: str) -> tuple[list[Callable | None], str]:
    """The named things ("module:name") of an optional package, or Nones and why it cannot take part."""
    found = []
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            found.append(getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == package
            return [None] * len(names), "not installed" if missing else f"{error}"
    return found, ""
