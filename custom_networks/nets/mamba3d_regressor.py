"""E-ViM3 with a regression or classification head for a whole clip, such as the ejection fraction in percent.

Source: arXiv:2503.20258 and its published code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from custom_networks.layers.enclosure_aggregation import EnclosureAggregation
from custom_networks.layers.mlp_head import MLPHead
from custom_networks.nets.mamba3d import Mamba3DEncoder


class Mamba3DRegressor(nn.Module):
    """Clips (B, C, L, H, W), or several of each case (B, k, C, L, H, W), to (B, out_channels).

    Args:
        aggregation: how global tokens become features, see
            :class:`~custom_networks.layers.enclosure_aggregation.EnclosureAggregation`.
        final_dim: number of features; None for the encoder's width.
        head_layers: linear layers of the head.
        initial_output: start of the output bias, in percent: the mean of the training labels (EchoNet-Dynamic 55.777,
            CAMUS 44.412); None leaves the default of a linear layer.
        out_channels: outputs; 1 for a regression, else the logits of as many classes.
        output: "linear", or "percent" for 100 times the sigmoid.
        **encoder: arguments of :class:`~custom_networks.nets.mamba3d.Mamba3DEncoder`.

    Raises:
        ValueError: for unknown names, or a clip of another size than the network was built for.
    """

    def __init__(
        self,
        aggregation: str = "all_concat",
        final_dim: int | None = 512,
        head_layers: int = 3,
        initial_output: float | None = 55.777,
        out_channels: int = 1,
        output: str = "linear",
        **encoder: Any,
    ):
        super().__init__()
        self.encoder = Mamba3DEncoder(**encoder)
        features = self.encoder.embed_dim if final_dim is None else final_dim
        self.aggregation = EnclosureAggregation(self.encoder.embed_dim, self.encoder.layout, features, aggregation)
        self.head = MLPHead(features, out_channels, head_layers, initial_output, output)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Features of single clips (B, C, L, H, W), (B, final_dim)."""
        return self.aggregation(self.encoder(image))

    def forward(self, image: torch.Tensor, per_clip: bool = False) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Mean prediction over the clips of a case, (B, out_channels).

        Args:
            image: (B, C, L, H, W) or (B, k, C, L, H, W).
            per_clip: also return the prediction of each clip, (B, k, out_channels); k is 1 for five dimensions.
        """
        clips = image.unsqueeze(1) if image.dim() == 5 else image
        if clips.dim() != 6:
            raise ValueError(f"expected (B, C, L, H, W) or (B, k, C, L, H, W), got shape {tuple(image.shape)}")
        each = self.head(self.features(clips.flatten(0, 1))).unflatten(0, clips.shape[:2])
        return (each.mean(1), each) if per_clip else each.mean(1)
