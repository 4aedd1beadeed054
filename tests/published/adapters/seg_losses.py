"""Losses and feature perturbation of U-Mamba and U-Mamba2."""

import re

import torch

from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.feature_perturbation import attention_map, perturb_features
from custom_apps.seg.losses import DiceCrossEntropyLoss
from custom_apps.seg.losses_semisupervised import ConsistencyLoss, pseudo_labels
from custom_apps.seg.losses_soft_targets import (
    SoftTargetDiceCrossEntropyLoss,
    soft_target_matrix,
    toothfairy3_relations,
)
from tests.published.vector import Vector, adapter, assert_gradient, assert_output


def _single_level(name: str, vector: Vector) -> torch.nn.Module:
    """The loss of one output that the name of a result stands for."""
    if match := re.fullmatch(r"dc_ce_batchdice([01])_smooth([0-9.e+-]+)", name):
        return DiceCrossEntropyLoss(batch_dice=match[1] == "1", smooth=float(match[2]))
    if name == "dc_ce_smooth_weighted":
        weights = vector.section("in")["ce_class_weight"]
        return SoftTargetDiceCrossEntropyLoss(len(weights), "toothfairy3", class_weights=weights.tolist())
    if match := re.fullmatch(r"pseudolabel_ignore(\d+)", name):
        return DiceCrossEntropyLoss(batch_dice=False, smooth=0.0, ignore_label=int(match[1]))
    raise AssertionError(f"no loss is known for {name}")


def _levels(given: dict[str, torch.Tensor], name: str) -> list[torch.Tensor]:
    return [given[f"{name}_{i}"] for i in range(len([key for key in given if re.fullmatch(rf"{name}_\d+", key)]))]


def _value(name: str, vector: Vector, logits: list[torch.Tensor]) -> torch.Tensor:
    given = vector.section("in")
    targets, teachers = _levels(given, "target"), _levels(given, "teacher_logits")
    weights = given["ds_weights"].tolist()
    if name == "consistency_softmax_mse":
        return ConsistencyLoss()(logits[0], teachers[0])
    if name == "consistency_deep_supervision":
        return DeepSupervisionLoss(ConsistencyLoss(), weights)(logits, teachers)
    if name == "dc_ce_deep_supervision":
        return DeepSupervisionLoss(DiceCrossEntropyLoss(batch_dice=True, smooth=1e-5), weights)(logits, targets)
    return _single_level(name, vector)(logits[0], targets[0])


@adapter(lambda vector: "compound_losses" in vector.source)
def check_losses(vector: Vector) -> None:
    gradients = vector.section("grad/in")
    for name, expected in vector.section("out").items():
        logits = [level.clone().requires_grad_() for level in _levels(vector.section("in"), "logits")]
        if name == "soft_target_matrix":
            assert_output(name, soft_target_matrix(len(expected), toothfairy3_relations()), expected, 1e-6)
        elif match := re.fullmatch(r"pseudo_label_from_(\d+)x_logits_0", name):
            assert_output(name, pseudo_labels(logits[0] * int(match[1])).to(expected.dtype), expected, 0)
        elif name == "pseudo_label_downsampled":
            whole = next(value for key, value in vector.section("out").items() if key.startswith("pseudo_label_from"))
            seen = []
            wrapper = DeepSupervisionLoss(
                lambda output, target, seen=seen: seen.append(target) or output.sum(), [1.0, 1.0], "nearest"
            )
            wrapper([torch.zeros(whole.shape), torch.zeros(expected.shape)], whole)
            assert_output(name, seen[1], expected, 0)
        else:
            value = _value(name, vector, logits)
            assert_output(name, value.reshape(expected.shape), expected, 1e-5)
            wanted = {key: grad for key, grad in gradients.items() if key.startswith(name + "/")}
            if wanted:
                value.backward()
            for key, grad in wanted.items():
                assert_gradient(key, logits[int(key.rsplit("_", 1)[1])].grad, grad, 1e-4)
    unknown = {key.split("/")[0] for key in gradients} - set(vector.section("out"))
    assert not unknown, f"gradients of unknown losses: {unknown}"


@adapter(lambda vector: "feature_perturbation" in vector.source)
def check_feature_perturbation(vector: Vector) -> None:
    given, expected = vector.section("in"), vector.section("out")
    assert set(expected) == {"attention", "y"}
    assert_output("attention", attention_map(given["x"]), expected["attention"], 1e-6)
    config = vector.config
    ours = perturb_features(
        given["x"], given["channel_keep_mask"], config["threshold_factor"], given["noise"], config["random_dropout_p"]
    )
    assert_output("y", ours, expected["y"], 1e-6)
