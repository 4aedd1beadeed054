"""Simulation of images acquired at a lower resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from custom_apps.seg.augmentation_intensity import ChannelwiseTransform

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class RandChannelLowResolutiond(ChannelwiseTransform):
    """Nearest-neighbour sampling to a coarser grid, then smooth interpolation back.

    Args:
        keys, prob, channel_prob: see :class:`ChannelwiseTransform`.
        zoom: range of the size of the coarser grid as a share of the patch.
        interpolation: ``cubic`` (U-Mamba) or ``linear`` (U-Mamba2) on the way back.
        fixed_axes: axes that keep their resolution; the first in dummy-2D.

    MONAI's ``RandSimulateLowResolution`` treats all channels and axes alike and has no cubic interpolation in 3D.
    """

    def __init__(
        self,
        keys: Sequence[str],
        prob: float = 0.25,
        channel_prob: float = 0.5,
        zoom: Sequence[float] = (0.5, 1.0),
        interpolation: str = "linear",
        fixed_axes: Sequence[int] = (),
    ):
        super().__init__(keys, prob, channel_prob)
        if interpolation not in ("linear", "cubic"):
            raise ValueError(f"interpolation must be 'linear' or 'cubic', got {interpolation!r}")
        self.zoom, self.interpolation, self.fixed_axes = tuple(zoom), interpolation, set(fixed_axes)

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Lowers the resolution of one channel."""
        zoom = self.R.uniform(*self.zoom)
        coarse_size = [
            edge if axis in self.fixed_axes else max(1, round(edge * zoom)) for axis, edge in enumerate(channel.shape)
        ]
        coarse = F.interpolate(channel[None, None], size=coarse_size, mode="nearest-exact")
        if self.interpolation == "linear":
            return F.interpolate(coarse, size=channel.shape, mode=LINEAR[channel.ndim], align_corners=False)[0, 0]
        from scipy.ndimage import zoom as spline_zoom

        factors = np.array(channel.shape) / np.array(coarse_size)
        fine = spline_zoom(coarse[0, 0].numpy(), factors, order=3, mode="nearest", grid_mode=True)
        return torch.from_numpy(fine)
