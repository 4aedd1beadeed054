"""Dice over random validation patches, the quantity by which nnU-Net chooses its best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.handlers import from_engine

from custom_apps.common.distributed import sum_over_ranks
from custom_apps.seg.soft_dice import one_hot

if TYPE_CHECKING:
    from custom_apps.seg.prepared import PreparedDataset


class PseudoDice(Metric):
    """Dice of each class from counts over all patches of an epoch and all processes, and its moving average.

    It is no Dice of cases: patches are random, many of them centred on foreground. When an epoch is completed it
    writes to ``engine.state.metrics`` the moving average ``0.9 · old + 0.1 · new`` under the name it was attached by,
    the mean over classes as ``pseudo_dice``, and each class as ``pseudo_dice_<name>`` (NaN for a class that is in
    neither truth nor prediction; the mean leaves it out). Attach it as the key metric: the average chooses the model.

    Args:
        names: names of the foreground classes, or of the regions.
        regions: for each head the labels it stands for; None for one softmax over background and classes.
        ignore_label: voxels of this label do not count.
        decay: share of the old value in the moving average.
        output_transform: what takes predictions and labels out of the engine's output.

    Inputs are logits (B, K, *S) and labels (B, 1, *S), or lists of (K, *S) and (1, *S) as MONAI's engines make; of a
    list of outputs (deep supervision) the first counts. Source: nnU-Net, Isensee et al. 2021.
    """

    def __init__(
        self,
        names: Sequence[str],
        regions: Sequence[int | Sequence[int]] | None = None,
        ignore_label: int | None = None,
        decay: float = 0.9,
        output_transform: Callable[[Any], Any] = from_engine(["pred", "label"]),  # noqa: B008
    ):
        if regions is not None and len(regions) != len(names):
            raise ValueError(f"{len(names)} names for {len(regions)} regions")
        self.names, self.regions, self.ignore_label = list(names), regions, ignore_label
        self.decay, self.moving_average = decay, None
        super().__init__(output_transform, skip_unrolling=True)

    def reset(self) -> None:
        """Forgets the counts of the epoch, not the moving average."""
        self._counts = torch.zeros(3, len(self.names), dtype=torch.float64)

    def update(self, output: tuple[Any, Any]) -> None:
        """Adds true positives, false positives and false negatives of a batch."""
        predictions, labels = output
        if isinstance(labels, torch.Tensor):
            self._add(predictions if isinstance(predictions, torch.Tensor) else predictions[0], labels)
            return
        for prediction, label in zip(predictions, labels, strict=True):
            self._add((prediction if isinstance(prediction, torch.Tensor) else prediction[0])[None], label[None])

    def _add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        logits, labels = torch.as_tensor(logits.detach()), torch.as_tensor(labels).to(logits.device)
        heads = len(self.names) + (self.regions is None)
        if logits.shape[1] != heads:
            raise ValueError(f"predictions have {logits.shape[1]} channels, expected {heads}")
        counts = labels != self.ignore_label if self.ignore_label is not None else torch.ones_like(labels, dtype=bool)
        if self.regions is None:
            confusion = _confusion(logits.argmax(1, keepdim=True)[counts], labels[counts].long(), heads)
            true = confusion.diagonal()
            stacked = torch.stack([true, confusion.sum(0) - true, confusion.sum(1) - true])[:, 1:]
        else:
            predicted, members = (logits > 0) & counts, one_hot(labels, self.regions) & counts
            axes = [0, *range(2, logits.ndim)]
            pairs = [(predicted & members), (predicted & ~members), (~predicted & members)]
            stacked = torch.stack([pair.sum(axes) for pair in pairs])
        self._counts += stacked.cpu()

    def per_class(self) -> torch.Tensor:
        """Dice of each class over all processes, NaN where there is nothing to count. A collective call."""
        true, false_positive, false_negative = sum_over_ranks(self._counts)
        return 2 * true / (2 * true + false_positive + false_negative)

    def compute(self) -> float:
        """Mean over the classes that occur, NaN where none does."""
        return float(self.per_class().nanmean())

    def completed(self, engine: Engine, name: str) -> None:
        """Writes the values of the epoch; without any foreground the moving average stays (0 before the first)."""
        classes = self.per_class()
        mean = float(classes.nanmean())
        if not math.isnan(mean):
            old = mean if self.moving_average is None else self.moving_average
            self.moving_average = self.decay * old + (1 - self.decay) * mean
        engine.state.metrics[name] = self.moving_average or 0.0
        engine.state.metrics["pseudo_dice"] = mean
        for label, value in zip(self.names, classes.tolist(), strict=True):
            engine.state.metrics[f"pseudo_dice_{label}"] = value

    def state_dict(self) -> dict[str, Any]:
        """The moving average, so that a resumed run goes on from it."""
        return {"moving_average": self.moving_average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a stored moving average."""
        self.moving_average = state_dict["moving_average"]


def _confusion(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Counts (truth, prediction) of integer classes; an error names a label beyond the classes."""
    counted = torch.bincount(labels * classes + predicted, minlength=classes**2)
    if len(counted) != classes**2:
        raise ValueError(f"label {int(labels.max())} is beyond the {classes} classes of the network")
    return counted.view(classes, classes)


def pseudo_dice_for(prepared: PreparedDataset, decay: float = 0.9) -> PseudoDice:
    """The metric for the labels of a prepared data set, regions and ignore label included."""
    labels = prepared.labels
    if labels.has_regions:
        return PseudoDice(labels.names, labels.foreground_regions, labels.ignore_label, decay)
    return PseudoDice(labels.names[1:], None, labels.ignore_label, decay)
