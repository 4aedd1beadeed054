"""Head of several linear layers."""

from __future__ import annotations

import itertools

import torch
from torch import nn

OUTPUTS = ("linear", "percent")


class MLPHead(nn.Module):
    """Linear layers of equal width with SiLU between them, (..., features) to (..., out_channels).

    Args:
        features: width of the input and of the hidden layers.
        out_channels: number of outputs: 1 for a regression, the number of classes for their logits.
        num_layers: number of linear layers, at least 1.
        initial_output: start of the last bias, in units of the output; None leaves the default.
        output: "linear", or "percent" for 100 times the sigmoid.

    Deviation: the head runs in the precision of its weights also under autocast. In bfloat16 an ejection fraction of 56
        percent would be rounded to a quarter of a percent.

    Raises:
        ValueError: for fewer than one layer, another output, or an initial percentage outside (0, 100).
    """

    def __init__(
        self,
        features: int,
        out_channels: int = 1,
        num_layers: int = 3,
        initial_output: float | None = None,
        output: str = "linear",
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"a head needs at least one layer, got {num_layers}")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}")
        if output == "percent" and initial_output is not None and not 0 < initial_output < 100:
            raise ValueError(f"initial_output must be between 0 and 100 percent, got {initial_output}")
        widths = [features] * num_layers + [out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.activation, self.output = nn.SiLU(), output
        if initial_output is not None:
            start = torch.tensor(float(initial_output), device="cpu")
            nn.init.constant_(self.layers[-1].bias, float(start if output == "linear" else torch.logit(start / 100)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs for every vector of features."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.layers[0].weight.dtype)
            for layer in self.layers[:-1]:
                features = self.activation(layer(features))
            out = self.layers[-1](features)
            return 100 * torch.sigmoid(out) if self.output == "percent" else out
