"""Shapes that the bundles meet, and random inputs for them with step sizes as after initialization."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Sizes of one timed call: B, L, D, N (scan); B, L, H, P, N (ssd); B, L, D (conv); B, L, C (block)."""

    name: str
    sizes: tuple[int, ...]
    meaning: str
    quick: bool = False
    both: bool = False  # the bundle scans it in both directions


SCAN = (
    Shape("a", (2, 392, 640, 16), "U-Mamba bottleneck", quick=True),
    Shape("a2", (2, 210, 640, 16), "U-Mamba bottleneck, CT"),
    Shape("ch", (2, 320, 420, 16), "U-Mamba-Enc, channels as tokens"),
    Shape("tail", (2, 393, 840, 16), "neither L nor D fits vectors and chunks"),
    Shape("c", (1, 1000, 768, 16), "brain, patches of 16", quick=True, both=True),
    Shape("b1", (1, 3136, 768, 16), "echo, patches only", quick=True, both=True),
    Shape("b2", (1, 6700, 768, 16), "echo, with global tokens"),
    Shape("b2 of 4", (4, 6700, 768, 16), "echo, with global tokens, batch of 4"),
    Shape("p4", (1, 33635, 384, 16), "echo, patches of 4"),
    Shape("d", (1, 64000, 768, 16), "brain, patches of 4", both=True),
    Shape("dec", (1, 64001, 384, 16), "brain, decoder of patches of 4", both=True),
    Shape("enc", (1, 215040, 64, 16), "U-Mamba-Enc, an eighth of the first stage"),
    Shape("enc long", (1, 1720320, 64, 16), "U-Mamba-Enc, first stage"),
)
SSD = (
    Shape("s1", (2, 392, 8, 80, 32), "U-Mamba2 bottleneck", quick=True),
    Shape("s2", (2, 392, 10, 64, 64), "generic"),
    Shape("s3", (1, 4096, 12, 64, 64), "long"),
    Shape("s4", (1, 4096, 12, 64, 128), "long, large state"),
    Shape("s5", (1, 6700, 8, 96, 128), "echo with Mamba-2"),
)
CONV = (
    Shape("v1", (2, 392, 640), "U-Mamba bottleneck", quick=True),
    Shape("v2", (1, 6700, 768), "echo", quick=True),
    Shape("v3", (1, 64000, 768), "brain, patches of 4"),
)
BLOCK = (
    Shape("k1", (2, 392, 320), "U-Mamba bottleneck", quick=True),
    Shape("k2", (1, 3136, 384), "echo, patches only"),
    Shape("k3", (1, 6700, 384), "echo, with global tokens"),
)


def step_size_bias(count: int) -> Tensor:
    """Bias whose softplus is log-uniform in [1e-3, 1e-1]."""
    size = torch.exp(torch.rand(count) * (math.log(1e-1) - math.log(1e-3)) + math.log(1e-3))
    return size + torch.log(-torch.expm1(-size))


def scan_inputs(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Tensors of a selective scan by argument name, channel-last in memory; parameters are float32 at least."""
    batch, length, channels, states = sizes
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def rows(width: int) -> Tensor:
        return torch.randn(batch, length, width).to(dtype).transpose(1, 2)

    return {
        "u": rows(channels),
        "delta": rows(channels) / 2,
        "A": -torch.arange(1, states + 1, dtype=wide).repeat(channels, 1),
        "B": rows(states)[:, None],
        "C": rows(states)[:, None],
        "D": torch.randn(channels, dtype=wide),
        "z": rows(channels),
        "delta_bias": step_size_bias(channels).to(wide),
    }


def ssd_inputs(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Tensors of an SSD scan by argument name, one group."""
    batch, length, heads, width, states = sizes
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, length, *shape).to(dtype)

    return {
        "x": normal(heads, width),
        "dt": normal(heads).to(wide) / 2,
        "A": -torch.rand(heads, dtype=wide) * 15 - 1,
        "B": normal(1, states),
        "C": normal(1, states),
        "D": torch.randn(heads, dtype=wide),
        "dt_bias": step_size_bias(heads).to(wide),
    }


def conv_inputs(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Tensors of a causal convolution of width 4 by argument name, channel-last in memory."""
    batch, length, channels = sizes
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "x": torch.randn(batch, length, channels).to(dtype).transpose(1, 2),
        "weight": torch.randn(channels, 4, dtype=wide) / 2,
        "bias": torch.randn(channels, dtype=wide),
    }
