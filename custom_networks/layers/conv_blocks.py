"""Convolution blocks of the U-shaped segmentation networks, for two and three spatial dimensions.

Sources: residual U-Nets of nnU-Net (Isensee et al. 2021, 2024) and U-Mamba (Ma et al. 2024, section 2). Normalization
is affine instance normalization (eps 1e-5), activation is LeakyReLU with slope 0.01. Input and output of every block
are (B, channels, *spatial).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.norm import instance_norm

NEGATIVE_SLOPE = 1e-2

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def activation() -> nn.Module:
    """LeakyReLU of the U-Mamba networks."""
    return nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


class ConvNorm(nn.Module):
    """Convolution with "same" padding, then instance normalization, then (optionally) LeakyReLU."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | int = 1,
        bias: bool = True,
        activate: bool = True,
    ):
        super().__init__()
        padding = tuple((k - 1) // 2 for k in kernel_size)
        self.conv = CONV[spatial_dims](in_channels, out_channels, tuple(kernel_size), stride, padding, bias=bias)
        self.norm = instance_norm(out_channels)
        self.activation = activation() if activate else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.activation(self.norm(self.conv(x)))


class ProjectionResidualBlock(nn.Module):
    """Residual block of U-Mamba: two convolutions, and always a 1x1 convolution on the shortcut.

    The shortcut has no normalization; both strides equal ``stride``. This is the block of the published code, which
    differs from the drawing in the paper.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | int = 1,
    ):
        super().__init__()
        conv, padding = CONV[spatial_dims], tuple(k // 2 for k in kernel_size)
        self.conv1 = conv(in_channels, out_channels, tuple(kernel_size), stride, padding)
        self.norm1 = instance_norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, tuple(kernel_size), 1, padding)
        self.norm2 = instance_norm(out_channels)
        self.shortcut = conv(in_channels, out_channels, 1, stride)
        self.activation = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        y = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResidualBlock(nn.Module):
    """Basic residual block of nnU-Net's residual encoder.

    The shortcut is the identity where nothing changes; otherwise average pooling by the stride (if any stride is not 1)
    and a bias-free 1x1 convolution with normalization (if the width changes).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.conv1 = ConvNorm(spatial_dims, in_channels, out_channels, kernel_size, stride, bias)
        self.conv2 = ConvNorm(spatial_dims, out_channels, out_channels, kernel_size, 1, bias, activate=False)
        self.activation = activation()
        strides = (stride,) * spatial_dims if isinstance(stride, int) else tuple(stride)
        pooled, projected = any(s != 1 for s in strides), in_channels != out_channels
        self.pool = AVERAGE_POOL[spatial_dims](strides, strides) if pooled else nn.Identity()
        self.projection = (
            ConvNorm(spatial_dims, in_channels, out_channels, (1,) * spatial_dims, bias=False, activate=False)
            if projected
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.activation(self.conv2(self.conv1(x)) + self.projection(self.pool(x)))


class NearestUpsample(nn.Module):
    """Nearest-neighbour interpolation by an integer factor, then a 1x1 convolution (decoder of U-Mamba)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(float(s) for s in scale)
        self.conv = CONV[spatial_dims](in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upsamples (B, in_channels, *spatial) to (B, out_channels, *(spatial * scale))."""
        return self.conv(F.interpolate(x, scale_factor=self.scale, mode="nearest"))


def initialize_convolutions(module: nn.Module) -> None:
    """Draws the weights of every 2-D and 3-D convolution anew (Kaiming normal for LeakyReLU 0.01) and zeroes biases."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for layer in module.modules():
        if isinstance(layer, kinds):
            nn.init.kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
