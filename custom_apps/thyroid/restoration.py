"""From logits of a segmentation network back to masks of the size of the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform

PROBABILITY = "probability"
PUBLISHED = "published_pred"


class RestoreMaskd(MapTransform):
    """Turns logits (C, h, w) into a map of classes and the probability of the nodule, of the image's original size.

    Logits are resized bilinearly, then become probabilities: a soft-max over classes, of which the most probable one
    counts, or, of a single logit, a sigmoid, which counts from 0.5 on.

    Args:
        keys: logits, which become int64 (H, W); 1 is the nodule.
        keep_aspect: the image was filled up to a square below or on the right, see
            :class:`custom_apps.thyroid.rescale.SquareImaged`; the filling is cut off first.
        published_edge: also give ``published_pred``, the map of classes at that edge, 256 as published scores of the
            U-Nets were computed.
        size_key: original height and width.

    ``probability`` is float32 (H, W).

    Raises:
        FloatingPointError: naming the case, for a logit that is not finite.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        keep_aspect: bool = False,
        published_edge: int | None = None,
        size_key: str = "original_size",
    ):
        super().__init__(keys)
        self.keep_aspect, self.published_edge, self.size_key = keep_aspect, published_edge, size_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Logits to masks."""
        result = dict(data)
        size = torch.as_tensor(result[self.size_key]).flatten().tolist()
        for key in self.key_iterator(result):
            logits = torch.as_tensor(result[key]).float()
            if not torch.isfinite(logits).all():
                raise FloatingPointError(f"a prediction for {result['case']} is not finite; run in float32 or bfloat16")
            if self.published_edge is not None:
                result[PUBLISHED] = classes_of(resized(logits, [self.published_edge] * 2))[0]
            if self.keep_aspect:
                edge = logits.shape[-1]
                height, width = (max(1, round(edge * side / max(size))) for side in size)
                logits = logits[:, :height, :width]
            result[key], result[PROBABILITY] = classes_of(resized(logits, size))
        return result


def resized(logits: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Logits (C, h, w) resized bilinearly to (C, *size)."""
    if list(logits.shape[1:]) == list(size):
        return logits
    return F.interpolate(logits[None], tuple(size), mode="bilinear", align_corners=False)[0]


def classes_of(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Map of classes, int64 (H, W), and probability of the nodule, float32 (H, W), of logits (C, H, W)."""
    if len(logits) == 1:
        return (logits[0] > 0).long(), logits[0].sigmoid()
    return logits.argmax(dim=0), logits.softmax(dim=0)[1]
