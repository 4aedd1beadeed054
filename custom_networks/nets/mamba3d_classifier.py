"""E-ViM3 as a classifier of a video and, in a branch that never mixes frames, of each of its frames.

Source: arXiv:2503.20258 and its published code (breast ultrasound).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from custom_networks.layers.enclosure_aggregation import EnclosureAggregation, FrameAggregation
from custom_networks.layers.mlp_head import MLPHead
from custom_networks.nets.mamba3d import Mamba3DEncoder


class Mamba3DClassifier(nn.Module):
    """Clips (B, C, L, H, W) to logits of the videos (B, out_channels) and of their frames (B, frames, out_channels).

    Frames are those of the patch grid.

    Args:
        out_channels: logits a clip and a frame; 1 for two classes.
        aggregation: how global tokens become features of the clip, see
            :class:`~custom_networks.layers.enclosure_aggregation.EnclosureAggregation`.
        frame_aggregation: the same for frames, see
            :class:`~custom_networks.layers.enclosure_aggregation.FrameAggregation`.
        final_dim: number of features; None for the encoder's width.
        head_layers: linear layers of both heads.
        frame_branch: whether to compute the frame logits, which costs two thirds of a second encoder pass. Without it
            the output is the tensor of video logits alone. The parameters are there in either case,
            but without the branch they take no part in training.
        **encoder: arguments of :class:`~custom_networks.nets.mamba3d.Mamba3DEncoder`.

    Raises:
        ValueError: for unknown names, or a clip of another size than the network was built for.

    Deviation: the published network always computes the frame branch, also where its loss has weight 0.
    """

    def __init__(
        self,
        out_channels: int = 1,
        aggregation: str = "all_concat",
        frame_aggregation: str = "all_concat",
        final_dim: int | None = 512,
        head_layers: int = 3,
        frame_branch: bool = True,
        **encoder: Any,
    ):
        super().__init__()
        self.encoder = Mamba3DEncoder(**encoder)
        dim, layout = self.encoder.embed_dim, self.encoder.layout
        features = dim if final_dim is None else final_dim
        self.frame_branch = frame_branch
        self.aggregation = EnclosureAggregation(dim, layout, features, aggregation)
        self.frame_aggregation = FrameAggregation(dim, layout, features, frame_aggregation)
        self.head = MLPHead(features, out_channels, head_layers)
        self.frame_head = MLPHead(features, out_channels, head_layers)
        for part in (self.frame_aggregation, self.frame_head):
            part.requires_grad_(frame_branch)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        """Logits of the clips and of their frames."""
        volume = self.encoder.embed(image)
        video = self.head(self.aggregation(self.encoder.encode(volume)))
        if not self.frame_branch:
            return video
        return video, self.frame_head(self.frame_aggregation(self.encoder.encode_frames(volume)))
