"""Training step of U-Mamba2-SSL: labeled batches as usual, others by consistency of two views or by pseudo labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom_apps.common.distributed import without_ddp
from custom_apps.common.nested import map_tensors
from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.feature_perturbation import FeaturePerturbation
from custom_apps.seg.losses import DiceCrossEntropyLoss, loss_for
from custom_apps.seg.losses_semisupervised import ConsistencyLoss, consistency_weight, pseudo_labels
from custom_apps.seg.training_engine import SegmentationTrainer

if TYPE_CHECKING:
    from custom_apps.seg.prepared import PreparedDataset

PARTS = {"labeled": "labeled_loss", "consistency": "consistency_loss", "pseudo_labels": "pseudo_label_loss"}
"""Method of a batch to the key of its loss in the trainer's output."""


@dataclass(frozen=True)
class Teaching:
    """What the network should learn from a batch.

    Attributes:
        method: a key of `PARTS`.
        target: label map (B, 1, *S), or the teacher's logits of the weak view, a list if the network returns one.
        weight: factor of the loss.
    """

    method: str
    target: torch.Tensor | list[torch.Tensor]
    weight: float = 1.0


class SemiSupervisedLoss(nn.Module):
    """The loss of a batch by what it teaches.

    Args:
        labeled: loss of logits and label maps.
        threshold: probability from which a pseudo label counts.

    Source: U-Mamba2-SSL, arXiv 2509.20154.
    """

    def __init__(self, labeled: nn.Module, threshold: float = 0.75):
        super().__init__()
        self.labeled, self.threshold = labeled, threshold
        self.consistency = DeepSupervisionLoss(ConsistencyLoss())
        pseudo = DiceCrossEntropyLoss(ignore_label=0, smooth=0.0)
        self.pseudo = DeepSupervisionLoss(pseudo, target_interpolation="nearest")

    def forward(self, logits: torch.Tensor | list[torch.Tensor], teaching: Teaching | torch.Tensor) -> torch.Tensor:
        """Computes the weighted loss; a plain label map is taught as in a labeled batch."""
        if isinstance(teaching, torch.Tensor):
            return self.labeled(logits, teaching)
        if teaching.method == "labeled":
            return self.labeled(logits, teaching.target)
        if teaching.method == "consistency":
            return teaching.weight * self.consistency(logits, teaching.target)
        weak = teaching.target[0] if isinstance(teaching.target, list) else teaching.target
        return teaching.weight * self.pseudo(logits, pseudo_labels(weak, self.threshold))


def semi_supervised_loss(prepared: PreparedDataset, threshold: float = 0.75) -> SemiSupervisedLoss:
    """The published losses for the labels of a prepared data set: Dice for each sample, without smoothing.

    Raises:
        ValueError: for regions, which overlap, so that their logits have no softmax.
    """
    if prepared.labels.has_regions:
        raise ValueError("semi-supervised training needs labels that exclude each other, not regions")
    return SemiSupervisedLoss(loss_for(prepared, smooth=0.0, batch_dice=False), threshold)


@contextmanager
def perturbed(network: nn.Module, perturbation: nn.Module) -> Iterator[None]:
    """Lets what the network's ``encoder`` returns, a list of skips, pass through a perturbation for a while.

    Args:
        network: U-Mamba or U-Mamba2, DistributedDataParallel or not.
        perturbation: see :class:`~custom_apps.seg.feature_perturbation.FeaturePerturbation`.
    """
    hook = without_ddp(network).encoder.register_forward_hook(lambda _module, _inputs, skips: perturbation(skips))
    try:
        yield
    finally:
        hook.remove()


class PerturbingInferer(Inferer):
    """Runs another inferer, on request with perturbed skips.

    Args:
        inferer: the other one.
        perturbation: of the skips.
    """

    def __init__(self, inferer: Inferer, perturbation: nn.Module):
        super().__init__()
        self.inferer, self.perturbation = inferer, perturbation

    def __call__(
        self, inputs: torch.Tensor, network: nn.Module, *args: Any, perturb: bool = False, **kwargs: Any
    ) -> Any:
        """Output of the network."""
        with perturbed(network, self.perturbation) if perturb else nullcontext():
            return self.inferer(inputs, network, *args, **kwargs)


class SemiSupervisedTrainer(SegmentationTrainer):
    """Trainer on the batches of :class:`~custom_apps.seg.semi_supervised_sampling.SemiSupervisedPatches`.

    A batch without labels has two views. The teacher, which is the network itself in training mode unless another is
    given, sees the weak one without gradient. The network sees the strong one; for consistency its skips are perturbed,
    for pseudo labels they are not. ``engine.state.output`` has the loss also under a key of `PARTS`.

    Args:
        args, kwargs: of :class:`SegmentationTrainer`; the loss is a :class:`SemiSupervisedLoss`.
        perturbation: of the skips; the published one when None.
        consistency: weight of the consistency loss after the ramp.
        rampup_share: length of the ramp as a share of all iterations: 0.2 in the second stage, 0.05 in the third.
        pseudo_label_weight: weight of the loss on pseudo labels.
        teacher: network that sees the weak view, such as a moving average of the weights.

    Source: U-Mamba2-SSL, arXiv 2509.20154. Deviations: the weak view is never changed by the strong transforms, and the
    losses of batches without labels are divided by the number of accumulated batches like any other.
    """

    def __init__(
        self,
        *args: Any,
        perturbation: FeaturePerturbation | None = None,
        consistency: float = 50.0,
        rampup_share: float = 0.2,
        pseudo_label_weight: float = 0.1,
        teacher: nn.Module | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.perturbation = perturbation or FeaturePerturbation()
        self.consistency, self.rampup_share = consistency, rampup_share
        self.pseudo_label_weight, self.teacher = pseudo_label_weight, teacher
        self.prepare_batch, self.inferer = self._teaching, PerturbingInferer(self.inferer, self.perturbation)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, self._note)

    def weight(self, method: str) -> float:
        """Factor of the loss of a batch in the current iteration."""
        if method == "labeled":
            return 1.0
        if method == "pseudo_labels":
            return self.pseudo_label_weight
        ramp = round(self.rampup_share * self.state.max_epochs * self.state.epoch_length)
        return consistency_weight(self.state.iteration - 1, ramp, self.consistency)

    def _note(self, engine: SemiSupervisedTrainer) -> None:
        """Files the loss under its method, and drops the teaching, which the engine could not take apart."""
        engine.state.output[PARTS[_method(engine.state.batch)]] = engine.state.output[Keys.LOSS]
        del engine.state.output[Keys.LABEL]

    def _teaching(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **to: Any,
    ) -> tuple[torch.Tensor, Teaching, tuple, dict[str, bool]]:
        method = _method(batch)
        given = {
            key: value.to(device=device, non_blocking=non_blocking, **to)
            for key, value in batch.items()
            if isinstance(value, torch.Tensor)
        }
        if method == "labeled":
            return given[Keys.IMAGE], Teaching(method, given[Keys.LABEL]), (), {}
        teaching = Teaching(method, self._teach(given["weak"]), self.weight(method))
        return given[Keys.IMAGE], teaching, (), {"perturb": method == "consistency"}

    @torch.no_grad()
    def _teach(self, weak: torch.Tensor) -> Any:
        student = without_ddp(self.network).train()
        teacher = student if self.teacher is None else self.teacher
        with torch.autocast(weak.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            logits = teacher(weak)
        return map_tensors(logits, torch.Tensor.float)


def _method(batch: Mapping[str, Any]) -> str:
    return batch["method"][0]
