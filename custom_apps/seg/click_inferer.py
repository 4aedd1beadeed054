"""Sliding window for interactive networks: every window sees the clicks inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from itertools import groupby
from typing import Any

import torch
from monai.data import MetaTensor
from torch.nn import functional

from custom_apps.seg.mirroring import LabelExchange, mirror_combinations
from custom_apps.seg.sliding_window import PatchwiseInferer, full_resolution
from custom_apps.seg.windows import gaussian_importance, padding_to, window_starts, windows

Clicks = tuple[torch.Tensor, torch.Tensor]
"""Coordinates (K, 3) in voxels, and labels (K,), label id minus 1."""

WindowCache = MutableMapping[int, tuple[tuple, torch.Tensor]]
"""Of each window its clicks and its logits (heads, *patch_size)."""


class ClickInferer(PatchwiseInferer):
    """:class:`~custom_apps.seg.sliding_window.PatchwiseInferer` that gives each window the clicks inside it.

    Click coordinates are shifted with padding and window; under test-time mirroring they are mirrored with the patch
    and, when left and right labels are exchanged, so are theirs. Windows are batched with others of as many clicks,
    so that ``sw_batch_size`` has no influence on the result. Volumes only, one at a time.

    Source: interactive inference of U-Mamba2 (Tan et al. 2025, arXiv:2509.12069).

    Args:
        args, kwargs: of ``PatchwiseInferer``; ``patch_size`` has three axes.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if len(self.patch_size) != 3:
            raise ValueError(f"clicks need a 3-D configuration, got patches of {self.patch_size}")

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable,
        *args: Any,
        clicks: Clicks | None = None,
        cache: WindowCache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Logits of a whole image.

        Args:
            inputs: shape (1, C, *S).
            network: takes patches and the keyword argument ``clicks``: coordinates (b, k, 3), labels (b, k).
            args, kwargs: passed on to the network.
            clicks: coordinates (1, K, 3) or (K, 3) in voxels of the image, and labels (1, K) or (K,); None for none.
            cache: logits of each window by its number, with the clicks they belong to: windows whose clicks are the
                same are not predicted again. For the same image, network and settings only.

        Returns:
            Logits, shape (1, heads, *S).
        """
        inputs = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if inputs.dim() != 5 or len(inputs) != 1:
            raise ValueError(f"clicks need one volume (1, C, z, y, x) at a time, got shape {tuple(inputs.shape)}")
        size = inputs.shape[2:]
        padding = padding_to(size, self.patch_size)
        padded = functional.pad(inputs, [amount for pair in reversed(padding) for amount in pair])
        points, labels = _on_cpu(clicks)
        points = points + torch.tensor([before for before, _ in padding])

        def predict(patches: torch.Tensor, patch_clicks: Clicks) -> torch.Tensor:
            return full_resolution(network(patches, *args, clicks=patch_clicks, **kwargs), patches)

        logits = self._blended(padded, points, labels, predict, cache)
        return logits[(..., *(slice(pair[0], pair[0] + edge) for pair, edge in zip(padding, size, strict=True)))]

    def _blended(
        self,
        image: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        predict: Callable[[torch.Tensor, Clicks], torch.Tensor],
        cache: WindowCache | None,
    ) -> torch.Tensor:
        target = self._target_device(image)
        starts = window_starts(image.shape[2:], self.patch_size, self.step_ratio)
        importance = gaussian_importance(self.patch_size, dtype=self.dtype).to(target)
        places = list(windows(starts, self.patch_size))
        inside = [clicks_in_window(points, labels, place) for place in places]
        found = self._window_logits(image, places, inside, predict, cache)
        if cache is not None:
            # Summed in one order, whichever windows were known: undoing a click gives the same bits as before.
            for _ in found:
                pass
            found = ((number, cache[number][1]) for number in range(len(places)))
        total, weights = None, torch.zeros(image.shape[2:], dtype=self.dtype, device=target)
        for number, logits in found:
            logits = logits.to(target, self.dtype)
            if total is None:
                total = torch.zeros((1, len(logits), *image.shape[2:]), dtype=self.dtype, device=target)
            total[(0, slice(None), *places[number])].addcmul_(logits, importance)
            weights[places[number]] += importance
        return total.div_(weights)

    def _window_logits(
        self,
        image: torch.Tensor,
        places: Sequence[tuple[slice, ...]],
        inside: Sequence[Clicks],
        predict: Callable[[torch.Tensor, Clicks], torch.Tensor],
        cache: WindowCache | None,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and logits (heads, *patch_size) of every window that the cache lacks."""
        keys = [(tuple(map(tuple, points.tolist())), tuple(labels.tolist())) for points, labels in inside]
        known = {n for n, key in enumerate(keys) if cache is not None and n in cache and cache[n][0] == key}
        missing = sorted(set(range(len(places))) - known, key=lambda n: len(inside[n][1]))
        for _, group in groupby(missing, key=lambda n: len(inside[n][1])):
            numbers = list(group)
            for first in range(0, len(numbers), self.sw_batch_size):
                batch = numbers[first : first + self.sw_batch_size]
                patches = torch.stack([image[(0, slice(None), *places[n])] for n in batch])
                patches = patches.to(self.sw_device or image.device)
                clicks = tuple(torch.stack([inside[n][part] for n in batch]).to(patches.device) for part in (0, 1))
                found = mirrored_click_logits(predict, patches, clicks, self.mirror_axes, self.exchange)
                for number, logits in zip(batch, found, strict=True):
                    if cache is not None:
                        cache[number] = (keys[number], logits.cpu())
                    yield number, logits


