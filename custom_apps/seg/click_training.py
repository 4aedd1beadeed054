"""Clicks in training: simulated in each augmented patch, padded in batches, handed to the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import default_prepare_batch
from monai.transforms import Randomizable, Transform
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from custom_apps.seg.augmentation import TrainingTransforms, ValidationTransforms
from custom_apps.seg.click_simulation import simulate_label_clicks
from custom_apps.seg.clicks import clickable_labels
from custom_apps.seg.labels import LabelManager

POINTS, POINT_LABELS = "click_points", "click_labels"
"""Keys of the network's clicks: coordinates in voxels (K, 3), and label of each (K,), label id minus 1."""

PADDING = -1
MOST_CLICKS = 10
NO_CLICK_PROBABILITY = 0.1
SMALLEST_VOXELS = 10


class SimulateClicksd(Randomizable, Transform):
    """Adds simulated clicks of the structures of a label map.

    Every structure of more than ten voxels gets 1 to 10 clicks, or with probability 0.1 none, so that the network
    learns to work without.

    Args:
        labels: of the data set; the foreground may be clicked.
        most_clicks: in a structure.
        no_click_probability: of each structure.
        smallest_voxels: structures of this size or smaller get no click.
        label_key: label map (1, *S).

    The result holds ``click_points`` float32 (K, axes), in voxels of the patch in array order, and ``click_labels``
    int64 (K,), label id minus 1. Source: U-Mamba2, arXiv 2509.12069.
    """

    def __init__(
        self,
        labels: LabelManager,
        most_clicks: int = MOST_CLICKS,
        no_click_probability: float = NO_CLICK_PROBABILITY,
        smallest_voxels: int = SMALLEST_VOXELS,
        label_key: str = "label",
    ):
        if most_clicks < 1 or not 0 <= no_click_probability <= 1:
            raise ValueError(
                f"expected most_clicks >= 1 and a probability, got {most_clicks} and {no_click_probability}"
            )
        self.ids, self.most_clicks = list(clickable_labels(labels).values()), most_clicks
        self.no_click_probability, self.smallest_voxels = no_click_probability, smallest_voxels
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Adds the two keys."""
        points, labels = simulate_label_clicks(
            torch.as_tensor(data[self.label_key])[0].numpy(),
            self.ids,
            self.R,
            (1, self.most_clicks),
            self.no_click_probability,
            self.smallest_voxels,
        )
        return dict(data) | {POINTS: torch.from_numpy(points).float(), POINT_LABELS: torch.from_numpy(labels - 1)}


class ClickTrainingTransforms(TrainingTransforms):
    """The chain of :class:`~custom_apps.seg.augmentation.TrainingTransforms`, then simulated clicks.

    Clicks are placed in the patch that the network sees, after mirroring, so that they carry the exchanged labels.

    Args:
        args, kwargs: of ``TrainingTransforms``.
        labels: see :class:`SimulateClicksd`, like the next two.
        most_clicks: in a structure.
        no_click_probability: of each structure.
    """

    def __init__(
        self,
        *args: Any,
        labels: LabelManager,
        most_clicks: int = MOST_CLICKS,
        no_click_probability: float = NO_CLICK_PROBABILITY,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.transforms = (*self.transforms, SimulateClicksd(labels, most_clicks, no_click_probability))


class ClickValidationTransforms(ValidationTransforms):
    """What validation patches go through, then simulated clicks; arguments of :class:`SimulateClicksd`."""

    def __init__(self, **clicks: Any):
        super().__init__()
        self.transforms = (*self.transforms, SimulateClicksd(**clicks))


def collate_clicks(items: Sequence[Mapping[Hashable, Any]]) -> dict[Hashable, Any]:
    """Batch of items whose numbers of clicks differ: the shorter lists are filled up with label -1.

    Returns:
        What PyTorch's collation makes of the other keys; ``click_points`` (B, K, 3) and ``click_labels`` (B, K), K the
        largest number of clicks in the batch.
    """
    clicks = (POINTS, POINT_LABELS)
    batch = default_collate([{key: value for key, value in item.items() if key not in clicks} for item in items])
    for key, padding in zip(clicks, (0, PADDING), strict=True):
        batch[key] = pad_sequence([item[key] for item in items], batch_first=True, padding_value=padding)
    return batch


def prepare_click_batch(
    batchdata: Mapping[Hashable, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs
) -> tuple[Any, Any, tuple, dict[str, Any]]:
    """What MONAI's engines hand on: image, label, and the clicks as keyword argument ``clicks`` of inferer and network.

    ``clicks`` is the pair of coordinates (B, K, 3) and labels (B, K); None where the batch has no click keys.
    """
    image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
    clicks = None
    if POINTS in batchdata:
        clicks = tuple(batchdata[key].to(device, non_blocking=non_blocking) for key in (POINTS, POINT_LABELS))
    return image, label, (), {"clicks": clicks}
