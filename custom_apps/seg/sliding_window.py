"""Prediction of a whole image from overlapping patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch.nn import functional

from custom_apps.seg.mirroring import LabelExchange, mirrored_logits
from custom_apps.seg.windows import gaussian_importance, padding_to, window_starts, windows


class PatchwiseInferer(Inferer):
    """Sliding window over an image with equally spaced patches, Gaussian weights and test-time mirroring.

    The rule of nnU-Net (Isensee et al. 2021), which U-Mamba and U-Mamba2 share: pad symmetrically with zeros to at
    least one patch; equally spaced patches; logits times Gaussian weights, summed and divided by the summed weights.
    It deviates in summing in float32 where they sum in float16. :class:`monai.inferers.SlidingWindowInferer` differs
    in the positions (fixed step, last patch moved inwards), in the weights, and has no
    mirroring.

    A patch with one axis less than the image predicts slice by slice along the first spatial axis, as ``2d``
    configurations do on volumes.

    Args:
        patch_size: patch edge per axis.
        step_ratio: largest step between patches as a share of their edge (nnU-Net's ``tile_step_size``).
        sw_batch_size: patches per call of the network.
        mirror_axes: patch axes flipped at test time; all their combinations are averaged. U-Mamba was published
            without.
        exchange: labels that trade places when the left-right axis is flipped; a :class:`LabelExchange`, or its two
            arguments as a dictionary ``{"pairs": ..., "axis": ...}``.
        sw_device: where patches are predicted; by default where the input is.
        device: where logits are summed and returned; by default where the input is.
        cpu_thresh: voxels of the image above which logits are summed on the CPU, when ``device`` is not given.
        dtype: of the sum, ``"float32"`` or ``"float16"``.
        progress: show a progress bar.

    Raises:
        ValueError: for a mirror axis that a patch does not have, or an unknown ``dtype``.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        step_ratio: float = 0.5,
        sw_batch_size: int = 1,
        mirror_axes: Sequence[int] = (),
        exchange: LabelExchange | dict | None = None,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        cpu_thresh: int | None = None,
        dtype: str = "float32",
        progress: bool = False,
    ):
        self.patch_size = tuple(int(edge) for edge in patch_size)
        self.mirror_axes = tuple(int(axis) for axis in mirror_axes)
        if not set(self.mirror_axes) <= set(range(len(self.patch_size))):
            raise ValueError(f"mirror_axes {self.mirror_axes} are not axes of patches of {self.patch_size}")
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}")
        self.step_ratio, self.sw_batch_size = step_ratio, sw_batch_size
        self.exchange = LabelExchange(**exchange) if isinstance(exchange, dict) else exchange
        self.sw_device, self.device, self.cpu_thresh = sw_device, device, cpu_thresh
        self.dtype = getattr(torch, dtype)
        self.progress = progress

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits of whole images.

        Args:
            inputs: shape (B, C, *S).
            network: patches (b, C, *patch_size) to logits (b, heads, *patch_size); of a list, as under deep
                supervision, the first entry is taken.
            args: passed on to the network.
            kwargs: passed on to the network.

        Returns:
            Logits, shape (B, heads, *S).
        """
        inputs = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        dims = len(self.patch_size)
        if inputs.dim() - 2 not in (dims, dims + 1):
            raise ValueError(f"patches of {self.patch_size} need an image (B, C, *S), got shape {tuple(inputs.shape)}")
        size = inputs.shape[-dims:]
        padding = padding_to(size, self.patch_size)
        padded = functional.pad(inputs, [amount for pair in reversed(padding) for amount in pair])
        logits = self._padded_logits(
            padded, lambda patches: full_resolution(network(patches, *args, **kwargs), patches)
        )
        return logits[(..., *(slice(pair[0], pair[0] + edge) for pair, edge in zip(padding, size, strict=True)))]

    def _padded_logits(self, image: torch.Tensor, predict: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Logits of an image that is at least as large as a patch."""
        target = self._target_device(image)
        starts = window_starts(image.shape[-len(self.patch_size) :], self.patch_size, self.step_ratio)
        importance = gaussian_importance(self.patch_size, dtype=self.dtype).to(target)
        weights = torch.zeros(image.shape[-len(self.patch_size) :], dtype=self.dtype, device=target)
        for window in windows(starts, self.patch_size):
            weights[window] += importance
        total = None
        for places in self._batches(image, starts):
            patches = torch.stack([image[place] for place in places]).to(self.sw_device or image.device)
            logits = mirrored_logits(predict, patches, self.mirror_axes, self.exchange).to(target, self.dtype)
            if total is None:
                total = torch.zeros(
                    (image.shape[0], logits.shape[1], *image.shape[2:]), dtype=self.dtype, device=target
                )
            for place, patch_logits in zip(places, logits, strict=True):
                total[place].addcmul_(patch_logits, importance)
        return total.div_(weights)

    def _target_device(self, image: torch.Tensor) -> torch.device | str:
        if self.device is None and self.cpu_thresh is not None and image.shape[2:].numel() > self.cpu_thresh:
            return "cpu"
        return image.device if self.device is None else self.device

    def _batches(self, image: torch.Tensor, starts: list[list[int]]) -> Iterator[list[tuple]]:
        """Index of every patch in an image (B, C, *S), ``sw_batch_size`` at a time."""
        slices = range(image.shape[2]) if image.dim() - 2 > len(self.patch_size) else (None,)
        places = [
            (entry, slice(None), *(() if number is None else (number,)), *window)
            for entry, number, window in product(range(image.shape[0]), slices, windows(starts, self.patch_size))
        ]
        first_places = range(0, len(places), self.sw_batch_size)
        if self.progress:
            from tqdm import tqdm

            first_places = tqdm(first_places, desc="patches", leave=False)
        for first in first_places:
            yield places[first : first + self.sw_batch_size]


def full_resolution(output: torch.Tensor | Sequence[torch.Tensor], patches: torch.Tensor) -> torch.Tensor:
    """Full-resolution logits (b, heads, *S) of what a network returned for patches (b, C, *S), in float32.

    Raises:
        ValueError: for anything but logits of the patches' size, or a list that begins with them.
    """
    logits = output[0] if isinstance(output, (list, tuple)) else output
    if not isinstance(logits, torch.Tensor) or logits.shape[2:] != patches.shape[2:]:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"expected logits (b, heads, {', '.join(map(str, patches.shape[2:]))}), the network returned {found}"
        )
    return logits.float()
