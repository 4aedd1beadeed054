"""Disruption of images that an autoencoder learns to undo: noise, lost resolution, hidden blocks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import MapTransform, Randomizable

DISRUPTIONS = ("all", "denoise", "superres", "mask")


def hidden_blocks(
    size: Sequence[int], images: int, edge: int, share: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draws which blocks of a batch of images are hidden.

    Args:
        size: of the images in voxels; blocks at the far end of an axis that ``edge`` does not divide are cut.
        images: number of images B.
        edge: of a block, in voxels.
        share: of all blocks of the batch that is hidden; a single image may have more or fewer.
        generator: source of the draw, PyTorch's own when None.

    Returns:
        Boolean (B, 1, *size).
    """
    grid = [math.ceil(length / edge) for length in size]
    total = images * math.prod(grid)
    flat = torch.zeros(total, dtype=torch.bool)
    flat[torch.randperm(total, generator=generator)[: round(share * total)]] = True
    mask = flat.view(images, 1, *grid)
    for axis, length in enumerate(size):
        mask = mask.repeat_interleave(edge, dim=axis + 2).narrow(axis + 2, 0, length)
    return mask


def lower_resolution(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Nearest-neighbour sampling of (B, C, *S) to a grid ``factor`` times coarser, and back."""
    coarse = F.interpolate(image, size=[max(1, length // factor) for length in image.shape[2:]], mode="nearest")
    return F.interpolate(coarse, size=image.shape[2:], mode="nearest")


class Disruption:
    """Disrupts a batch of images, in the published order: noise, resolution, blocks.

    Args:
        kind: ``all``, or one of the three alone: ``denoise``, ``superres``, ``mask``.
        noise_variance: of the noise added, whose mean is 0.
        factor: by which the resolution is lowered.
        block: edge of a hidden block in voxels.
        share: of blocks that are hidden.
        hidden_value: what hidden voxels become, in all channels.

    Raises:
        ValueError: for another kind, or a value out of range.

    Source: disruptive autoencoders, Valanarasu et al. 2023, as U-Mamba2 (arXiv 2509.12069) uses them, without their
    contrastive loss. The published blocks need a patch that their edge divides; here they may be cut.
    """

    def __init__(
        self,
        kind: str = "all",
        noise_variance: float = 0.1,
        factor: int = 4,
        block: int = 16,
        share: float = 0.3,
        hidden_value: float = -2.0,
    ):
        if kind not in DISRUPTIONS:
            raise ValueError(f"disruption must be one of {', '.join(DISRUPTIONS)}, got {kind!r}")
        if noise_variance < 0 or not 0 <= share <= 1 or min(factor, block) < 1:
            raise ValueError(
                f"noise_variance {noise_variance}, share {share}, factor {factor} and block {block} are not usable"
            )
        self.kind, self.noise_variance, self.factor = kind, noise_variance, factor
        self.block, self.share, self.hidden_value = block, share, hidden_value

    def __call__(
        self, image: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Disrupts images; the given ones stay as they are.

        Args:
            image: (B, C, *S).
            generator: source of the draws, on the CPU.

        Returns:
            Disrupted images, and where blocks are hidden: boolean (B, 1, *S).
        """
        hidden = torch.zeros(len(image), 1, *image.shape[2:], dtype=torch.bool)
        if self.kind in ("all", "denoise"):
            noise = torch.randn(image.shape, generator=generator)
            image = image + (noise * math.sqrt(self.noise_variance)).to(image)
        if self.kind in ("all", "superres"):
            image = lower_resolution(image, self.factor)
        if self.kind in ("all", "mask"):
            hidden = hidden_blocks(image.shape[2:], len(image), self.block, self.share, generator)
            image = image.masked_fill(hidden.to(image.device), self.hidden_value)
        return image, hidden.to(image.device)


class RandDisruptd(Randomizable, MapTransform):
    """Disrupts the image of a dictionary and adds the clean one and the hidden blocks.

    The result holds ``image`` disrupted, ``target`` clean, both (C, *S), and ``hidden``, boolean (1, *S).

    Args:
        keys: the image.
        disruption: what is done to it.

    Deviation: blocks are drawn for each image, so that each has the same share of them and a patch does not depend on
    the others of its batch; the published code draws them for a batch.
    """

    def __init__(self, keys: Sequence[str] | str = "image", disruption: Disruption | None = None):
        MapTransform.__init__(self, keys)
        self.disruption = disruption or Disruption()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the dictionary with the three; other items are left out but for strings."""
        result = {key: value for key, value in data.items() if isinstance(value, str)}
        generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
        for key in self.key_iterator(dict(data)):
            clean = torch.as_tensor(data[key])
            disrupted, hidden = self.disruption(clean[None], generator)
            result |= {key: disrupted[0], "target": clean, "hidden": hidden[0]}
        return result