def clicks_in_window(points: torch.Tensor, labels: torch.Tensor, window: Sequence[slice]) -> Clicks:
    """Clicks inside a window, in its own coordinates; a click belongs to the voxel that it is nearest to.

    Args:
        points: (K, 3).
        labels: (K,); -1, padding, is left out.
        window: slices of the three axes.
    """
    low, high = (torch.tensor([getattr(edge, end) for edge in window]) for end in ("start", "stop"))
    inside = ((points >= low - 0.5) & (points < high - 0.5)).all(dim=1) & (labels >= 0)
    return points[inside] - low, labels[inside]


def mirrored_click_logits(
    predict: Callable[[torch.Tensor, Clicks], torch.Tensor],
    patches: torch.Tensor,
    clicks: Clicks,
    axes: Sequence[int] = (),
    exchange: LabelExchange | None = None,
) -> torch.Tensor:
    """Mean of the logits over every combination of flips of patch and clicks, each flipped back.

    Args:
        predict: patches (b, C, *S) and clicks to logits (b, heads, *S).
        patches: shape (b, C, *S).
        clicks: coordinates (b, k, 3) and labels (b, k).
        axes: axes of S that are flipped, 0 the first.
        exchange: labels, heads and clicks alike, that trade places when its axis is among the flipped ones.
    """
    subsets, total = mirror_combinations(axes), 0
    for subset in subsets:
        dims = [axis + 2 for axis in subset]
        exchanged = exchange if exchange is not None and exchange.axis in subset else None
        flipped = mirrored_clicks(clicks, subset, patches.shape[2:], exchanged)
        logits = predict(patches.flip(dims), flipped).flip(dims)
        total = total + (logits if exchanged is None else logits[:, exchanged.order(logits.shape[1])])
    return total / len(subsets)


def mirrored_clicks(
    clicks: Clicks, axes: Sequence[int], size: Sequence[int], exchange: LabelExchange | None = None
) -> Clicks:
    """Clicks of a mirrored image: coordinate to ``size - 1 - coordinate``; padding, label -1, stays padding.

    Args:
        clicks: coordinates (..., 3) and labels (...).
        axes: flipped axes.
        size: of the image in voxels.
        exchange: labels that trade places.
    """
    points, labels = clicks
    points = points.clone()
    for axis in axes:
        points[..., axis] = size[axis] - 1 - points[..., axis]
    if exchange is not None:
        old = labels
        for one, other in (pair[::order] for pair in exchange.pairs for order in (1, -1)):
            labels = torch.where(old == one - 1, other - 1, labels)
    return points, labels


def _on_cpu(clicks: Clicks | None) -> Clicks:
    if clicks is None:
        return torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    points, labels = (torch.as_tensor(part).cpu() for part in clicks)
    if points.dim() == 3 and len(points) != 1:
        raise ValueError(f"expected the clicks of one image, got those of {len(points)}")
    return points.reshape(-1, 3).float(), labels.reshape(-1).long()
