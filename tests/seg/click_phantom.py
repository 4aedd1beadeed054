"""A network whose answer to clicks is known, and a model that claims it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.network import with_network
from tests.seg.model_phantom import model


def click_model(folder=".", **options) -> ModelFolder:
    """The phantom's model, with a network of the kind that takes clicks."""
    plain = model(folder, **options)
    configuration = replace(plain.configuration, residual_encoder=True)
    configuration = with_network(configuration, "UMamba2", mixer="mamba2_cross_click2")
    return replace(plain, configuration=configuration)


class BallNetwork(nn.Module):
    """Every click is the center of a ball of its label; everything else is background. Counts its patches.

    A slope along the last axis in the logits of background makes the network feel mirroring; an offset for each label
    makes it feel an exchange of labels.
    """

    def __init__(self, heads: int = 3, radius: float = 2.5, slope: float = 0.0):
        super().__init__()
        self.heads, self.radius, self.slope = heads, radius, slope
        self.patches = 0

    def forward(self, x: torch.Tensor, clicks=None) -> torch.Tensor:
        self.patches += len(x)
        size = x.shape[2:]
        grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"))
        logits = torch.zeros(len(x), self.heads, *size)
        logits[:, 0] = self.slope * torch.linspace(-1, 1, size[-1])
        for number, (points, labels) in enumerate(zip(*clicks, strict=True)):
            for point, label in zip(points, labels, strict=True):
                if label >= 0:
                    inside = ((grid - point.view(3, 1, 1, 1)) ** 2).sum(0) <= self.radius**2
                    logits[number, int(label) + 1][inside] += 10.0 + int(label)
        return logits
