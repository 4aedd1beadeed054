"""Small instances of every network family, for the contract that all must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from custom_networks.nets.conv_mae import ConvMAE
from custom_networks.nets.conv_vit_classifier import ConvViTClassifier
from custom_networks.nets.mamba3d_classifier import Mamba3DClassifier
from custom_networks.nets.mamba3d_mae import Mamba3DMAE
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.mamba3d_segmenter import Mamba3DSegmenter
from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.nets.umamba2 import UMamba2
from custom_networks.nets.unet_decoders import UNet, UNetPlusPlus
from custom_networks.nets.upernet import UPerNet
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE


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


class Prediction(nn.Module):
    """The predicted patches of a masked autoencoder, without target and mask."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.network(image, noise).prediction


def patch_network(name: str, network: type, size: tuple[int, ...] = (8, 12, 4), **extra) -> Entry:
    """A two-block network of patch tokens on a small image with unequal sides; autoencoders with a given mask."""
    autoencoder = network in (VimMAE, ViTMAE)
    common = {"in_channels": 2, "image_size": size, "patch_size": 4, "embed_dim": 24, "depth": 2, "drop_path": 0.0}
    common |= {"decoder_dim": 16, "decoder_depth": 1, "mask_ratio": 0.5} if autoencoder else {"num_classes": 3}
    patches = torch.Size(side // 4 for side in size).numel()

    def build() -> nn.Module:
        made = network(**common, **extra)
        return Prediction(made) if autoencoder else made

    def inputs() -> tuple:
        generator = torch.Generator().manual_seed(1)
        image = torch.randn(2, 2, *size, generator=generator)
        return (image, torch.rand(2, patches, generator=generator)) if autoencoder else (image,)

    return Entry(name, build, inputs, [(2, patches, 2 * 4 ** len(size)) if autoencoder else (2, 3)])


CONV_VIT = {
    "patch_sizes": [2, 2, 2],
    "embed_dims": [6, 8, 16],
    "depths": [1, 1, 2],
    "num_heads": 4,
    "mlp_ratios": [2, 3, 2],
}
PYRAMIDS = {
    "conv_vit": CONV_VIT,
    "conv_mamba": CONV_VIT,
    "vit": {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 4, "taps": [0, 1, 2, 3]},
    "mamba": {"patch_size": 8, "embed_dim": 16, "depth": 4, "taps": [0, 1, 2, 3]},
}


def conv_vit(name: str, network: type, **extra) -> Entry:
    """A small network of convolutions and tokens on images with unequal sides; autoencoders with a given mask."""
    autoencoder = network is ConvMAE
    common = {"in_channels": 2, "image_size": [16, 24]} | CONV_VIT
    common |= {"decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 4, "mask_ratio": 0.5} if autoencoder else {}

    def inputs() -> tuple:
        generator = torch.Generator().manual_seed(1)
        image = torch.randn(2, 2, 16, 24, generator=generator)
        return (image, torch.rand(2, 6, generator=generator)) if autoencoder else (image,)

    def build() -> nn.Module:
        built = network(**common | extra)
        return Prediction(built) if autoencoder else built

    return Entry(name, build, inputs, [(2, 6, 128) if autoencoder else (2, 2)])


def on_pyramid(name: str, network: type, encoder: str, **extra) -> Entry:
    """A small segmentation network on a pyramid of tokens; patches have 8 pixels, so that maps halve from 8 to 1."""
    common = {"encoder": encoder, "in_channels": 2, "out_channels": 3, "image_size": [48, 64], "drop_path": 0.0}
    common |= {"channels": 6, "auxiliary_channels": 5, "dropout": 0.0} if network is UPerNet else {}
    common |= {"channels": [10, 8, 6, 6]} if network is not UPerNet else {}

    def inputs() -> tuple:
        return (torch.randn(2, 2, 48, 64, generator=torch.Generator().manual_seed(1)),)

    shapes = [(2, 3, 48, 64)] * (2 if network is UPerNet else 1)
    return Entry(name, lambda: network(**common | PYRAMIDS[encoder] | extra), inputs, shapes)


class FixedMask(nn.Module):
    """A masked autoencoder of clips that always hides the same cells, and its predictions alone."""

    def __init__(self, network: Mamba3DMAE):
        super().__init__()
        self.network = network
        self.register_buffer("cells", network.masking.draw(2, torch.Generator().manual_seed(2)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image, self.cells).prediction


def video(name: str, network: type, output_shapes: list[tuple[int, ...]], **extra) -> Entry:
    """A small E-ViM3 network on two clips of odd size."""

    def build() -> nn.Module:
        encoder = {
            "in_channels": 2,
            "clip_size": [5, 9, 12],
            "time_patch_size": 2,
            "patch_size": 3,
            "embed_dim": 10,
            "num_macro_blocks": 1,
            "register_planes": [1, 0, 2],
        }
        built = network(**encoder | extra)
        return FixedMask(built) if network is Mamba3DMAE else built

    def inputs() -> tuple:
        return (torch.randn(2, 2, 5, 9, 12, generator=torch.Generator().manual_seed(1)),)

    return Entry(name, build, inputs, output_shapes)


ENTRIES = [
    video("mamba3d_regressor", Mamba3DRegressor, [(2, 1)], final_dim=6, initial_output=None),
    video("mamba3d_regressor_bimamba_v2", Mamba3DRegressor, [(2, 1)], mixer="bimamba_v2", initial_output=None),
    video("mamba3d_segmenter", Mamba3DSegmenter, [(2, 2, 4, 9, 12)]),
    video("mamba3d_segmenter_mamba2", Mamba3DSegmenter, [(2, 2, 4, 9, 12)], mixer="mamba2", embed_dim=8),
    video("mamba3d_classifier", Mamba3DClassifier, [(2, 1), (2, 2, 1)], final_dim=6),
    video("mamba3d_mae", Mamba3DMAE, [(2, 24, 36)], decoder_blocks=1, time_mask_chain=2, mask_ratio=0.5),
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
    patch_network("vim_mae", VimMAE),
    patch_network("vim_mae_2d_class_token", VimMAE, (12, 8), class_token=True, rotary="sequence_half"),
    patch_network(
        "vim_mae_published", VimMAE, rotary="sequence_half", token_order="shuffle", decoder_alignment="legacy"
    ),
    patch_network("vim_mae_mamba2", VimMAE, mixer="mamba2", mixer_options={"d_state": 8, "headdim": 8}, rotary="none"),
    patch_network(
        "vim_mae_four_directions",
        VimMAE,
        (12, 8),
        scan_order="alternating",
        mlp_ratio=2.0,
        decoder="vit",
        decoder_num_heads=4,
    ),
    patch_network("vim_classifier", VimClassifier),
    patch_network("vim_classifier_published", VimClassifier, rotary="axial_two_of_three"),
    patch_network("vim_classifier_class_tokens", VimClassifier, class_token="both_ends"),
    patch_network(
        "vim_classifier_attention",
        VimClassifier,
        attention_blocks=[1],
        attention_options={"num_heads": 2, "head_dim": 8},
        checkpointing=True,
    ),
    patch_network("vit_mae", ViTMAE, num_heads=4, decoder_num_heads=4),
    patch_network("vit_classifier", ViTClassifier, num_heads=4),
    patch_network("vit_classifier_2d_class_token", ViTClassifier, (12, 8), num_heads=4, pooling="class_token"),
    conv_vit("conv_mae", ConvMAE),
    conv_vit("conv_mae_shuffled", ConvMAE, token_order="shuffle", norm_pix=True),
    conv_vit("conv_mae_mamba", ConvMAE, encoder="mamba", decoder="mamba"),
    conv_vit("conv_vit_classifier", ConvViTClassifier),
    conv_vit("conv_vit_classifier_first_patch", ConvViTClassifier, pooling="first_patch"),
    conv_vit("conv_vit_classifier_mamba", ConvViTClassifier, encoder="mamba"),
    on_pyramid("upernet_conv_vit", UPerNet, "conv_vit", pool_scales=[1, 2]),
    on_pyramid(
        "upernet_conv_vit_shared_positions", UPerNet, "conv_vit", pool_scales=[1, 2], relative_positions="shared"
    ),
    on_pyramid("upernet_mamba", UPerNet, "mamba"),
    on_pyramid("unet_conv_vit", UNet, "conv_vit"),
    on_pyramid("unet_vit", UNet, "vit", checkpointing=True),
    on_pyramid("unetplusplus_conv_mamba", UNetPlusPlus, "conv_mamba"),
    on_pyramid("unetplusplus_mamba", UNetPlusPlus, "mamba"),
]
