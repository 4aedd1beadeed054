"""Networks whose training step and inference are timed. To time another one, add an entry to ``NETWORKS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.nets.umamba2 import UMamba2
from custom_networks.nets.upernet import UPerNet
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE


@dataclass(frozen=True)
class Network:
    """A network on one batch.

    Attributes:
        name: For the records.
        meaning: Where the sizes come from.
        build: Makes the network with random weights.
        inputs: Makes the arguments of its forward pass.
        loss: Makes a scalar of what the forward pass returned; a mean of squares if absent.
        quick: Whether it is part of the short run.
        slow_loop: Whether the loop over time (backend ``reference``) would take minutes.
    """

    name: str
    meaning: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple]
    loss: Callable[[object], Tensor] | None = None
    quick: bool = False
    slow_loop: bool = False


HIPPOCAMPUS = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "features_per_stage": [32, 64, 128, 256],
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 3,
    "n_conv_per_stage_decoder": [2] * 3,
}
HIPPOCAMPUS_PATCH = [40, 56, 40]
ENDOSCOPY = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 8,
    "features_per_stage": [32, 64, 128, 256, 512, 512, 512],
    "kernel_sizes": [[3, 3]] * 7,
    "strides": [[1, 1]] + [[2, 2]] * 6,
    "n_conv_per_stage_decoder": [2] * 6,
}


def image(channels: int, *size: int, batch: int = 1) -> Callable[[], tuple]:
    """A maker of one random image batch."""
    return lambda: (torch.randn(batch, channels, *size),)


NETWORKS = (
    Network(
        "U-Mamba_Bot 3-D",
        "hippocampus plan, one patch",
        lambda: UMambaBot(**HIPPOCAMPUS, n_conv_per_stage=[2] * 4),
        image(1, *HIPPOCAMPUS_PATCH),
        quick=True,
    ),
    Network(
        "U-Mamba_Enc 3-D",
        "hippocampus plan, one patch: 89 600 tokens in the first stage",
        lambda: UMambaEnc(**HIPPOCAMPUS, n_conv_per_stage=[2] * 4, input_size=HIPPOCAMPUS_PATCH),
        image(1, *HIPPOCAMPUS_PATCH),
        quick=True,
        slow_loop=True,
    ),
    Network(
        "U-Mamba_Enc 2-D",
        "endoscopy plan, a quarter of a patch",
        lambda: UMambaEnc(**ENDOSCOPY, n_conv_per_stage=[2] * 7, input_size=[192, 320]),
        image(3, 192, 320),
        slow_loop=True,
    ),
    Network(
        "U-Mamba2 3-D",
        "hippocampus plan with residual blocks, one patch",
        lambda: UMamba2(**HIPPOCAMPUS, n_blocks_per_stage=[1, 3, 4, 6], bottleneck="mamba2"),
        image(1, *HIPPOCAMPUS_PATCH),
    ),
    Network(
        "E-ViM3 regressor",
        "published sizes, a clip of 16 frames: 784 tokens and registers",
        lambda: Mamba3DRegressor(
            in_channels=1,
            clip_size=[16, 112, 112],
            time_patch_size=1,
            patch_size=16,
            embed_dim=384,
            num_macro_blocks=6,
            register_planes=[1, 1, 1],
        ),
        image(1, 16, 112, 112),
        quick=True,
    ),
    Network(
        "Vim classifier 3-D",
        "brain, patches of 16 voxels: 1 000 tokens, twelve blocks",
        lambda: VimClassifier(image_size=[160, 160, 160], drop_path=0.0),
        image(4, 160, 160, 160),
        quick=True,
    ),
    Network(
        "Vim classifier 3-D, patch 4",
        "brain, patches of 4 voxels: 64 000 tokens, twelve blocks recomputed in the backward pass",
        lambda: VimClassifier(image_size=[160, 160, 160], patch_size=4, drop_path=0.0, checkpointing=True),
        image(4, 160, 160, 160),
        slow_loop=True,
    ),
    Network(
        "Vim MAE 3-D, patch 4",
        "brain pre-training, 16 000 of 64 000 tokens in the encoder, all in the decoder, recomputed",
        lambda: VimMAE(patch_size=4, checkpointing=True),
        image(4, 160, 160, 160),
        loss=masked_patch_loss,
        slow_loop=True,
    ),
    Network(
        "UPerNet on convolutions and Mamba",
        "thyroid, half the edge of a crop: 256 tokens",
        lambda: UPerNet(
            encoder="conv_mamba",
            in_channels=3,
            out_channels=2,
            image_size=[256, 256],
            embed_dims=[256, 384, 768],
            depths=[2, 2, 11],
            num_heads=12,
            channels=768,
            auxiliary_channels=256,
            drop_path=0.0,
            dropout=0.0,
        ),
        image(3, 256, 256, batch=2),
    ),
)
