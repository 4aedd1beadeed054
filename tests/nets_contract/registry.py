"""Small instances of every network family, for the contract that all must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.nets.umamba2 import UMamba2


@dataclass
class Entry:
    """A network under contract: how to build it, one input, and the shapes of its outputs."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple]
    output_shapes: list[tuple[int, ...]]


def segmentation(name: str, network: type, spatial_dims: int, **extra) -> Entry:
    """A three-stage segmentation network on a small odd-shaped image."""
    size = [8, 12, 16][3 - spatial_dims :]
    blocks = "n_blocks_per_stage" if network is UMamba2 else "n_conv_per_stage"

    def build() -> nn.Module:
        return network(
            spatial_dims=spatial_dims,
            in_channels=2,
            out_channels=3,
            features_per_stage=[6, 8, 24],
            kernel_sizes=[[3] * spatial_dims] * 3,
            strides=[[1] * spatial_dims, [2] * spatial_dims, [2] * spatial_dims],
            n_conv_per_stage_decoder=[1, 1],
            deep_supervision=True,
            **{blocks: [1, 1, 1]},
            **extra,
        )

    def inputs() -> tuple:
        image = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))
        if "click" in extra.get("bottleneck", ""):
            return image, (torch.tensor([[[1.0, 2.0, 3.0]]] * 2), torch.tensor([[0], [-1]]))
        return (image,)

    return Entry(name, build, inputs, [(2, 3, *size), (2, 3, *(s // 2 for s in size))])


ENTRIES = [
    segmentation("umamba_bot_2d", UMambaBot, 2),
    segmentation("umamba_bot_3d", UMambaBot, 3),
    segmentation("umamba_bot_3d_mamba2", UMambaBot, 3, mixer="mamba2"),
    segmentation("umamba_bot_3d_none", UMambaBot, 3, mixer="none"),
    segmentation("umamba_enc_2d", UMambaEnc, 2, input_size=[12, 16]),
    segmentation("umamba_enc_3d", UMambaEnc, 3, input_size=[8, 12, 16]),
    segmentation("umamba_enc_3d_none", UMambaEnc, 3, input_size=[8, 12, 16], mixer="none"),
    segmentation("umamba2_mamba", UMamba2, 3, bottleneck="mamba"),
    segmentation("umamba2", UMamba2, 3, bottleneck="mamba2"),
    segmentation("umamba2_pe", UMamba2, 3, bottleneck="mamba2_pe"),
    segmentation("umamba2_click", UMamba2, 3, bottleneck="mamba2_click", patch_size=[8, 12, 16]),
    segmentation("umamba2_cross_click2", UMamba2, 3, bottleneck="mamba2_cross_click2", patch_size=[8, 12, 16]),
]
