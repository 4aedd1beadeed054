"""Random changes of intensity, drawn separately for each channel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import AdjustContrast, MapTransform, RandomizableTransform


class ChannelwiseTransform(RandomizableTransform, MapTransform):
    """A change that a sample undergoes with one probability, and then each of its channels with another.

    Args:
        keys: images (C, *S), float32.
        prob: probability for the sample.
        channel_prob: probability for each channel of a chosen sample.
    """

    def __init__(self, keys: Sequence[str], prob: float, channel_prob: float = 1.0):
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.channel_prob = channel_prob

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Returns the dictionary with changed copies of the images, or unchanged."""
        result = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = torch.stack([self._maybe(channel) for channel in result[key]])
        return result

    def _maybe(self, channel: torch.Tensor) -> torch.Tensor:
        return self.change(channel) if self.R.uniform() < self.channel_prob else channel

    @abstractmethod
    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """A changed copy of one channel (*S); draws from ``self.R``."""

    def below_or_above(self, low: float, high: float) -> float:
        """A factor that is uniform below 1 half of the time and uniform above 1 otherwise (nnU-Net's draw)."""
        return self.R.uniform(low, 1.0) if self.R.uniform() < 0.5 else self.R.uniform(1.0, high)


class RandChannelBlurd(ChannelwiseTransform):
    """Gaussian blur.

    Args:
        keys, prob, channel_prob: see :class:`ChannelwiseTransform`.
        sigma: range of the standard deviation in voxels.
        each_axis: draw it for each axis (U-Mamba2) instead of once (U-Mamba).
    """

    def __init__(
        self,
        keys: Sequence[str],
        prob: float = 0.2,
        channel_prob: float = 0.5,
        sigma: Sequence[float] = (0.5, 1.0),
        each_axis: bool = False,
    ):
        super().__init__(keys, prob, channel_prob)
        self.sigma, self.each_axis = tuple(sigma), each_axis

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Blurs one channel."""
        from scipy.ndimage import gaussian_filter

        sigma = self.R.uniform(*self.sigma, size=channel.ndim if self.each_axis else None)
        return torch.from_numpy(gaussian_filter(np.asarray(channel), sigma))


class RandChannelBrightnessd(ChannelwiseTransform):
    """Multiplication by a factor drawn below or above 1 (U-Mamba2); MONAI's RandScaleIntensity draws uniformly.

    Args:
        keys, prob: see :class:`ChannelwiseTransform`.
        factor: range of the factor.
    """

    def __init__(self, keys: Sequence[str], prob: float = 0.15, factor: Sequence[float] = (0.75, 1.25)):
        super().__init__(keys, prob)
        self.factor = tuple(factor)

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Scales one channel."""
        return channel * self.below_or_above(*self.factor)


class RandChannelContrastd(ChannelwiseTransform):
    """Stretches intensities about their mean and clips them to their old range.

    Args:
        keys, prob: see :class:`ChannelwiseTransform`.
        factor: range of the factor.
        keep_range: whether to clip.
    """

    def __init__(
        self,
        keys: Sequence[str],
        prob: float = 0.15,
        factor: Sequence[float] = (0.75, 1.25),
        keep_range: bool = True,
    ):
        super().__init__(keys, prob)
        self.factor, self.keep_range = tuple(factor), keep_range

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Changes the contrast of one channel."""
        mean, low, high = channel.mean(), channel.min(), channel.max()
        stretched = (channel - mean) * self.below_or_above(*self.factor) + mean
        return torch.clamp(stretched, low, high) if self.keep_range else stretched


class RandChannelGammad(ChannelwiseTransform):
    """Gamma curve over the range of the image; mean and standard deviation are kept.

    Args:
        keys, prob: see :class:`ChannelwiseTransform`.
        gamma: range of the exponent, drawn below or above 1.
        invert: apply it to the negative image.

    The curve is that of MONAI's ``AdjustContrast``; its random form draws uniformly and over all channels together.
    """

    def __init__(
        self, keys: Sequence[str], prob: float = 0.3, gamma: Sequence[float] = (0.7, 1.5), invert: bool = False
    ):
        super().__init__(keys, prob)
        self.gamma = tuple(gamma)
        self._adjust: Any = AdjustContrast(1.0, invert_image=invert, retain_stats=True)

    def change(self, channel: torch.Tensor) -> torch.Tensor:
        """Applies the curve to one channel."""
        return self._adjust(channel, self.below_or_above(*self.gamma)).as_tensor()
